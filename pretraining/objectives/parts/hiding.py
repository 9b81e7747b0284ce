"""What stands in the place of what is hidden, in the image and in an encoder's features.

Axes: b batch, c channels, x y z space.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from nnunet_triad.architectures import EncoderSpec
from pretraining.objectives.parts.masking import spread_blocks

_EPS = 1e-5  # of PyTorch's instance norm


def learnt_token(channels: int) -> nn.Parameter:
    """Return (1, c, 1, 1, 1), normally distributed with a deviation of 0.02.

    Source: `trunc_normal_` as Triad's script and SimMIM call it.
    """
    token = nn.Parameter(torch.zeros(1, channels, 1, 1, 1))
    nn.init.trunc_normal_(token, std=0.02)
    return token


class HiddenVoxel(nn.Module):
    """Replaces the hidden voxels of an image by one learnt value.

    Source: `UNetEncoderForMAE._apply_image_mask` of Triad's script.
    """

    def __init__(self) -> None:
        super().__init__()
        self.token = learnt_token(1)

    def forward(self, image: Tensor, is_hidden: Tensor) -> Tensor:
        """Return the image (b, 1, x, y, z) with the value where `is_hidden` (b, 1, x, y, z)."""
        return torch.where(is_hidden, self.token.to(image.dtype), image)


class HiddenToken(nn.Module):
    """Replaces the hidden tokens behind an encoder's patch embedding by a learnt one.

    The encoder stays as it is: a hook on its embedding does it, while `is_hidden` is set. So
    names, weights file, and what the encoder computes outside a training step stay the same.

    Source: SimMIM (arXiv:2111.09886), and `SwinTransformerSkipForSimMIM` of Triad's script.
    """

    is_hidden: Tensor | None

    def __init__(self, channels: int) -> None:
        """Make a token of so many channels."""
        super().__init__()
        self.token = learnt_token(channels)
        self.is_hidden = None  # (b, blocks along x, y, z), booleans

    def attach(self, embedding: nn.Module) -> None:
        """Work on the output (b, c, x, y, z) of an encoder's embedding from now on."""
        embedding.register_forward_hook(self._replace)

    def _replace(self, embedding: nn.Module, inputs: Any, tokens: Tensor) -> Tensor:
        if self.is_hidden is None:
            return tokens
        is_hidden = spread_blocks(self.is_hidden, tokens.shape[2:])
        return torch.where(is_hidden, self.token.to(tokens.dtype), tokens)


class Densify(nn.Module):
    """Fills the hidden cells of an encoder's features with a learnt token a level.

    At each level whose cells are no larger than a hidden block: instance norm over the cells that
    are seen, the token where they are hidden, and, but at the finest level, a 3x3x3 convolution.
    Coarser levels stay as they are.

    Source: SparK (arXiv:2301.03580), as nnssl's `SparK3D` builds it.
    Differs: the encoder before it is dense.
    """

    def __init__(self, spec: EncoderSpec, *, block: Sequence[int], levels: Sequence[int]) -> None:
        """Make the layers.

        Args:
            spec: of the encoder.
            block: voxels of a hidden block along x, y, z.
            levels: those that the decoder looks at.
        """
        super().__init__()
        fitting = [level for level in levels if _fits(block, spec.strides[: level + 1])]
        self.tokens = nn.ParameterDict({str(i): learnt_token(spec.channels[i]) for i in fitting})
        self.convolutions = nn.ModuleDict(
            {
                str(i): nn.Conv3d(spec.channels[i], spec.channels[i], kernel_size=3, padding=1)
                for i in fitting
                if i > 0
            }
        )

    def forward(self, features: list[Tensor], is_hidden: Tensor) -> list[Tensor]:
        """Return the features, fine to coarse, with the hidden cells filled.

        Args:
            features: each (b, c, x, y, z).
            is_hidden: (b, blocks along x, y, z), booleans.
        """
        filled = list(features)
        for name, token in self.tokens.items():
            feature = features[int(name)]
            hidden = spread_blocks(is_hidden, feature.shape[2:])
            feature = torch.where(hidden, token.to(feature.dtype), seen_norm(feature, ~hidden))
            if name in self.convolutions:
                feature = self.convolutions[name](feature)
            filled[int(name)] = feature
        return filled


def _fits(block: Sequence[int], strides: Sequence[Sequence[int]]) -> bool:
    """Whether a block is made of whole cells of a level, given the strides down to it."""
    cell = [prod(axis) for axis in zip(*strides, strict=True)]
    return all(size % one == 0 for size, one in zip(block, cell, strict=True))


def seen_norm(feature: Tensor, is_seen: Tensor) -> Tensor:
    """Normalise each channel of each image by the cells that are seen.

    Args:
        feature: (b, c, x, y, z).
        is_seen: (b, 1, x, y, z), booleans, at least one an image.
    """
    space = (2, 3, 4)
    seen = is_seen.to(torch.float32)
    values = feature.float()
    count = seen.sum(space, keepdim=True)
    mean = (values * seen).sum(space, keepdim=True) / count
    variance = ((values - mean).square() * seen).sum(space, keepdim=True) / count
    return ((values - mean) * (variance + _EPS).rsqrt()).to(feature.dtype)
