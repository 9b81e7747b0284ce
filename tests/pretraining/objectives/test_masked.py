"""What is masked, and what the loss makes of it."""

import numpy as np
import pytest
import torch

from pretraining.objectives.masked import Masked
from pretraining.training import compute_losses


def naive_masked_l1(network, batch):
    """Set each masked block to zero, one by one; compare each voxel with the whole image."""
    seen = batch["image"].clone()
    for index in np.argwhere(batch["is_masked"].numpy()):
        sample, x, y, z = (int(one) for one in index)
        for axis_x in range(8):
            for axis_y in range(8):
                place = (slice(8 * z, 8 * z + 8),)
                seen[sample, 0, 8 * x + axis_x, 8 * y + axis_y, place[0]] = 0
    difference = network.decoder(network.encoder(seen)) - batch["image"]
    return difference.abs().double().sum() / difference.numel()


@pytest.mark.parametrize("ratio", [0.25, 0.6])
def test_loss_equals_a_loop_over_the_masked_blocks(start, ratio):
    training, (batch,) = start(objective_name="masked", mask_ratio=ratio, log_ratio_weight=0.0)

    losses = compute_losses(training, batch)

    expected = naive_masked_l1(training.model, batch)
    torch.testing.assert_close(losses["l1"].double(), expected, rtol=1e-6, atol=0)
    assert torch.equal(losses["loss"], losses["l1"])


def test_views_mask_60_percent_of_the_blocks_of_the_crop():
    image = torch.zeros(1, 32, 16, 48)

    views = [Masked().views(image, np.random.default_rng(seed)) for seed in (0, 0, 1)]

    masks = [view["is_masked"] for view in views]
    assert masks[0].shape == (4, 2, 6)
    assert masks[0].sum() == round(0.6 * 4 * 2 * 6)
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])


def test_views_without_masking_draw_nothing():
    assert Masked(mask_ratio=0.0).views(torch.zeros(1, 32, 16, 48), np.random.default_rng(0)) == {}


def test_defaults_differ_from_the_papers_in_mask_and_skips_only():
    from pretraining.objectives.paper import Paper

    paper, masked = Paper().to_dict(), Masked().to_dict()

    assert {key for key in paper if paper[key] != masked[key]} == {"mask_ratio", "has_skips"}
