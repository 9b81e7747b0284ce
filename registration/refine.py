"""Instance optimisation: a few gradient steps on the field of one pair."""

import torch
from torch import Tensor

from registration.losses.gradient import gradient_loss
from registration.losses.lncc import WINDOW, lncc_loss
from registration.networks import RegistrationNetwork
from registration.spatial import warp

LEARNING_RATE = 0.1  # voxels a step, Adam


def refine_field(
    network: RegistrationNetwork,
    field: Tensor,
    *,
    moving: Tensor,
    fixed: Tensor,
    num_steps: int,
    gradient_weight: float = 1.0,
    lncc_window: int = WINDOW,
) -> Tensor:
    """Improve a predicted field for its own pair of images.

    Source: instance-specific optimisation (Balakrishnan et al., arXiv:1809.05231, section IV-D):
    the same loss as in training, minimised over the field itself.

    Args:
        network: says what the field is, a displacement or a velocity.
        field: from `network.predict`.
        moving: (b, 1, x, y, z), intensities in [0, 1].
        fixed: the same shape.
        num_steps: of Adam; 0 returns the field.
        gradient_weight: of the regulariser.
        lncc_window: voxels along each edge of the correlation's window.

    Returns:
        The field with the smallest loss that was seen, in the shape of `field`.
    """
    best, best_loss = field.detach(), float("inf")
    current = field.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([current], lr=LEARNING_RATE)
    for step in range(num_steps + 1):
        displacement = network.displacement(current, tuple(moving.shape[2:]))
        loss = lncc_loss(warp(moving, displacement), fixed, window=lncc_window)
        loss = loss + gradient_weight * gradient_loss(displacement)
        if loss.item() < best_loss:
            best, best_loss = current.detach().clone(), loss.item()
        if step == num_steps:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return best
