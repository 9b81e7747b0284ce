"""nnU-Net's U-Net: stages of plain convolutions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nnunet_triad.architectures.convolutional import (
    ConvFamily,
    ConvSpec,
    isotropic_kernels,
    isotropic_strides,
    kernels_of,
    planned_strides,
    stage_weights,
)
from nnunet_triad.architectures.spec import Triple

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class PlainConvSpec(ConvSpec):
    """An encoder of plain convolutions."""

    family: str = "plainconv"
    convs_per_stage: int = 2


def plainconv_spec(
    name: str,
    channels: tuple[int, ...],
    *,
    strides: tuple[Triple, ...] | None = None,
    kernel_sizes: tuple[Triple, ...] | None = None,
    convs_per_stage: int = 2,
) -> PlainConvSpec:
    """Return the spec of a convolutional encoder; isotropic unless told otherwise."""
    return PlainConvSpec(
        name=name,
        channels=channels,
        strides=strides or isotropic_strides(len(channels)),
        kernel_sizes=kernel_sizes or isotropic_kernels(len(channels)),
        convs_per_stage=convs_per_stage,
    )


class PlainConv(ConvFamily[PlainConvSpec]):
    """dynamic-network-architectures' `PlainConvEncoder` and nnU-Net's `PlainConvUNet`."""

    name = "plainconv"
    spec_class = PlainConvSpec
    encoders = (
        plainconv_spec("unet", (32, 64, 128, 256, 320, 320)),
        # Ours, not the paper's: small enough to train on two CPU cores.
        plainconv_spec("unet_t", (16, 32, 64, 128, 160, 160)),
        # Its upper four levels, for crops of 32 voxels, of which all six would leave one.
        plainconv_spec("unet_4", (16, 32, 64, 128)),
    )
    networks: ClassVar = {"UNet": "unet", "UNetT": "unet_t"}
    planned_classes = ("PlainConvUNet",)
    network_class = "PlainConvUNet"
    stem_weight = "stages.0.0.convs.0.conv.weight"
    stem_module = "stages.0"
    num_decoder_convs = 2
    must_agree = ("convs_per_stage",)
    forgets_single_voxels = True  # the norm makes a voxel and one of padding plus and minus one

    def build_encoder(
        self, spec: PlainConvSpec, *, input_channels: int = 1, recompute: bool = False
    ) -> "nn.Module":
        """Build an encoder with random weights."""
        from dynamic_network_architectures.building_blocks.plain_conv_encoder import (
            PlainConvEncoder,
        )

        return PlainConvEncoder(**self.encoder_arguments(spec, input_channels))

    def depth_arguments(self, spec: PlainConvSpec) -> dict[str, Any]:
        """Return the number of convolutions of each stage."""
        return {"n_conv_per_stage": [spec.convs_per_stage] * len(spec.channels)}

    def read_spec(
        self, tensors: "Mapping[str, Tensor]", arguments: Mapping[str, Any]
    ) -> PlainConvSpec | None:
        """Read kernels and channels off the first convolution of each stage."""
        weights = stage_weights(tensors, "stages.{}.0.convs.0.conv.weight")
        if weights is None:
            return None
        convs = {n.split(".")[4] for n in tensors if n.startswith("stages.0.0.convs.")}
        return plainconv_spec(
            self.name,
            tuple(weight.shape[0] for weight in weights),
            strides=planned_strides(arguments, len(weights)),
            kernel_sizes=kernels_of(weights),
            convs_per_stage=len(convs),
        )
