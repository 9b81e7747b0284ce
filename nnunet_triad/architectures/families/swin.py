"""Swin UNETR, V1 and V2."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from nnunet_triad.architectures.family import Family, NetworkPlan
from nnunet_triad.architectures.spec import EncoderSpec, Triple

if TYPE_CHECKING:
    from torch import Tensor, nn

# Which neighbours MONAI's patch merging joins: before 1.5.0, and since.
Merging = Literal["old", "new"]
MERGINGS: tuple[Merging, ...] = ("old", "new")

# V2's convolution blocks, through which every feature passes.
_V2_BLOCKS = ("layers1c.", "layers2c.", "layers3c.", "layers4c.")
_GROUP_NORM = "layers1c.0.layer.norm1.weight"  # MONAI's instance norm there has no weights


@dataclass(frozen=True, kw_only=True)
class SwinSpec(EncoderSpec):
    """A Swin encoder with patch size 2: levels at /2, /4, /8, /16 and /32."""

    family: str = "swin"
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    window_size: int = 7
    use_v2: bool = True  # a residual convolution block before each level (Swin UNETR V2)
    group_norm: bool = False  # in V2's blocks, where MONAI has instance norm
    merging: Merging | None = "new"  # None: not known, computed as "new"


def swin_spec(
    name: str,
    feature_size: int,
    *,
    depths: tuple[int, ...] = (2, 2, 2, 2),
    num_heads: tuple[int, ...] = (3, 6, 12, 24),
    window_size: int = 7,
    use_v2: bool = True,
    group_norm: bool = False,
) -> SwinSpec:
    """Return the spec of a Swin encoder by its finest feature's channels."""
    num_levels = len(depths) + 1
    return SwinSpec(
        name=name,
        channels=tuple(feature_size * 2**level for level in range(num_levels)),
        strides=((2, 2, 2),) * num_levels,
        depths=depths,
        num_heads=num_heads,
        window_size=window_size,
        use_v2=use_v2,
        group_norm=group_norm,
    )


