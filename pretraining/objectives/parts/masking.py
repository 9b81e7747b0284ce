"""Masks of cubic blocks."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def draw_mask(
    random: np.random.Generator, *, size: Sequence[int], block: int, ratio: float
) -> Tensor:
    """Draw which blocks are masked: exactly round(ratio x number of blocks) of them.

    Args:
        random: draws one permutation of the blocks.
        size: voxels of the image, x y z.
        block: voxels along each edge of a block.
        ratio: share of the blocks, 0 to 1.

    Returns:
        (x/block, y/block, z/block), booleans; True is masked.
    """
    grid = [length // block for length in size]
    return draw_blocks(random, grid=grid, count=round(ratio * math.prod(grid)))


def draw_blocks(random: np.random.Generator, *, grid: Sequence[int], count: int) -> Tensor:
    """Draw `count` blocks of a grid by one permutation; booleans of its shape, True is drawn."""
    is_drawn = np.zeros(math.prod(grid), dtype=bool)
    is_drawn[random.permutation(is_drawn.size)[:count]] = True
    return torch.from_numpy(is_drawn.reshape(grid))


def spread_blocks(blocks: Tensor, size: Sequence[int]) -> Tensor:
    """Give each voxel, or cell, the value of its block.

    Args:
        blocks: (b, blocks along x, y, z).
        size: x y z, multiples of the number of blocks.

    Returns:
        (b, 1, x, y, z).
    """
    for axis, length in enumerate(size, 1):
        blocks = blocks.repeat_interleave(length // blocks.shape[axis], dim=axis)
    return blocks[:, None]


def mask_blocks(image: Tensor, is_masked: Tensor) -> Tensor:
    """Set the masked blocks of a batch to zero, the mean after the z-score.

    Args:
        image: (b, 1, x, y, z).
        is_masked: (b, x/block, y/block, z/block), booleans.
    """
    return image.masked_fill(spread_blocks(is_masked, image.shape[2:]), 0)
