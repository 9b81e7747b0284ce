"""The L1 loss at the image's size, at half of it, ..."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def l1_at_scales(reconstruction: Tensor, image: Tensor, *, num_scales: int) -> Tensor:
    """Return the L1 loss at the image's size, at half of it, ...

    Voxels are averaged two by two along each axis from one scale to the next, so an error that
    keeps its sign counts at each scale and noise less and less.

    Args:
        reconstruction: (b, 1, x, y, z).
        image: the same shape.
        num_scales: 1 is the plain L1 loss alone.

    Returns:
        (num_scales,)
    """
    losses = [F.l1_loss(reconstruction, image)]
    for _ in range(num_scales - 1):
        reconstruction, image = F.avg_pool3d(reconstruction, 2), F.avg_pool3d(image, 2)
        losses.append(F.l1_loss(reconstruction, image))
    return torch.stack(losses)
