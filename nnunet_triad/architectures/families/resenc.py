"""nnU-Net's residual encoder U-Net."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from nnunet_triad.architectures.convolutional import (
    UNETS,
    ConvFamily,
    ConvSpec,
    isotropic_kernels,
    isotropic_strides,
    kernels_of,
    planned_strides,
    stage_weights,
)
from nnunet_triad.architectures.family import NetworkPlan
from nnunet_triad.architectures.spec import Triple

if TYPE_CHECKING:
    from torch import Tensor, nn

_BLOCKS = (1, 3, 4, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6)  # of nnU-Net's ResEnc planners


@dataclass(frozen=True, kw_only=True)
class ResEncSpec(ConvSpec):
    """An encoder of residual blocks."""

    family: str = "resenc"
    blocks_per_stage: tuple[int, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.blocks_per_stage) != len(self.channels):
            raise ValueError(
                f"blocks_per_stage: expected one number for each of {len(self.channels)} levels, "
                f"got {len(self.blocks_per_stage)}"
            )


def resenc_spec(
    name: str,
    channels: tuple[int, ...] = (32, 64, 128, 256, 320, 320),
    *,
    blocks_per_stage: tuple[int, ...] = _BLOCKS[:6],
    strides: tuple[Triple, ...] | None = None,
    kernel_sizes: tuple[Triple, ...] | None = None,
) -> ResEncSpec:
    """Return the spec of a residual encoder; isotropic unless told otherwise.

    Source: "nnU-Net Revisited" (Isensee et al., MICCAI 2024): the defaults are the encoder of the
    M and L presets, which differ in patch and batch size alone.
    """
    return ResEncSpec(
        name=name,
        channels=channels,
        strides=strides or isotropic_strides(len(channels)),
        kernel_sizes=kernel_sizes or isotropic_kernels(len(channels)),
        blocks_per_stage=blocks_per_stage,
    )


class ResEnc(ConvFamily[ResEncSpec]):
    """dynamic-network-architectures' `ResidualEncoder` and nnU-Net's `ResidualEncoderUNet`.

    Of the ResEnc planners' plans it is the planned network; of the default planner's, a network
    of the same stages, kernels and strides with residual blocks. M and L differ in the planned
    patch and batch alone.
    """

    name = "resenc"
    spec_class = ResEncSpec
    encoders = (resenc_spec("resenc"),)
    networks: ClassVar = {"ResEncM": "resenc", "ResEncL": "resenc"}
    planned_classes = ("ResidualEncoderUNet", "PlainConvUNet")
    network_class = "ResidualEncoderUNet"
    stem_weight = "stem.convs.0.conv.weight"
    stem_module = "stem"
    num_decoder_convs = 1
    must_agree = ("blocks_per_stage",)

    def build_encoder(
        self, spec: ResEncSpec, *, input_channels: int = 1, recompute: bool = False
    ) -> "nn.Module":
        """Build an encoder with random weights."""
        from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder

        return ResidualEncoder(**self.encoder_arguments(spec, input_channels))

    def own_plan(self, spec: ResEncSpec, plan: NetworkPlan) -> NetworkPlan:
        """Return the plan with residual blocks, where it is the default planner's."""
        return replace(
            plan,
            class_path=UNETS + self.network_class,
            arguments=residual_arguments(plan.arguments),
        )

    def depth_arguments(self, spec: ResEncSpec) -> dict[str, Any]:
        """Return the number of residual blocks of each stage."""
        return {"n_blocks_per_stage": list(spec.blocks_per_stage)}

    def read_spec(
        self, tensors: "Mapping[str, Tensor]", arguments: Mapping[str, Any]
    ) -> ResEncSpec | None:
        """Read kernels, channels and blocks off each stage."""
        weights = stage_weights(tensors, "stages.{}.blocks.0.conv1.conv.weight")
        if weights is None or self.stem_weight not in tensors:
            return None
        blocks = [
            {name.split(".")[3] for name in tensors if name.startswith(f"stages.{stage}.blocks.")}
            for stage in range(len(weights))
        ]
        return resenc_spec(
            self.name,
            tuple(weight.shape[0] for weight in weights),
            blocks_per_stage=tuple(map(len, blocks)),
            strides=planned_strides(arguments, len(weights)),
            kernel_sizes=kernels_of(weights),
        )


def residual_arguments(planned: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the residual network with a planned network's stages.

    Args:
        planned: `arch_kwargs` of a PlainConvUNet, or of a ResidualEncoderUNet, which come back.
    """
    if "n_blocks_per_stage" in planned:
        return dict(planned)
    arguments = {name: value for name, value in planned.items() if name != "n_conv_per_stage"}
    stages = planned["n_stages"]
    return {
        **arguments,
        "n_blocks_per_stage": _BLOCKS[:stages],
        "n_conv_per_stage_decoder": (1,) * (stages - 1),
    }
