"""The autoencoder of the pre-training: any encoder, and one decoder design for all of them.

Axes: b batch, c channels, x y z space, d channels of the coarsest feature.
"""

from itertools import pairwise
from typing import cast

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from nnunet_triad.architectures import EncoderSpec, build_encoder


class Decoder(nn.Module):
    """Turn the coarsest feature into a one-channel volume of the image's size.

    For each level, coarse to fine: 3x3x3 convolution, instance norm, leaky ReLU, trilinear
    upsampling by the encoder's stride; then a 1x1x1 convolution to one channel. No skip
    connections: all that the decoder knows went through the bottleneck.

    Source: section 4.1 of the paper ("an upsampling 3D CNN") and Figure 8, which is a picture
        only; the details are those of Swin UNETR's pre-training head (arXiv:2111.14791).
    Differs: the 1x1x1 convolution runs before the last upsampling. Both are linear and the
        weights of the interpolation add up to one, so they commute, and the largest tensor has
        one channel instead of up to 192.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        """Build the decoder that mirrors `spec`."""
        super().__init__()
        # A level at stride 1 has the size of the level above: nothing to upsample, no block.
        levels = [level for level, stride in enumerate(spec.strides) if max(stride) > 1][::-1]
        widths = [spec.channels[-1], *(spec.channels[max(level - 1, 0)] for level in levels)]
        self.strides = [[float(step) for step in spec.strides[level]] for level in levels]
        self.blocks = nn.ModuleList(_block(*pair) for pair in pairwise(widths))
        self.head = nn.Conv3d(widths[-1], 1, kernel_size=1)

    def forward(self, feature: Tensor) -> Tensor:
        """Decode (b, d, x/stride, y/stride, z/stride) to (b, 1, x, y, z)."""
        for index, (block, stride) in enumerate(zip(self.blocks, self.strides, strict=True)):
            feature = block(feature)
            if index == len(self.blocks) - 1:
                feature = self.head(feature)
            feature = F.interpolate(feature, scale_factor=stride, mode="trilinear")
        return feature


def _block(fan_in: int, fan_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(fan_in, fan_out, kernel_size=3, padding=1, bias=False),  # the norm cancels a bias
        nn.InstanceNorm3d(fan_out, affine=True),
        nn.LeakyReLU(inplace=True),
    )


class Autoencoder(nn.Module):
    """An encoder, a decoder, and the pooled bottleneck as the embedding of the image.

    Source: section 4.1 of the paper.

    Example:
        >>> model = Autoencoder(encoder_spec("swin_t"))
        >>> reconstruction, embedding = model(torch.zeros(2, 1, 64, 32, 32))
        >>> reconstruction.shape, embedding.shape
        (torch.Size([2, 1, 64, 32, 32]), torch.Size([2, 192]))
    """

    def __init__(self, spec: EncoderSpec, *, use_checkpoint: bool = False) -> None:
        """Build both halves with random weights.

        Args:
            spec: the encoder.
            use_checkpoint: recompute the encoder's activations in the backward pass (Swin only).
        """
        super().__init__()
        self.spec = spec
        self.encoder = build_encoder(spec, input_channels=1, use_checkpoint=use_checkpoint)
        self.decoder = Decoder(spec)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruct and embed a batch.

        Args:
            image: (b, 1, x, y, z), z-scored; sizes are multiples of the encoder's stride, and
                larger than it along one axis at least.

        Returns:
            The reconstruction (b, 1, x, y, z) and the embedding (b, d), the coarsest feature
            averaged over space.
        """
        bottleneck = cast(list[Tensor], self.encoder(image))[-1]
        return self.decoder(bottleneck), bottleneck.mean(dim=(2, 3, 4))
