"""MedNeXt: a U-Net of ConvNeXt blocks, whose large kernels work on each channel alone."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nnunet_triad.architectures.family import Family, NetworkPlan
from nnunet_triad.architectures.spec import EncoderSpec, Triple

if TYPE_CHECKING:
    from torch import Tensor, nn

_WIDTH = 32
_BLOCK = re.compile(r"(?:enc_stages\.(\d+)|bottleneck)\.(\d+)\.conv2\.weight")


@dataclass(frozen=True, kw_only=True)
class MedNeXtSpec(EncoderSpec):
    """A MedNeXt encoder: levels at /1, /2, /4, /8 and /16, the last one being the bottleneck."""

    family: str = "mednext"
    blocks: tuple[int, ...]  # a level
    expansions: tuple[int, ...]  # a level: channels within a block, relative to the block's
    kernel_size: int = 3


def mednext_spec(
    name: str, blocks: tuple[int, ...], expansions: tuple[int, ...], *, width: int = _WIDTH
) -> MedNeXtSpec:
    """Return the spec of a MedNeXt encoder, whose channels double from level to level."""
    num_levels = len(blocks)
    return MedNeXtSpec(
        name=name,
        channels=tuple(width * 2**level for level in range(num_levels)),
        strides=((1, 1, 1),) + ((2, 2, 2),) * (num_levels - 1),
        blocks=blocks,
        expansions=expansions,
    )


class MedNeXt(Family[MedNeXtSpec]):
    """MONAI's `MedNeXt`, on any 3D plan, with deep supervision at its own levels.

    Source: Roy et al., MICCAI 2023 (arXiv:2303.09975), sizes S, B, M and L with kernels of 3.
    Differs: takes any size, padded with zeros at the end of each axis to multiples of 16; AdamW at
        1e-3 as published, but with nnU-Net's schedule and this project's epochs; as in MONAI, a
        step down widens by the factor of the level above, the authors' by that of the level below.
    """

    name = "mednext"
    spec_class = MedNeXtSpec
    encoders = (
        mednext_spec("mednext_s", (2, 2, 2, 2, 2), (2, 2, 2, 2, 2)),
        mednext_spec("mednext_b", (2, 2, 2, 2, 2), (2, 3, 4, 4, 4)),
        mednext_spec("mednext_m", (3, 4, 4, 4, 4), (2, 3, 4, 4, 4)),
        mednext_spec("mednext_l", (3, 4, 8, 8, 8), (3, 4, 8, 8, 8)),
    )
    networks: ClassVar = {
        "MedNeXtS": "mednext_s",
        "MedNeXtB": "mednext_b",
        "MedNeXtM": "mednext_m",
        "MedNeXtL": "mednext_l",
    }
    stem_weight = "stem.weight"
    tensor_prefixes = ("stem.", "enc_stages.", "down_blocks.", "bottleneck.")
    can_permute_axes = True
    must_agree = ("blocks", "expansions", "kernel_size")
    registration_decoders = ("transmorph",)
    settings: ClassVar = {"initial_lr": 1e-3}
    recipe_fields: ClassVar = {"optimizer": "adamw"}
    finetuning = "ftadamw"  # a tenth of the rate from random values, by the same optimiser

    def build_encoder(
        self, spec: MedNeXtSpec, *, input_channels: int = 1, recompute: bool = False
    ) -> "nn.Module":
        """Build an encoder with random weights, of MONAI's modules by their names."""
        return _encoder(_whole(spec, input_channels=input_channels))

    def build_network(
        self,
        spec: MedNeXtSpec,
        *,
        input_channels: int,
        output_channels: int,
        plan: NetworkPlan | None = None,
        deep_supervision: bool = False,
        recompute: bool = False,
    ) -> "nn.Module":
        """Build a MedNeXt of `encoder` and `decoder`; coarser levels give logits where asked."""
        from nnunet_triad.architectures.assembled import Assembled

        whole = _whole(spec, input_channels=input_channels, output_channels=output_channels)
        names = ("up_blocks", "dec_stages", "out_0", "out_blocks")
        decoder = Assembled(
            {name: getattr(whole, name) for name in names},
            _decode,
            deep_supervision=deep_supervision,
        )
        parts = {"encoder": _encoder(whole), "decoder": decoder}
        return Assembled(parts, _segment, total_stride=spec.total_stride)

    def read_spec(
        self, tensors: "Mapping[str, Tensor]", arguments: Mapping[str, Any]
    ) -> MedNeXtSpec | None:
        """Read width, kernel, blocks and expansions off the second convolution of each block."""
        found: dict[int, dict[int, Tensor]] = {}
        for name, tensor in tensors.items():
            if match := _BLOCK.fullmatch(name):
                level = -1 if match[1] is None else int(match[1])
                found.setdefault(level, {})[int(match[2])] = tensor
        stages = sorted(level for level in found if level >= 0)
        kernel = tensors.get("enc_stages.0.0.conv1.weight")
        if self.stem_weight not in tensors:
            return None
        if -1 not in found or stages != list(range(len(stages))) or kernel is None:
            return None
        levels = [found[stage] for stage in (*stages, -1)]
        if any(0 not in blocks for blocks in levels) or kernel.ndim != 5:
            return None
        return MedNeXtSpec(
            name=self.name,
            channels=tuple(blocks[0].shape[1] for blocks in levels),
            strides=((1, 1, 1),) + ((2, 2, 2),) * len(stages),
            blocks=tuple(len(blocks) for blocks in levels),
            expansions=tuple(blocks[0].shape[0] // blocks[0].shape[1] for blocks in levels),
            kernel_size=kernel.shape[2],
        )

    def level_of(self, spec: MedNeXtSpec, name: str) -> int:
        """Return the level of a parameter; what leads down to a level belongs to it."""
        match = re.match(r"(enc_stages|down_blocks)\.(\d+)", name)
        if match:
            return int(match[2]) + (match[1] == "down_blocks")
        return len(spec.channels) - 1 if name.startswith("bottleneck") else 0

    def layer_of(self, spec: MedNeXtSpec, level: int) -> str:
        """Return the name of a level's blocks."""
        is_last = level == len(spec.channels) - 1
        return "bottleneck" if is_last else f"enc_stages.{level}"

    def output_strides(self, spec: MedNeXtSpec) -> tuple[Triple, ...]:
        """Return the strides between the levels, all of which give logits."""
        return spec.strides


def _whole(spec: MedNeXtSpec, *, input_channels: int, output_channels: int = 2) -> "nn.Module":
    """MONAI's network; the decoder mirrors the encoder, as its variants do."""
    from monai.networks.nets.mednext import MedNeXt as Whole

    *blocks, bottom_blocks = spec.blocks
    *expansions, bottom_expansion = spec.expansions
    return Whole(
        init_filters=spec.channels[0],
        in_channels=input_channels,
        out_channels=output_channels,
        encoder_expansion_ratio=expansions,
        decoder_expansion_ratio=expansions[::-1],
        bottleneck_expansion_ratio=bottom_expansion,
        kernel_size=spec.kernel_size,
        deep_supervision=True,
        use_residual_connection=True,
        blocks_down=blocks,
        blocks_bottleneck=bottom_blocks,
        blocks_up=blocks[::-1],
    )


def _encoder(whole: Any) -> "nn.Module":
    from nnunet_triad.architectures.assembled import Assembled

    names = ("stem", "enc_stages", "down_blocks", "bottleneck")
    return Assembled({name: getattr(whole, name) for name in names}, _encode)


def _encode(encoder: Any, image: "Tensor") -> "list[Tensor]":
    """Features at /1 to /16 of an image (b, c, x, y, z)."""
    feature, features = encoder.stem(image), []
    for stage, down in zip(encoder.enc_stages, encoder.down_blocks, strict=True):
        features.append(stage(feature))
        feature = down(features[-1])
    return [*features, encoder.bottleneck(feature)]


def _decode(decoder: Any, features: "list[Tensor]") -> "list[Tensor]":
    """Logits, fine to coarse; of the finest level alone without deep supervision."""
    *skips, feature = features
    outputs = []
    levels = zip(
        decoder.out_blocks, decoder.up_blocks, decoder.dec_stages, skips[::-1], strict=True
    )
    for out, up, stage, skip in levels:
        if decoder.deep_supervision:
            outputs.append(out(feature))
        feature = stage(up(feature) + skip)
    return [decoder.out_0(feature), *outputs[::-1]]


def _segment(network: Any, image: "Tensor") -> "Tensor | list[Tensor]":
    """Logits (b, classes, x, y, z) of an image of any size, or one such tensor a level."""
    from nnunet_triad.architectures.padding import pad_to_stride

    padded = pad_to_stride(image, network.total_stride)
    outputs = []
    for level, logits in enumerate(network.decoder(network.encoder(padded))):
        x, y, z = (
            max(round(size / 2**level), 1) for size in image.shape[2:]
        )  # as nnU-Net's targets
        outputs.append(logits[:, :, :x, :y, :z])
    return outputs if network.decoder.deep_supervision else outputs[0]
