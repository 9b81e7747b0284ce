"""The paper's losses, and what its options change."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from nnunet_triad.errors import UserError
from pretraining.objectives.paper import Paper
from pretraining.objectives.parts.l1_loss import l1_at_scales
from pretraining.objectives.parts.log_ratio_loss import log_ratio_loss
from pretraining.training import compute_losses, train_step


def test_loss_is_l1_and_a_share_of_the_log_ratio(start):
    training, (batch,) = start(batch_size=3, log_ratio_weight=0.25, reconstruction_weight=2.0)

    losses = compute_losses(training, batch)

    features = training.model.encoder(batch["image"])
    l1 = (training.model.decoder(features) - batch["image"]).abs().mean()
    texts = training.data.texts(batch["volume"])
    log_ratio = log_ratio_loss(features[-1].flatten(2).mean(2), texts)
    torch.testing.assert_close(losses["l1"], l1)
    torch.testing.assert_close(losses["log_ratio"], log_ratio)
    torch.testing.assert_close(losses["loss"], 2 * l1 + 0.25 * log_ratio)


def test_loss_without_the_log_ratio_needs_no_texts(start):
    training, (batch,) = start(log_ratio_weight=0.0)

    losses = compute_losses(training, batch)

    assert set(losses) == {"loss", "l1"}
    assert not training.settings.objective.needs_texts
    assert start()[0].settings.objective.needs_texts


def test_loss_over_scales_reports_the_l1_of_the_image_itself(start):
    training, (batch,) = start(log_ratio_weight=0.0, reconstruction_scales=3)

    losses = compute_losses(training, batch)

    reconstruction = training.model(batch)["reconstruction"]
    torch.testing.assert_close(losses["l1"], F.l1_loss(reconstruction, batch["image"]))
    expected = l1_at_scales(reconstruction, batch["image"], num_scales=3).mean()
    torch.testing.assert_close(losses["loss"], expected)
    assert losses["loss"] < losses["l1"]


def test_step_without_reconstruction_still_trains_the_encoder(start):
    training, (batch,) = start(batch_size=3, reconstruction_weight=0.0, weight_decay=0.0)
    before = {name: value.clone() for name, value in training.model.state_dict().items()}

    train_step(training, batch)

    after = training.model.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"encoder"}


def test_crop_must_hold_whole_masked_blocks():
    Paper().check_crop_size((64, 44, 36))

    with pytest.raises(UserError, match=r"crop_size: expected multiples of the 8 voxels of a mask"):
        Paper(mask_ratio=0.5).check_crop_size((64, 44, 36))
