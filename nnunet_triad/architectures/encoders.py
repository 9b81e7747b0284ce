"""Encoders from their specs; modules and parameter names are those of the libraries."""

from typing import Any

from dynamic_network_architectures.building_blocks.plain_conv_encoder import PlainConvEncoder
from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder
from monai.networks.nets.swin_unetr import SwinTransformer
from torch import nn

from nnunet_triad.architectures.spec import EncoderSpec


def build_encoder(
    spec: EncoderSpec, *, input_channels: int = 1, use_checkpoint: bool = False
) -> nn.Module:
    """Build an encoder with random weights.

    Called on an image (b, c, x, y, z) it returns a list of features, fine to coarse, with
    `spec.channels` channels each.

    Args:
        spec: which encoder.
        input_channels: c of the image.
        use_checkpoint: recompute activations in the backward pass to save memory (Swin only).

    Returns:
        MONAI's `SwinTransformer`, or dynamic-network-architectures' `PlainConvEncoder` or
        `ResidualEncoder`: published checkpoints load by name.
    """
    if spec.family == "swin":
        return _build_swin(spec, input_channels, use_checkpoint)
    if spec.family == "resenc":
        return ResidualEncoder(
            n_blocks_per_stage=spec.blocks_per_stage, **_conv_arguments(spec, input_channels)
        )
    return PlainConvEncoder(
        n_conv_per_stage=spec.convs_per_stage, **_conv_arguments(spec, input_channels)
    )


def _build_swin(spec: EncoderSpec, input_channels: int, use_checkpoint: bool) -> nn.Module:
    return SwinTransformer(
        in_chans=input_channels,
        embed_dim=spec.feature_size,
        window_size=(spec.window_size,) * 3,
        patch_size=spec.strides[0],
        depths=spec.depths,
        num_heads=spec.num_heads,
        use_checkpoint=use_checkpoint,
        spatial_dims=3,
        use_v2=spec.use_v2,
    )


def _conv_arguments(spec: EncoderSpec, input_channels: int) -> dict[str, Any]:
    """nnU-Net's choices: instance norm with affine, leaky ReLU, a bias in each convolution."""
    return {
        "input_channels": input_channels,
        "n_stages": len(spec.channels),
        "features_per_stage": spec.channels,
        "conv_op": nn.Conv3d,
        "kernel_sizes": [list(kernel) for kernel in spec.kernel_sizes],
        "strides": [list(stride) for stride in spec.strides],
        "conv_bias": True,
        "norm_op": nn.InstanceNorm3d,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
        "return_skips": True,
    }
