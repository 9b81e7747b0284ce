"""Instance optimisation: a few gradient steps on the field of one pair."""

import torch
from torch import Tensor

from nnunet_triad.errors import UserError
from registration.losses import WarpedPair, all_losses, total_loss
from registration.networks import RegistrationNetwork
from registration.settings import RegistrationSettings

LEARNING_RATE = 0.1  # voxels a step, Adam


def refine_field(
    network: RegistrationNetwork,
    field: Tensor,
    *,
    moving: Tensor,
    fixed: Tensor,
    settings: RegistrationSettings,
    num_steps: int,
) -> Tensor:
    """Improve a predicted field for its own pair of images.

    Source: instance-specific optimisation (Balakrishnan et al., arXiv:1809.05231, section IV-D):
    the same loss as in training, but for its terms of labels, minimised over the field itself.

    Args:
        network: says what the field is, a displacement or a velocity.
        field: from `network.predict`.
        moving: (b, 1, x, y, z), intensities in [0, 1].
        fixed: the same shape.
        settings: of the training.
        num_steps: of Adam; 0 returns the field.

    Returns:
        The field with the smallest loss that was seen, in the shape of `field`.

    Raises:
        UserError: the training compared no images.
    """
    weights = {one.name: one.weight(settings) for one in all_losses() if one.kind == "similarity"}
    if num_steps and not any(weights.values()):
        raise UserError(
            f"refine: expected 0, as the model was trained on labels alone (the weight of "
            f"{', '.join(weights)} is 0), got {num_steps}"
        )
    best, best_loss = field.detach(), float("inf")
    current = field.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([current], lr=LEARNING_RATE)
    for step in range(num_steps + 1):
        displacement = network.displacement(current, tuple(moving.shape[2:]))
        pair = WarpedPair(moving=moving, fixed=fixed, displacement=displacement)
        loss = total_loss(pair, settings)["loss"]
        if loss.item() < best_loss:
            best, best_loss = current.detach().clone(), loss.item()
        if step == num_steps:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return best
