import numpy as np
import pytest
import torch

from pretraining.objectives.parts.masking import draw_mask, mask_blocks


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.6])
@pytest.mark.parametrize("block", [8, 16])
def test_draw_mask_masks_exactly_the_share_of_blocks(ratio, block):
    masks = [
        draw_mask(np.random.default_rng(k), size=(64, 32, 96), block=block, ratio=ratio)
        for k in range(3)
    ]

    grid = (64 // block, 32 // block, 96 // block)
    assert masks[0].shape == grid
    assert {mask.sum().item() for mask in masks} == {round(ratio * np.prod(grid))}
    assert ratio == 0 or not torch.equal(masks[0], masks[1])


def test_mask_blocks_zeroes_the_voxels_of_masked_blocks_only():
    image = torch.rand(2, 1, 16, 8, 24) + 1
    is_masked = torch.zeros(2, 2, 1, 3, dtype=torch.bool)
    is_masked[1, 0, 0, 2] = True

    result = mask_blocks(image, is_masked)

    expected = image.clone()
    expected[1, :, :8, :, 16:] = 0
    assert torch.equal(result, expected)
