"""Cells of the bottleneck, and their features; nnssl's formulas, written down here."""

import math

import numpy as np
import pytest
import torch

from nnunet_triad.architectures import encoder_spec
from nnunet_triad.errors import UserError
from pretraining.objectives.spark import Spark
from pretraining.settings import PretrainSettings
from pretraining.training import compute_losses, make_optimizer

SIZE = (64, 32, 32)


def spread(blocks, size):
    """`repeat_interleave` along each axis, as nnssl's `_get_active_ex_or_ii`."""
    blocks = blocks[:, None]
    for axis, length in enumerate(size, 2):
        blocks = blocks.repeat_interleave(length // blocks.shape[axis], dim=axis)
    return blocks


def densify_by_hand(head, features, is_hidden):
    """`SparK3D.forward`: instance norm of the visible values, token, then a convolution."""
    filled = []
    for level, feature in enumerate(features):
        if str(level) not in head.tokens:
            filled.append(feature)
            continue
        hidden = spread(is_hidden, feature.shape[2:])[:, 0]
        token = head.tokens[str(level)].flatten()
        images = []
        for image, mask in zip(feature, hidden, strict=True):
            dense = token[:, None, None, None].expand_as(image).clone()
            seen = image[:, ~mask]  # c, values
            if seen.shape[1] > 1:
                norm = torch.nn.InstanceNorm1d(len(seen))
                dense[:, ~mask] = norm(seen[None])[0]
            else:
                dense[:, ~mask] = 0
            images.append(dense)
        dense = torch.stack(images)
        filled.append(dense if level == 0 else head.convolutions[str(level)](dense))
    return filled


@pytest.mark.parametrize("encoder", ["unet_t", "swin_t"])
def test_loss_is_the_squared_error_of_densified_features_where_hidden(start, encoder):
    options = {"mask_block": (16, 16, 16)}  # so that the coarsest level is not densified
    training, (batch,) = start(objective_name="spark", encoder=encoder, batch_size=2, **options)
    model = training.model
    hidden = spread(batch["is_hidden"], SIZE)

    losses = compute_losses(training, batch)

    features = model.encoder(batch["image"] * ~hidden)
    filled = densify_by_hand(model.densify, features, batch["is_hidden"])
    assert len(filled) - len(model.densify.tokens) == 1
    error = (model.decoder(filled) - batch["image"]) ** 2
    expected = torch.stack([e[h].mean() for e, h in zip(error, hidden, strict=True)]).mean()
    torch.testing.assert_close(losses["loss"], expected, rtol=1e-4, atol=1e-5)
    assert training.model.decoder.finest is not None or encoder == "swin_t"  # it has skips


def test_blocks_are_cells_of_the_deepest_level():
    for name, edge in (("unet_t", 32), ("swin_t", 32), ("primus_m", 8), ("mednext_s", 16)):
        assert Spark().for_encoder(encoder_spec(name)).mask_block == (edge,) * 3


def test_every_level_has_a_token_of_cells_as_large_as_the_bottlenecks():
    objective = Spark().for_encoder(encoder_spec("unet_t"))
    head = objective.heads(encoder_spec("unet_t"))["densify"]

    assert {name: token.shape[1] for name, token in head.tokens.items()} == {
        **{"0": 16, "1": 32, "2": 64, "3": 128, "4": 160, "5": 160}
    }


def test_share_is_drawn_evenly_from_60_to_90_percent():
    objective = Spark(mask_block=(8, 8, 8))
    image = torch.zeros(1, 64, 64, 64)

    shares = [
        objective.views(image, np.random.default_rng(k))["is_hidden"].float().mean().item()
        for k in range(200)
    ]

    assert 0.6 - 1 / 512 <= min(shares) < 0.61 and 0.89 < max(shares) <= 0.9
    assert abs(np.mean(shares) - 0.75) < 3 * 0.3 / math.sqrt(12 * 200)


def test_one_block_at_least_is_hidden_and_one_is_seen():
    counts = {
        int(
            Spark(mask_block=(32, 32, 32), mask_ratio=ratio, mask_ratio_high=None)
            .views(torch.zeros(1, 64, 32, 32), np.random.default_rng(0))["is_hidden"]
            .sum()
        )
        for ratio in (0.01, 0.99)
    }
    assert counts == {1}


def test_optimizer_is_nnssls_of_the_kind_of_network(start):
    settings = PretrainSettings(encoder="unet_t", objective_name="spark", steps=1000)
    training, _ = start(0, objective_name="spark", encoder="unet_t")

    (group,) = make_optimizer(training.model, settings).param_groups

    found = (group["lr"], group["momentum"], group["nesterov"], group["weight_decay"])
    assert found == (1e-2, 0.99, True, 3e-5)
    assert (settings.warmup_steps, settings.gradient_clip) == (0, 12)
    transformer = PretrainSettings(encoder="swin_t", objective_name="spark", steps=1000)
    assert (transformer.optimizer, transformer.learning_rate) == ("adamw", 3e-4)
    assert (transformer.betas, transformer.weight_decay) == ((0.9, 0.98), 0.05)
    assert (transformer.warmup_steps, transformer.gradient_clip) == (50, 1)
    assert settings.rate_decay == transformer.rate_decay == "polynomial"


def test_the_users_settings_go_before_the_objectives():
    settings = PretrainSettings(objective_name="spark", encoder="unet_t", learning_rate=0.5)

    assert (settings.learning_rate, settings.optimizer) == (0.5, "sgd")


def test_highest_share_below_the_lowest_is_refused():
    with pytest.raises(
        UserError, match=r"mask_ratio_high: expected 0\.95, the mask ratio, or more"
    ):
        Spark(mask_ratio=0.95)
