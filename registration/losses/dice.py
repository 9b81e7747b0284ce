"""Soft Dice of warped label maps."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from registration.losses import Loss, WarpedPair
from registration.settings import RegistrationSettings
from registration.spatial import warp

EPSILON = 1e-5


def warped_dice_loss(
    moving_labels: Tensor, fixed_labels: Tensor, displacement: Tensor, *, classes: Sequence[int]
) -> Tensor:
    """Return one minus the mean soft Dice of the linearly warped one-hot labels.

    Source: TransMorph's OASIS training: classes 0 (background) to 35, squared denominators, 1e-5
    below.
    Differs: one class is warped at a time and again in the backward pass, so that 36 one-hot
    volumes are never held.

    Args:
        moving_labels: (b, 1, x, y, z), whole numbers.
        fixed_labels: the same shape.
        displacement: (b, 3, x, y, z), voxels.
        classes: label values, the background among them if it shall count.

    Returns:
        A scalar from 0 to 1.
    """
    scores = [
        checkpoint(
            _soft_dice, moving_labels, fixed_labels, displacement, label, use_reentrant=False
        )
        for label in classes
    ]
    return 1 - torch.stack(scores).mean()


def _soft_dice(
    moving_labels: Tensor, fixed_labels: Tensor, displacement: Tensor, label: int
) -> Tensor:
    """Return the soft Dice of one class, averaged over the batch."""
    dtype = torch.promote_types(displacement.dtype, torch.float32)
    with torch.autocast(displacement.device.type, enabled=False):
        warped = warp((moving_labels == label).to(dtype), displacement)
        truth = (fixed_labels == label).to(dtype)
        axes = (1, 2, 3, 4)
        overlap = 2 * (warped * truth).sum(axes)
        total = warped.square().sum(axes) + truth.sum(axes)
        return (overlap / (total + EPSILON)).mean()


def _compute(pair: WarpedPair, settings: RegistrationSettings) -> Tensor:
    assert pair.moving_labels is not None and pair.fixed_labels is not None
    device = pair.displacement.device
    moving, fixed = (
        labels.to(device, non_blocking=True) for labels in (pair.moving_labels, pair.fixed_labels)
    )
    return warped_dice_loss(moving, fixed, pair.displacement, classes=pair.classes)


LOSS = Loss(
    name="dice_loss",
    kind="labels",
    compute=_compute,
    option="dice_weight",
)
