"""Log-ratio loss: distances between images shall be proportional to those between texts."""

import torch
from torch import Tensor


def log_ratio_loss(visual: Tensor, text: Tensor, *, eps: float = 1e-4) -> Tensor:
    """Return the mean over all triplets (a, i, j) of the squared difference of log ratios.

    With u(a, i) = log |f_a - f_i| - log |y_a - y_i|, a triplet's loss is (u(a, i) - u(a, j))^2.
    All three members differ, and the order of i and j does not matter. A sample whose text
    equals the anchor's (distance below `eps`) has no log distance: it is in no triplet of that
    anchor. The scale of either embedding does not matter.

    Source: Kim et al., Deep Metric Learning Beyond Binary Supervision, CVPR 2019, equation 4;
        section 4.1 of the paper.
    Differs: D is the Euclidean distance, as in the code of Kim et al.; their text squares it,
        which only multiplies the loss by 4. Every sample is an anchor in turn, not just the
        first. Distances below `eps` count as `eps` (they add 1e-6).

    Args:
        visual: (b, d), pooled features.
        text: (b, e), embedded descriptions.
        eps: the smallest distance that counts.

    Returns:
        A scalar in float32 or better; zero, with a gradient, when there is no triplet.

    Raises:
        ValueError: the two are not matrices with one row for each sample.
    """
    if visual.ndim != 2 or text.ndim != 2 or len(visual) != len(text):
        raise ValueError(
            "visual, text: expected matrices with as many rows as each other, "
            f"got shapes {tuple(visual.shape)} and {tuple(text.shape)}"
        )
    text_distance = _distances(text.detach())
    is_pair = text_distance >= eps  # (a, i); the diagonal, at distance 0, is never one
    log_ratio = _distances(visual).clamp(min=eps).log() - text_distance.clamp(min=eps).log()
    return _mean_squared_difference(log_ratio, is_pair)


def _distances(points: Tensor) -> Tensor:
    """Return all Euclidean distances (b, b), in float32 at least, without cancellation."""
    with torch.autocast(points.device.type, enabled=False):
        points = points.to(torch.promote_types(points.dtype, torch.float32))
        return torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")


def _mean_squared_difference(values: Tensor, is_valid: Tensor) -> Tensor:
    """Average (v_i - v_j)^2 over all ordered pairs i != j of valid values within a row.

    A row's n values give n(n-1) pairs, whose squared differences add up to 2n sum (v - mean)^2:
    b x b numbers instead of b x b x b.
    """
    is_valid_number = is_valid.to(values.dtype)
    count = is_valid_number.sum(1, keepdim=True)  # (b, 1)
    values = values.where(is_valid, 0)
    mean = values.sum(1, keepdim=True) / count.clamp(min=1)
    total = (2 * count * is_valid_number * (values - mean) ** 2).sum()
    num_triplets = (count * (count - 1)).sum()
    return total / num_triplets.clamp(min=1)
