"""Which model is kept: the best on validation so far."""

import math
from collections.abc import Sequence


def is_better(scores: Sequence[float], best: Sequence[float]) -> bool:
    """Tell whether scores are above those of the best so far.

    Args:
        scores: higher is better, the most important one first; NaN is below every number.
        best: of the best so far; empty before the first.
    """
    return [_rank(score) for score in scores] > [_rank(score) for score in best]


def _rank(score: float) -> float:
    return -math.inf if math.isnan(score) else score
