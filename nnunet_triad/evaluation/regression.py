"""Metrics of a regression: pure functions on rows (n, 2), the true value and the predicted one."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


def mean_absolute_error(rows: NDArray[np.float64]) -> float:
    """Return the mean distance between prediction and truth, in the unit of the values."""
    return float(np.abs(rows[:, 1] - rows[:, 0]).mean())


def r_squared(rows: NDArray[np.float64]) -> float:
    """Return the share of the truths' variance that is explained; NaN where there is none.

    0: as good as the mean of these truths; negative: worse.
    """
    truth = rows[:, 0]
    spread = float(((truth - truth.mean()) ** 2).sum())
    return 1 - float(((rows[:, 1] - truth) ** 2).sum()) / spread if spread else float("nan")


def correlation(rows: NDArray[np.float64]) -> float:
    """Return Pearson's correlation of prediction and truth; NaN where one does not vary."""
    truth, predicted = rows.T - rows.T.mean(axis=1, keepdims=True)
    spread = float(np.sqrt((truth**2).sum() * (predicted**2).sum()))
    return float((truth * predicted).sum()) / spread if spread else float("nan")


METRICS: dict[str, Callable[[NDArray[np.float64]], float]] = {
    "r2": r_squared,
    "mae": mean_absolute_error,
    "correlation": correlation,
}
