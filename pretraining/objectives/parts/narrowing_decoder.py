"""The decoder of Triad's released script.

Axes: b batch, x y z space, d channels of the coarsest feature.
"""

from itertools import pairwise

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from nnunet_triad.architectures import EncoderSpec

_NARROWEST = 16  # part of the channels that the last blocks have


class NarrowingDecoder(nn.Module):
    """Turn the coarsest feature alone into a one-channel volume of the image's size.

    For each halving of the encoder: 3x3x3 convolution to half of the channels, at last a
    sixteenth; instance norm without weights; leaky ReLU; trilinear upsampling by two. Then a
    1x1x1 convolution to one channel.

    Source: `SimMIMSkip_light` of Triad's script (commit e499a4b), whose five blocks an encoder of
        stride 32 has; before it, for their U-Net, `z_proj` and `z_adapter`.
    Differs: the convolutions have no bias, as the norm behind them takes it away. The 1x1x1
        convolution runs before the last upsampling, which gives the same.
    """

    def __init__(self, spec: EncoderSpec, *, channels: int = 0) -> None:
        """Build the decoder of an encoder.

        Args:
            spec: the encoder.
            channels: where it begins, behind two 1x1x1 convolutions; 0: the encoder's coarsest.
        """
        super().__init__()
        coarsest = spec.channels[-1]
        self.entry = nn.Sequential()
        if channels > 0:
            self.entry.append(nn.Conv3d(coarsest, coarsest, kernel_size=1))
            self.entry.append(nn.Conv3d(coarsest, channels, kernel_size=1))
        first = channels or coarsest
        self.steps = halvings(spec.total_stride)
        parts = [min(2**place, _NARROWEST) for place in range(len(self.steps) + 1)]
        widths = [max(1, first // part) for part in parts]
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv3d(fan_in, fan_out, kernel_size=3, padding=1, bias=False),
                nn.InstanceNorm3d(fan_out),
                nn.LeakyReLU(),
            )
            for fan_in, fan_out in pairwise(widths)
        )
        self.head = nn.Conv3d(widths[-1], 1, kernel_size=1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Decode an encoder's features, of which only the last one, (b, d, ...), is used.

        Returns:
            (b, 1, x, y, z).
        """
        decoded: Tensor = self.entry(features[-1])
        *finer, last = zip(self.blocks, self.steps, strict=True)
        for block, step in finer:
            decoded = F.interpolate(block(decoded), scale_factor=step, mode="trilinear")
        block, step = last
        return F.interpolate(self.head(block(decoded)), scale_factor=step, mode="trilinear")


def halvings(stride: tuple[int, ...]) -> list[list[float]]:
    """Split a stride along x, y, z into steps of two, an axis that is done has steps of one.

    Raises:
        ValueError: the stride is no power of two.
    """
    left, steps = list(stride), []
    while max(left) > 1:
        step = [2 if axis > 1 else 1 for axis in left]
        if any(axis % one for axis, one in zip(left, step, strict=True)):
            raise ValueError(f"stride: expected powers of two, got {stride}")
        left = [axis // one for axis, one in zip(left, step, strict=True)]
        steps.append([float(one) for one in step])
    return steps