class Swin(Family[SwinSpec]):
    """MONAI's `SwinTransformer` and `SwinUNETR`, without deep supervision, on any 3D plan.

    Source: the paper, sections 4.2.2 and 4.3.2 and Table 3.
    """

    name = "swin"
    spec_class = SwinSpec
    encoders = (
        swin_spec("swin_t", 12, num_heads=(1, 2, 4, 8), window_size=4),
        swin_spec("swin_b", 48),
        swin_spec("swin_l", 96),
        swin_spec("swin_h", 192),
        # V2 with group norm, as UMBRA (FOMO26) has it: less sensitive to what is masked
        swin_spec("swin_t_gn", 12, num_heads=(1, 2, 4, 8), window_size=4, group_norm=True),
        swin_spec("swin_b_gn", 48, group_norm=True),
        # Not the paper's: what SuPreM, Swin UNETR's authors and nnssl publish weights for,
        swin_spec("swin_b_v1", 48, use_v2=False),
        # and BrainSegFounder's Small and Big (arXiv:2406.10395), of 64 M and 70 M parameters,
        # and the same of twice the width. MONAI refuses widths that 12 does not divide.
        swin_spec("swin_b_v1_d6", 48, depths=(2, 2, 6, 2), use_v2=False),
        swin_spec("swin_b_v1_d18", 48, depths=(2, 2, 18, 2), use_v2=False),
        swin_spec("swin_l_v1", 96, use_v2=False),
        swin_spec("swin_l_v1_d6", 96, depths=(2, 2, 6, 2), use_v2=False),
    )
    networks: ClassVar = {
        "SwinT": "swin_t",
        "SwinB": "swin_b",
        "SwinL": "swin_l",
        "SwinH": "swin_h",
        "SwinTGN": "swin_t_gn",
        "SwinBGN": "swin_b_gn",
        "SwinBv1": "swin_b_v1",
        "SwinBv1D6": "swin_b_v1_d6",
        "SwinBv1D18": "swin_b_v1_d18",
        "SwinLv1": "swin_l_v1",
        "SwinLv1D6": "swin_l_v1_d6",
    }
    stem_weight = "patch_embed.proj.weight"
    embedding = "patch_embed"
    tensor_prefixes = ("patch_embed.", "layers")
    encoder_attribute = "swinViT"
    registration_decoders = ("transmorph", "swinunetr")
    has_deep_supervision = False
    epochs = 150
    pretraining_rate = 1e-6
    can_recompute = True
    # At the paper's rate several pre-trained ones ended far below scratch (docs/evidence).
    pretrained_encoder_rate = 0.1
    min_bottleneck_voxels = 1
    must_agree = ("use_v2", "group_norm", "depths", "num_heads", "window_size")
    finetuning = "ftadamw"

    def build_encoder(
        self, spec: SwinSpec, *, input_channels: int = 1, recompute: bool = False
    ) -> "nn.Module":
        """Build an encoder with random weights."""
        from monai.networks.nets.swin_unetr import SwinTransformer

        from nnunet_triad.architectures.swin_encoder import PatchMerging, as_swin_encoder

        transformer = SwinTransformer(
            in_chans=input_channels,
            embed_dim=spec.feature_size,
            window_size=(spec.window_size,) * 3,
            patch_size=spec.strides[0],
            depths=spec.depths,
            num_heads=spec.num_heads,
            use_checkpoint=recompute,
            spatial_dims=3,
            downsample=PatchMerging,
            use_v2=spec.use_v2,
        )
        return as_swin_encoder(transformer, spec)

    def build_network(
        self,
        spec: SwinSpec,
        *,
        input_channels: int,
        output_channels: int,
        plan: NetworkPlan | None = None,
        deep_supervision: bool = False,
        recompute: bool = False,
    ) -> "nn.Module":
        """Build a Swin UNETR, which holds the encoder as `swinViT`; it has one output."""
        from nnunet_triad.architectures.swin_unetr import PaddedSwinUNETR

        return PaddedSwinUNETR(
            spec,
            in_channels=input_channels,
            out_channels=output_channels,
            use_checkpoint=recompute,
        )

    def set_recompute(self, network: "nn.Module", recompute: bool) -> None:
        """Let MONAI's transformer blocks recompute."""
        from monai.networks.nets.swin_unetr import SwinTransformerBlock

        for module in network.modules():
            if isinstance(module, SwinTransformerBlock):
                module.use_checkpoint = recompute

    def read_spec(
        self, tensors: "Mapping[str, Tensor]", arguments: Mapping[str, Any]
    ) -> SwinSpec | None:
        """Read depths, heads and window off the tables of relative positions."""
        tables = {
            tuple(int(part) for part in match.groups()): tensor
            for name, tensor in tensors.items()
            if (match := re.fullmatch(r"layers(\d)\.0\.blocks\.(\d+)\..*bias_table", name))
        }
        levels = sorted({level for level, _ in tables})
        is_whole = levels and all((level, 0) in tables for level in levels)
        if not is_whole or self.stem_weight not in tensors:
            return None
        rows, _ = tables[levels[0], 0].shape
        return swin_spec(
            self.name,
            tensors[self.stem_weight].shape[0],
            depths=tuple(sum(level == other for other, _ in tables) for level in levels),
            num_heads=tuple(tables[level, 0].shape[1] for level in levels),
            window_size=(round(rows ** (1 / 3)) + 1) // 2,
            use_v2=any(name.startswith(_V2_BLOCKS[0]) for name in tensors),
            group_norm=_GROUP_NORM in tensors,
        )

    def level_of(self, spec: SwinSpec, name: str) -> int:
        """Return the level of a parameter; the patch embedding's is the finest."""
        match = re.match(r"layers(\d+)", name)
        return int(match[1]) if match else 0

    def block_of(self, spec: SwinSpec, name: str) -> int:
        """Return the place of a parameter's transformer block, 0 for the patch embedding.

        Source: SimMIM's `get_swin_layer`, where a patch merging counts with the block before it.
        Differs: V2's convolution block counts with what is before it, too.
        """
        match = re.match(r"layers(\d+)(c?)\.\d+\.(?:blocks\.(\d+))?", name)
        if match is None:
            return 0
        stage = int(match[1])
        before = sum(spec.depths[: stage - 1])
        if match[3] is not None:
            return before + int(match[3]) + 1
        return before if match[2] else before + spec.depths[stage - 1]

    def set_drop_path(self, spec: SwinSpec, network: Any, rate: float) -> None:
        """Drop residual branches in training, as MONAI's `dropout_path_rate`."""
        from nnunet_triad.architectures.swin_encoder import set_drop_path

        set_drop_path(getattr(network, self.encoder_attribute), rate)

    def layer_of(self, spec: SwinSpec, level: int) -> str:
        """Return the name of a level's transformer blocks."""
        return f"layers{level}.0" if level else "patch_embed"

    def title(self, spec: SwinSpec) -> str:
        """Return the name with the version."""
        version = f"{self.name} {'V2' if spec.use_v2 else 'V1'}"
        return f"{version} with group norm" if spec.group_norm else version

    def assume(self, spec: SwinSpec, *, merging: Merging | None) -> SwinSpec:
        """Return the spec with the patch merging of its weights' publisher."""
        return replace(spec, merging=merging)

    def compute_as(self, encoder: Any, spec: SwinSpec, order: Triple) -> None:
        """Merge as the weights' publisher did, and permute the image on its way in."""
        encoder.compute_as(merging=spec.merging or "new", order=order)

    def read_conventions(self, spec: SwinSpec, values: "Tensor") -> tuple[SwinSpec, Triple]:
        """Read the order of axes and the patch merging; see `SwinEncoder`."""
        merging, order = parse_conventions(values)
        return replace(spec, merging=merging), order


def parse_conventions(values: "Tensor") -> tuple[Merging, Triple]:
    """Return what the buffer of a `SwinEncoder` says: the patch merging, and the order of axes.

    Raises:
        ValueError: it says something else.
    """
    numbers: list[int] = values.flatten().tolist()
    if sorted(numbers[:3]) != [0, 1, 2] or numbers[3:] not in ([0], [1]):
        raise ValueError(
            f"conventions: expected an order of 0, 1 and 2, then 0 or 1, got {numbers}"
        )
    i, j, k, merging = numbers
    return MERGINGS[merging], (i, j, k)
