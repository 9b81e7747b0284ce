"""Masks of cubic blocks."""

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
    is_masked = np.zeros(np.prod(grid), dtype=bool)
    is_masked[random.permutation(is_masked.size)[: round(ratio * is_masked.size)]] = True
    return torch.from_numpy(is_masked.reshape(grid))


def mask_blocks(image: Tensor, is_masked: Tensor) -> Tensor:
    """Set the masked blocks of a batch to zero, the mean after the z-score.

    Args:
        image: (b, 1, x, y, z).
        is_masked: (b, x/block, y/block, z/block), booleans.
    """
    for axis in (1, 2, 3):
        block = image.shape[axis + 1] // is_masked.shape[axis]
        is_masked = is_masked.repeat_interleave(block, dim=axis)
    return image.masked_fill(is_masked[:, None], 0)
