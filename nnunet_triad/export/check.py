"""Whether what was written computes what was trained."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from nnunet_triad.errors import UserError

# Of the largest logit: one step of float16, in which nnU-Net adds logits up.
TOLERANCE = 2**-10


def check_same(
    name: str, network: nn.Module, other: Callable[[Tensor], Tensor], image: Tensor, *, exact: bool
) -> str:
    """Compare an export with the trained network on a window.

    Args:
        name: of the export.
        network: the trained one.
        other: gives the export's logits.
        image: (1, c, x, y, z).
        exact: whether every bit must agree.

    Returns:
        The largest difference, in words.

    Raises:
        UserError: they differ by more than `TOLERANCE`, or at all.
    """
    with torch.inference_mode():
        expected, found = network(image), other(image)
    if found.shape != expected.shape:
        raise UserError(
            f"{name}: expected logits {tuple(expected.shape)}, as the trained network gives, "
            f"got {tuple(found.shape)}; not exported"
        )
    largest = float(expected.abs().max())
    difference = float((found - expected).abs().max())
    if not difference <= (0 if exact else TOLERANCE * largest):  # NaN is none
        raise UserError(
            f"{name}: expected the logits of the trained network, got some that differ by "
            f"{difference:.3g} of {largest:.3g}; not exported"
        )
    return f"largest difference {difference:.2g} of logits up to {largest:.3g}"
