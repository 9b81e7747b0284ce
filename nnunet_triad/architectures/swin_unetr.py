"""Swin UNETR, V1 and V2, that takes an image of any size."""

from typing import Any

from monai.networks.nets.swin_unetr import SwinUNETR
from torch import Tensor
from torch.nn import functional

from nnunet_triad.architectures.cpu.channels_last import (
    in_fastest_layout,
    prepare_for_channels_last,
)
from nnunet_triad.architectures.spec import EncoderSpec


class PaddedSwinUNETR(SwinUNETR):
    """MONAI's Swin UNETR, with padding before and cropping after it.

    Parameter names and, for sizes that MONAI takes, outputs are MONAI's own. Other sizes are
    padded with zeros at the end of each axis to multiples of 32, and further on the first axis
    where the coarsest feature would be a single voxel, on which instance norm is undefined.

    Source: SwinUNETR-V2 (He et al., MICCAI 2023), MONAI's implementation.
    Differs: takes any size; on a CPU the convolutions compute channels last, and in training
    with fewer multiplications, which is faster.
    """

    def __init__(self, *args: Any, total_stride: tuple[int, int, int], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.total_stride = total_stride
        prepare_for_channels_last(self)

    def forward(self, x_in: Tensor) -> Tensor:
        """Segment an image.

        Args:
            x_in: (b, c, x, y, z), any size.

        Returns:
            Logits (b, classes, x, y, z).
        """
        sizes = x_in.shape[2:]
        image = in_fastest_layout(pad_to_stride(x_in, self.total_stride))
        logits = super().forward(image)
        x, y, z = sizes
        return logits[:, :, :x, :y, :z]


def pad_to_stride(image: Tensor, stride: tuple[int, int, int]) -> Tensor:
    """Pad with zeros at the end of each axis to multiples of `stride`, at least two in all.

    Args:
        image: (b, c, x, y, z).
        stride: the encoder's total stride, voxels.

    Returns:
        (b, c, x', y', z') whose coarsest feature has at least two voxels; `image` itself when
        that is so already.
    """
    missing = [-size % step for size, step in zip(image.shape[2:], stride, strict=True)]
    padded = [size + pad for size, pad in zip(image.shape[2:], missing, strict=True)]
    if all(size == step for size, step in zip(padded, stride, strict=True)):
        missing[0] += stride[0]
    if not any(missing):
        return image
    x, y, z = missing
    return functional.pad(image, (0, z, 0, y, 0, x))


def build_swin_unetr(
    spec: EncoderSpec, *, input_channels: int, output_channels: int, use_checkpoint: bool = False
) -> PaddedSwinUNETR:
    """Build a Swin UNETR with random weights on the encoder that `spec` describes.

    Args:
        spec: a Swin encoder; the network holds it as `swinViT`.
        input_channels: channels of the image.
        output_channels: channels of the logits.
        use_checkpoint: recompute activations in the backward pass to save memory.

    Raises:
        ValueError: the spec is not of a Swin encoder.
    """
    if spec.family != "swin":
        raise ValueError(f"spec: expected a swin encoder, got {spec.name} ({spec.family})")
    return PaddedSwinUNETR(
        in_channels=input_channels,
        out_channels=output_channels,
        patch_size=spec.strides[0][0],
        depths=spec.depths,
        num_heads=spec.num_heads,
        window_size=spec.window_size,
        feature_size=spec.feature_size,
        use_checkpoint=use_checkpoint,
        use_v2=spec.use_v2,
        total_stride=spec.total_stride,
    )
