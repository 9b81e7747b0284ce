"""Metrics of a classification from truths and probabilities: pure functions on arrays.

Rows are `(n, 1 + k)`: the true class as a number, then the probability of each of k classes. In a
resample a class may be absent: recall and AUC are then averaged over the classes that are there,
as scikit-learn averages recall.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from nnunet_triad.evaluation.bootstrap import Interval, Statistic, bootstrap_interval

Rows = NDArray[np.float64]

NUM_BINS = 10  # of the calibration
_NUM_RESAMPLES = 2000
_MANY = 20_000  # samples, from which on fewer resamples tell the same


@dataclass(frozen=True, kw_only=True)
class Score:
    """One metric with its interval; `label` is a class, or empty for all together."""

    metric: str
    label: str
    interval: Interval


def as_rows(truth: NDArray, probabilities: NDArray) -> Rows:
    """Join truths (n,) and probabilities (n, k) to rows."""
    return np.column_stack([truth, probabilities]).astype(np.float64)


def truth_of(rows: Rows) -> NDArray[np.intp]:
    """Return the true classes, (n,)."""
    return rows[:, 0].astype(np.intp)


def predicted_of(rows: Rows) -> NDArray[np.intp]:
    """Return the most probable classes, (n,)."""
    return rows[:, 1:].argmax(axis=1)


def confusion(rows: Rows) -> NDArray[np.intp]:
    """Return counts (k, k): true class by row, predicted class by column."""
    k = rows.shape[1] - 1
    flat = truth_of(rows) * k + predicted_of(rows)
    return np.bincount(flat, minlength=k * k).reshape(k, k)


def accuracy(rows: Rows) -> float:
    """Return the share of samples whose most probable class is the true one (equation 1)."""
    return float((truth_of(rows) == predicted_of(rows)).mean())


def recalls(rows: Rows) -> NDArray[np.float64]:
    """Return the share found of each class, (k,); NaN for a class without samples."""
    counts = confusion(rows)
    with np.errstate(invalid="ignore"):
        return counts.diagonal() / counts.sum(axis=1)


def balanced_accuracy(rows: Rows) -> float:
    """Return the mean recall of the classes that have samples."""
    return float(np.nanmean(recalls(rows)))


def macro_f1(rows: Rows) -> float:
    """Return the mean F1 of the classes that are true or predicted somewhere."""
    counts = confusion(rows)
    both = counts.sum(axis=0) + counts.sum(axis=1)
    used = both > 0
    return float((2 * counts.diagonal()[used] / both[used]).mean())


def aucs(rows: Rows) -> NDArray[np.float64]:
    """Return each class's area under the ROC curve against the rest, (k,).

    Source: the Mann-Whitney statistic with mean ranks for ties; NaN where one side has no samples.
    """
    truth = truth_of(rows)
    result = np.full(rows.shape[1] - 1, np.nan)
    for number in range(len(result)):
        is_class = truth == number
        num_in, num_out = int(is_class.sum()), int((~is_class).sum())
        if num_in and num_out:
            ranks = rankdata(rows[:, 1 + number])
            wins = ranks[is_class].sum() - num_in * (num_in + 1) / 2
            result[number] = wins / (num_in * num_out)
    return result


def macro_auc(rows: Rows) -> float:
    """Return the mean AUC one-vs-rest of the classes that have samples; NaN with one class."""
    values = aucs(rows)
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def calibration_error(rows: Rows) -> float:
    """Return the expected calibration error of the most probable class.

    Source: Guo et al., arXiv:1706.04599, equation 3, ten bins of equal width.
    """
    confidences, hits = rows[:, 1:].max(axis=1), truth_of(rows) == predicted_of(rows)
    bins = np.minimum((confidences * NUM_BINS).astype(int), NUM_BINS - 1)
    gaps = np.bincount(bins, weights=hits - confidences, minlength=NUM_BINS)
    return float(np.abs(gaps).sum() / len(rows))


METRICS: dict[str, Callable[[Rows], float]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "auc": macro_auc,
    "calibration_error": calibration_error,
}
PER_CLASS: dict[str, Callable[[Rows], NDArray[np.float64]]] = {"recall": recalls, "auc": aucs}


def num_resamples(num_samples: int) -> int:
    """Return how often to draw: less for many samples, whose intervals are narrow."""
    return _NUM_RESAMPLES if num_samples < _MANY else _NUM_RESAMPLES // 10


def score(
    rows: Rows,
    classes: Sequence[str],
    subjects: NDArray,
    *,
    times: int | None = None,
) -> list[Score]:
    """Return every metric with its 95 % bootstrap interval over subjects.

    Two classes have one AUC between them, which has no label.
    """
    statistics: list[tuple[str, str, Statistic]] = [
        (name, "", function) for name, function in METRICS.items()
    ]
    for name, function in PER_CLASS.items():
        if function is aucs and len(classes) == 2:
            continue
        for number, label in enumerate(classes):
            statistics.append((name, label, _of_class(function, number)))
    times = times or num_resamples(len(rows))
    return [
        Score(
            metric=name,
            label=label,
            interval=bootstrap_interval(rows, statistic, subjects=subjects, num_resamples=times),
        )
        for name, label, statistic in statistics
    ]


def _of_class(function: Callable[[Rows], NDArray[np.float64]], number: int) -> Statistic:
    if function is recalls:  # the class alone, many times faster

        def recall(rows: Rows) -> float:
            inside = rows[rows[:, 0] == number]
            return accuracy(inside) if len(inside) else float("nan")

        return recall

    def auc(rows: Rows) -> float:
        return float(aucs(_as_binary(rows, number))[0])

    return auc


def _as_binary(rows: Rows, number: int) -> Rows:
    """Return rows in which class `number` is class 0, the only one with a probability."""
    return np.column_stack([rows[:, 0] != number, rows[:, 1 + number]]).astype(np.float64)
