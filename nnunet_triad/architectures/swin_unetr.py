"""Swin UNETR, V1 and V2, that takes an image of any size."""

from typing import Any

from monai.networks.nets.swin_unetr import SwinUNETR
from torch import Tensor

from nnunet_triad.architectures.families.swin import SwinSpec
from nnunet_triad.architectures.padding import pad_to_stride
from nnunet_triad.architectures.swin_encoder import PatchMerging, as_swin_encoder


class SwinUnetr(SwinUNETR):
    """MONAI's Swin UNETR on an encoder that computes as its spec says."""

    def __init__(self, spec: SwinSpec, **arguments: Any) -> None:
        """Build it with random weights; `arguments` are MONAI's that do not follow from `spec`."""
        super().__init__(
            patch_size=spec.strides[0][0],
            depths=spec.depths,
            num_heads=spec.num_heads,
            window_size=spec.window_size,
            feature_size=spec.feature_size,
            use_v2=spec.use_v2,
            downsample=PatchMerging,  # type: ignore[arg-type]  # MONAI means a class
            **arguments,
        )
        as_swin_encoder(self.swinViT, spec)


class PaddedSwinUNETR(SwinUnetr):
    """MONAI's Swin UNETR, with padding before and cropping after it.

    Parameter names and, for sizes that MONAI takes, outputs are MONAI's own. Other sizes are
    padded with zeros at the end of each axis to multiples of 32, and further on the first axis
    where the coarsest feature would be a single voxel, on which instance norm is undefined.

    Source: SwinUNETR-V2 (He et al., MICCAI 2023), MONAI's implementation.
    Differs: takes any size.
    """

    is_faster_channels_last = True  # on a CPU; see accelerate_on_cpu

    def __init__(self, spec: SwinSpec, **arguments: Any) -> None:
        """Build it with random weights; see `SwinUnetr`."""
        super().__init__(spec, **arguments)
        self.total_stride = spec.total_stride

    def _check_input_size(self, spatial_shape: Any) -> None:
        """Take any size: MONAI's check breaks a compiled graph, and padding has done its work."""

    def forward(self, x_in: Tensor) -> Tensor:
        """Segment an image.

        Args:
            x_in: (b, c, x, y, z), any size.

        Returns:
            Logits (b, classes, x, y, z).
        """
        sizes = x_in.shape[2:]
        logits = super().forward(pad_to_stride(x_in, self.total_stride))
        x, y, z = sizes
        return logits[:, :, :x, :y, :z]
