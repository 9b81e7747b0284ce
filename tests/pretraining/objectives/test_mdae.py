"""Noise, shares from 1 to 99 %, and two errors."""

import numpy as np
import pytest
import torch

from pretraining.objectives.mdae import Mdae
from pretraining.training import compute_losses


def test_loss_is_the_sum_of_both_mean_squared_errors(start):
    training, (batch,) = start(objective_name="mdae", batch_size=3)
    hidden = torch.from_numpy(np.kron(batch["is_hidden"].numpy(), np.ones((1, 16, 16, 16), bool)))
    image, noise = batch["image"], batch["noise"]

    losses = compute_losses(training, batch)

    seen = (image + noise) * ~hidden[:, None]
    error = (training.model.decoder(training.model.encoder(seen)) - image).square()[:, 0]
    pairs = list(zip(error, hidden, strict=True))
    filled = torch.stack([e[h].mean() for e, h in pairs]).mean()
    denoised = torch.stack([e[~h].mean() for e, h in pairs]).mean()
    torch.testing.assert_close(losses["hidden"], filled, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses["seen"], denoised, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses["loss"], filled + denoised, rtol=1e-4, atol=1e-5)


def test_noise_has_a_deviation_from_0_to_1_and_shares_are_from_1_to_99_percent():
    image = torch.zeros(1, 64, 64, 64)

    views = [Mdae().views(image, np.random.default_rng(k)) for k in range(100)]

    deviations = torch.stack([view["noise"].std() for view in views])
    assert 0 < deviations.min() < 0.05 and 0.95 < deviations.max() < 1.01
    assert deviations.mean() == pytest.approx(0.5, abs=0.09)  # 3 standard errors
    shares = torch.stack([view["is_hidden"].float().mean() for view in views])
    assert shares.min() <= 0.05 and shares.max() >= 0.95
    assert shares.mean() == pytest.approx(0.5, abs=0.09)
    assert image.abs().max() == 0


def test_views_follow_from_the_generator_alone():
    image = torch.randn(1, 32, 32, 16)

    first, again, other = (Mdae().views(image, np.random.default_rng(k)) for k in (5, 5, 6))

    for name in ("is_hidden", "noise"):
        assert torch.equal(first[name], again[name])
    assert not torch.equal(first["noise"], other["noise"])
