"""The decoder of images: one design for all encoders.

Axes: b batch, x y z space, d channels of the coarsest feature.
"""

from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from nnunet_triad.architectures import EncoderSpec


class Decoder(nn.Module):
    """Turn the coarsest feature into a one-channel volume of the image's size.

    For each level, coarse to fine: 3x3x3 convolution, instance norm, leaky ReLU, trilinear
    upsampling by the encoder's stride; then a 1x1x1 convolution to one channel.

    Without skip connections, as in the paper, all that the decoder knows went through the
    bottleneck. With them each convolution sees the encoder's feature of its level, too: then the
    fine features need not carry what is coarse, which is how a segmentation network will use
    them. Only a masked input makes that a task: an image that is seen could be copied.

    Source: section 4.1 of the paper ("an upsampling 3D CNN") and Figure 8, which is a picture
        only; the details are those of Swin UNETR's pre-training head (arXiv:2111.14791). Skip
        connections in a masked autoencoder: SparK (arXiv:2301.03580), OpenMind (arXiv:2412.17041).
    Differs: the 1x1x1 convolution runs before the last upsampling. Both are linear and the
        weights of the interpolation add up to one, so they commute, and the largest tensor has
        one channel instead of up to 192.
    """

    def __init__(self, spec: EncoderSpec, *, has_skips: bool = False, width: float = 1.0) -> None:
        """Build the decoder that mirrors `spec`.

        Args:
            spec: the encoder.
            has_skips: use the encoder's finer features.
            width: channels of each level, relative to the encoder's.
        """
        super().__init__()
        # A level at stride 1 has the size of the level above: nothing to upsample, no block.
        levels = [level for level, stride in enumerate(spec.strides) if max(stride) > 1][::-1]
        mirrored = [spec.channels[max(level - 1, 0)] for level in levels]
        widths = [spec.channels[-1], *(max(1, round(width * channels)) for channels in mirrored)]
        self.strides = [[float(step) for step in spec.strides[level]] for level in levels]
        # The feature that joins before each block; the first block has the coarsest to itself.
        finer = [level - 1 for level in levels]
        self.skips = [None, *finer[:-1]] if has_skips else [None] * len(levels)
        joined = [0 if level is None else spec.channels[level] for level in self.skips]
        self.blocks = nn.ModuleList(
            _block(fan_in + extra, fan_out)
            for (fan_in, fan_out), extra in zip(pairwise(widths), joined, strict=True)
        )
        # The image's own size: encoders without a feature there have nothing to join.
        self.finest: nn.Module | None = None
        self.finest_level = finer[-1]
        if has_skips and self.finest_level >= 0:
            self.finest = _block(widths[-1] + spec.channels[self.finest_level], widths[-1])
        self.head = nn.Conv3d(widths[-1], 1, kernel_size=1)
        # of the features that are used
        joined_levels = [level for level in self.skips if level is not None]
        finest = [] if self.finest is None else [self.finest_level]
        self.levels = sorted({len(spec.channels) - 1, *joined_levels, *finest})

    def forward(self, features: list[Tensor]) -> Tensor:
        """Decode an encoder's features to an image.

        Args:
            features: fine to coarse; without skip connections only the last, (b, d, x/stride,
                y/stride, z/stride), is used.

        Returns:
            (b, 1, x, y, z).
        """
        decoded = features[-1]
        levels = zip(self.blocks, self.strides, self.skips, strict=True)
        for index, (block, stride, skip) in enumerate(levels):
            if skip is not None:
                decoded = torch.cat([decoded, features[skip]], dim=1)
            decoded = block(decoded)
            if index == len(self.blocks) - 1 and self.finest is None:
                decoded = self.head(decoded)
            decoded = F.interpolate(decoded, scale_factor=stride, mode="trilinear")
        if self.finest is None:
            return decoded
        return cast(
            Tensor, self.head(self.finest(torch.cat([decoded, features[self.finest_level]], dim=1)))
        )


def _block(fan_in: int, fan_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(fan_in, fan_out, kernel_size=3, padding=1, bias=False),  # the norm cancels a bias
        nn.InstanceNorm3d(fan_out, affine=True),
        nn.LeakyReLU(inplace=True),
    )
