"""The encoders as data: all that other code needs to know of an encoder."""

import re
from dataclasses import asdict, dataclass
from math import prod
from typing import Any, Literal

from nnunet_triad.errors import UserError

Triple = tuple[int, int, int]
FAMILIES = ("plainconv", "resenc", "swin")


@dataclass(frozen=True, kw_only=True)
class EncoderSpec:
    """What an encoder is, without building it.

    The encoder returns one feature a level, fine to coarse: level i has `channels[i]` channels,
    and its grid is coarser by `strides[i]` than that of level i-1 (level 0: than the image).
    """

    name: str
    family: Literal["plainconv", "resenc", "swin"]
    channels: tuple[int, ...]
    strides: tuple[Triple, ...]
    # plainconv and resenc: a kernel a stage
    kernel_sizes: tuple[Triple, ...] = ()
    # plainconv only: the number of convolutions in each stage
    convs_per_stage: int = 2
    # resenc only: the number of residual blocks of each stage
    blocks_per_stage: tuple[int, ...] = ()
    # swin only
    depths: tuple[int, ...] = ()
    num_heads: tuple[int, ...] = ()
    window_size: int = 7
    use_v2: bool = True  # a residual convolution block before each level (Swin UNETR V2)

    def __post_init__(self) -> None:
        if len(self.channels) != len(self.strides):
            raise ValueError(
                f"strides: expected one for each of {len(self.channels)} levels, "
                f"got {len(self.strides)}"
            )
        if self.family not in FAMILIES:
            raise ValueError(f"family: expected one of {FAMILIES}, got {self.family!r}")
        if self.family == "resenc" and len(self.blocks_per_stage) != len(self.channels):
            raise ValueError(
                f"blocks_per_stage: expected one number for each of {len(self.channels)} levels, "
                f"got {len(self.blocks_per_stage)}"
            )

    @property
    def total_stride(self) -> Triple:
        """The factor a axis between the image and the coarsest feature."""
        x, y, z = (prod(axis) for axis in zip(*self.strides, strict=True))
        return x, y, z

    @property
    def feature_size(self) -> int:
        """Channels of the finest feature (Table 3 of the paper: 48, 96 or 192 for Swin)."""
        return self.channels[0]

    @property
    def stem_weight(self) -> str:
        """Name of the one tensor whose shape follows from the number of input channels."""
        return _STEM_WEIGHTS[self.family]

    def level_of(self, name: str) -> int:
        """Return the level (0: the finest) that a parameter of the encoder belongs to.

        Args:
            name: as the encoder's `named_parameters` has it.
        """
        match = re.match(r"(?:stages\.|layers)(\d+)", name)
        return int(match[1]) if match else 0

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-able values; `from_dict` is the inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "EncoderSpec":
        """Build a spec from `to_dict`'s values, lists allowed where tuples were.

        Raises:
            TypeError: a field is unknown or missing.
        """
        return cls(**{name: _as_tuples(value) for name, value in fields.items()})


_STEM_WEIGHTS = {
    "plainconv": "stages.0.0.convs.0.conv.weight",
    "resenc": "stem.convs.0.conv.weight",
    "swin": "patch_embed.proj.weight",
}


def _as_tuples(value: Any) -> Any:
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def plainconv_spec(
    name: str,
    channels: tuple[int, ...],
    *,
    strides: tuple[Triple, ...] | None = None,
    kernel_sizes: tuple[Triple, ...] | None = None,
    convs_per_stage: int = 2,
) -> EncoderSpec:
    """Return the spec of a convolutional encoder; isotropic unless told otherwise."""
    num_stages = len(channels)
    return EncoderSpec(
        name=name,
        family="plainconv",
        channels=channels,
        strides=strides or ((1, 1, 1),) + ((2, 2, 2),) * (num_stages - 1),
        kernel_sizes=kernel_sizes or ((3, 3, 3),) * num_stages,
        convs_per_stage=convs_per_stage,
    )


def resenc_spec(
    name: str,
    channels: tuple[int, ...] = (32, 64, 128, 256, 320, 320),
    *,
    blocks_per_stage: tuple[int, ...] = (1, 3, 4, 6, 6, 6),
    strides: tuple[Triple, ...] | None = None,
    kernel_sizes: tuple[Triple, ...] | None = None,
) -> EncoderSpec:
    """Return the spec of a residual encoder; isotropic unless told otherwise.

    Source: "nnU-Net Revisited" (Isensee et al., MICCAI 2024): the defaults are the encoder of the
    M and L presets, which differ in patch and batch size alone.
    """
    num_stages = len(channels)
    return EncoderSpec(
        name=name,
        family="resenc",
        channels=channels,
        strides=strides or ((1, 1, 1),) + ((2, 2, 2),) * (num_stages - 1),
        kernel_sizes=kernel_sizes or ((3, 3, 3),) * num_stages,
        blocks_per_stage=blocks_per_stage,
    )


def swin_spec(
    name: str,
    feature_size: int,
    *,
    depths: tuple[int, ...] = (2, 2, 2, 2),
    num_heads: tuple[int, ...] = (3, 6, 12, 24),
    window_size: int = 7,
    use_v2: bool = True,
) -> EncoderSpec:
    """Return the spec of a Swin encoder with patch size 2: levels at /2, /4, /8, /16 and /32."""
    num_levels = len(depths) + 1
    return EncoderSpec(
        name=name,
        family="swin",
        channels=tuple(feature_size * 2**level for level in range(num_levels)),
        strides=((2, 2, 2),) * num_levels,
        depths=depths,
        num_heads=num_heads,
        window_size=window_size,
        use_v2=use_v2,
    )


ENCODERS: dict[str, EncoderSpec] = {
    spec.name: spec
    for spec in (
        plainconv_spec("unet", (32, 64, 128, 256, 320, 320)),
        # Ours, not the paper's: small enough to train on two CPU cores.
        plainconv_spec("unet_t", (16, 32, 64, 128, 160, 160)),
        swin_spec("swin_t", 12, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), window_size=4),
        swin_spec("swin_b", 48),
        swin_spec("swin_l", 96),
        swin_spec("swin_h", 192),
        # Not the paper's: what SuPreM, Swin UNETR's authors and nnssl publish weights for.
        swin_spec("swin_b_v1", 48, use_v2=False),
        resenc_spec("resenc"),
    )
}


def encoder_spec(name: str) -> EncoderSpec:
    """Return the encoder of that name.

    Raises:
        UserError: there is none.
    """
    if name not in ENCODERS:
        raise UserError(f"encoder: expected one of {', '.join(ENCODERS)}, got {name!r}")
    return ENCODERS[name]
