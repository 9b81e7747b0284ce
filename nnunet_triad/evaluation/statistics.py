"""Bootstrap intervals, paired tests and Holm's correction: pure functions on arrays.

Shapes: a *sample* is an array of one row a case, `(n,)` or `(n, k)` where a statistic needs k
values of a case (a score and a truth, say). Cases of one subject are not independent; `subjects`
names the subject of each case, and whole subjects are drawn then.

NaN: a case with a NaN is left out (in a paired function, from both models). `num_cases` counts the
cases that were used. With no case left, every number is NaN. A statistic that is NaN on a resample
(an AUC when one class was not drawn) takes that resample out of the percentiles; when this happens
in more than half of the resamples the bounds are NaN.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Statistic = Callable[[NDArray[np.float64]], float]

_NAN = float("nan")


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate and its confidence bounds, in the unit of the values."""

    estimate: float
    low: float
    high: float
    num_cases: int  # without the cases that have a NaN


@dataclass(frozen=True, kw_only=True)
class PairedComparison:
    """Two models on the same cases."""

    difference: Interval  # statistic of the first - statistic of the second
    p_value: float  # two-sided; not corrected for several comparisons: see `holm`
    test: str  # "Wilcoxon signed-rank" or "McNemar"
    num_units: int  # what the test counted: subjects, or cases where no subjects are given


def mean(values: NDArray[np.float64]) -> float:
    """Return the mean over the cases; NaN without cases."""
    return float(values.mean()) if len(values) else _NAN


def bootstrap_interval(
    values: ArrayLike,
    statistic: Statistic = mean,
    *,
    subjects: Sequence[str] | ArrayLike | None = None,
    level: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return a statistic with its percentile bootstrap interval over cases.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile
    interval); Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8
    (resampling of whole clusters).

    Args:
        values: (n,) or (n, k), one row a case; see the module for NaN.
        statistic: a number from such rows.
        subjects: (n,), the subject of each case; by default each case is a subject of its own.
        level: share of the distribution between the bounds, in (0, 1).
        num_resamples: how often the cases are drawn again.
        seed: of the generator; equal seeds give equal bounds.

    Returns:
        The statistic of all cases and its bounds; NaN bounds with fewer than two subjects.

    Raises:
        ValueError: `level` or `num_resamples` is out of range, or the lengths differ.
    """
    rows, groups = _clean(values, subjects)
    return _interval(rows, groups, statistic, level=level, num_resamples=num_resamples, seed=seed)


def paired_bootstrap(
    first: ArrayLike,
    second: ArrayLike,
    statistic: Statistic = mean,
    *,
    subjects: Sequence[str] | ArrayLike | None = None,
    level: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return `statistic(first) - statistic(second)` with its interval; both get the same resamples.

    Args:
        first: (n,) or (n, k), one row a case.
        second: the same shape, the same cases in the same order.
        statistic: as in `bootstrap_interval`, as are the other arguments.
        subjects: (n,), the subject of each case.
        level: share of the distribution between the bounds.
        num_resamples: how often the cases are drawn again.
        seed: of the generator.

    Raises:
        ValueError: the shapes differ, or as `bootstrap_interval`.
    """
    one, other = _as_pair(first, second)
    if statistic is mean:  # the difference of means is the mean of the differences
        rows, groups = _clean(one - other, subjects)
        return _interval(rows, groups, mean, level=level, num_resamples=num_resamples, seed=seed)
    rows, groups = _clean(np.stack([one, other], axis=1), subjects)

    def difference(pairs: NDArray[np.float64]) -> float:
        return statistic(pairs[:, 0]) - statistic(pairs[:, 1])

    return _interval(rows, groups, difference, level=level, num_resamples=num_resamples, seed=seed)


def compare_values(
    first: ArrayLike,
    second: ArrayLike,
    *,
    subjects: Sequence[str] | ArrayLike | None = None,
    num_resamples: int = 2000,
    seed: int = 0,
) -> PairedComparison:
    """Compare a continuous metric (Dice, HD95) of two models: difference of means, Wilcoxon test.

    The test ranks one difference a subject, the mean over the subject's cases: several cases of one
    subject would make the test believe in more evidence than there is.

    Args:
        first: (n,), a value a case.
        second: (n,), the same cases in the same order.
        subjects: (n,), the subject of each case.
        num_resamples: of the interval.
        seed: of the interval.
    """
    interval = paired_bootstrap(
        first, second, subjects=subjects, num_resamples=num_resamples, seed=seed
    )
    one, other = _as_pair(first, second)
    differences, groups = _clean(one - other, subjects)
    by_subject = [differences[indices].mean() for indices in _members(groups)]
    return PairedComparison(
        difference=interval,
        p_value=wilcoxon(by_subject),
        test="Wilcoxon signed-rank",
        num_units=len(by_subject),
    )


def compare_correct(
    first: ArrayLike,
    second: ArrayLike,
    *,
    subjects: Sequence[str] | ArrayLike | None = None,
    num_resamples: int = 2000,
    seed: int = 0,
) -> PairedComparison:
    """Compare which cases two classifiers get right: difference of accuracies, McNemar's test.

    Differs: McNemar's test counts cases; with several cases a subject it is too sure of itself,
    while the interval draws subjects. Read the interval there.

    Args:
        first: (n,), 1 where the first model is right, 0 where it is wrong.
        second: (n,), the same cases in the same order.
        subjects: (n,), the subject of each case, for the interval.
        num_resamples: of the interval.
        seed: of the interval.
    """
    interval = paired_bootstrap(
        first, second, subjects=subjects, num_resamples=num_resamples, seed=seed
    )
    return PairedComparison(
        difference=interval,
        p_value=mcnemar(first, second),
        test="McNemar",
        num_units=interval.num_cases,
    )


def wilcoxon(differences: ArrayLike) -> float:
    """Return the two-sided p value of Wilcoxon's signed-rank test on paired differences.

    Zeros count as half positive, half negative ("zsplit"), so that many ties cannot make a result
    look surer; no difference at all gives 1.

    Args:
        differences: (n,), one value a pair; NaN is left out.

    Returns:
        0 to 1; NaN without a pair.
    """
    values = np.asarray(differences, dtype=np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        return _NAN
    if not values.any():
        return 1.0
    return float(stats.wilcoxon(values, zero_method="zsplit").pvalue)


def mcnemar(first_correct: ArrayLike, second_correct: ArrayLike) -> float:
    """Return the exact two-sided p value of McNemar's test.

    Source: McNemar, Psychometrika 12, 1947; the exact form is the sign test on discordant pairs.

    Args:
        first_correct: (n,), 1 where the first model is right, 0 where wrong, NaN where unknown.
        second_correct: (n,), the same cases in the same order.

    Returns:
        0 to 1; 1 when no case is discordant; NaN without a case.

    Raises:
        ValueError: a value is neither 0 nor 1, or the shapes differ.
    """
    one, other = _as_pair(first_correct, second_correct)
    known = ~(np.isnan(one) | np.isnan(other))
    one, other = one[known], other[known]
    if not len(one):
        return _NAN
    if not np.isin([one, other], (0, 1)).all():
        raise ValueError("correct: expected 0 or 1 for each case, got other values")
    only_first, only_second = int((one > other).sum()), int((other > one).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(stats.binomtest(only_first, only_first + only_second, 0.5).pvalue)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Return p values adjusted for several comparisons by Holm's step-down method.

    Source: Holm, Scandinavian Journal of Statistics 6, 1979.

    Args:
        p_values: (m,), the p values of one family; a NaN stays NaN and is not counted.

    Returns:
        (m,), in the given order, at most 1, never below the given value.
    """
    given = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full_like(given, np.nan)
    known = np.flatnonzero(~np.isnan(given))
    order = known[np.argsort(given[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * given[order]))
    return adjusted


def bootstrap_means(
    columns: ArrayLike,
    *,
    subjects: Sequence[str] | ArrayLike | None = None,
    num_resamples: int = 2000,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Return the mean of each column over the known cases, for each resample.

    All columns see the same resamples, so that a difference of columns is a paired one, and the
    mean over columns that stand for labels is the mean over labels of the mean over cases.

    Args:
        columns: (n, k), one row a case; a NaN leaves the case out of its column only.
        subjects: (n,), the subject of each case; by default each case is a subject of its own.
        num_resamples: how often the subjects are drawn again.
        seed: of the generator.

    Returns:
        (num_resamples, k); NaN where no known case of the column was drawn.

    Raises:
        ValueError: there is not one subject for each case.
    """
    values = np.asarray(columns, dtype=np.float64)
    if not len(values):
        return np.full((num_resamples, values.shape[1]), _NAN)
    members = _members(_number_subjects(len(values), subjects))
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)
    sums = np.array([filled[rows].sum(axis=0) for rows in members])
    counts = np.array([known[rows].sum(axis=0) for rows in members])
    draws = _draws(len(members), num_resamples=num_resamples, seed=seed)
    weights = np.zeros(draws.shape)
    np.add.at(weights, (np.arange(num_resamples)[:, None], draws), 1)
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that is promised
        return (weights @ sums) / (weights @ counts)


def percentile_interval(
    estimate: float, drawn: NDArray[np.float64], *, num_cases: int, level: float = 0.95
) -> Interval:
    """Return an estimate with the bounds of its bootstrap distribution; see the module for NaN.

    Args:
        estimate: the statistic of all cases.
        drawn: (num_resamples,), the statistic of each resample.
        num_cases: that were used.
        level: share of the distribution between the bounds.
    """
    known = drawn[~np.isnan(drawn)]
    low = high = _NAN
    if len(known) and 2 * len(known) >= len(drawn):
        tail = (1 - level) / 2
        low, high = (float(bound) for bound in np.quantile(known, [tail, 1 - tail]))
    return Interval(estimate=float(estimate), low=low, high=high, num_cases=num_cases)


def _interval(
    rows: NDArray[np.float64],
    groups: NDArray[np.intp],
    statistic: Statistic,
    *,
    level: float,
    num_resamples: int,
    seed: int,
) -> Interval:
    if not 0 < level < 1:
        raise ValueError(f"level: expected a number between 0 and 1, got {level}")
    if num_resamples < 1:
        raise ValueError(f"num_resamples: expected at least 1, got {num_resamples}")
    estimate = statistic(rows) if len(rows) else _NAN
    drawn = np.empty(0)
    if len(np.unique(groups)) > 1:
        drawn = _resample(rows, groups, statistic, num_resamples=num_resamples, seed=seed)
    return percentile_interval(estimate, drawn, num_cases=len(rows), level=level)


def _resample(
    rows: NDArray[np.float64],
    groups: NDArray[np.intp],
    statistic: Statistic,
    *,
    num_resamples: int,
    seed: int,
) -> NDArray[np.float64]:
    """Return the statistic of each resample, (num_resamples,)."""
    if statistic is mean and rows.ndim == 1:  # the commonest, a hundred times faster
        columns = rows[:, None]
        return bootstrap_means(columns, subjects=groups, num_resamples=num_resamples, seed=seed)[
            :, 0
        ]
    members = _members(groups)
    draws = _draws(len(members), num_resamples=num_resamples, seed=seed)
    return np.array([statistic(rows[np.concatenate([members[i] for i in draw])]) for draw in draws])


def _draws(num_subjects: int, *, num_resamples: int, seed: int) -> NDArray[np.int64]:
    """Return the numbers of the subjects in each resample, (num_resamples, num_subjects)."""
    generator = np.random.default_rng(seed)
    return generator.integers(num_subjects, size=(num_resamples, num_subjects))


def _as_pair(
    first: ArrayLike, second: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != other.shape:
        raise ValueError(f"second: expected the shape of first, {one.shape}, got {other.shape}")
    return one, other


def _clean(
    values: ArrayLike, subjects: Sequence[str] | ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Drop the rows with a NaN; number the subjects."""
    rows = np.asarray(values, dtype=np.float64)
    groups = _number_subjects(len(rows), subjects)
    known = ~np.isnan(rows).reshape(len(rows), -1).any(axis=1) if len(rows) else np.zeros(0, bool)
    return rows[known], groups[known]


def _number_subjects(
    num_cases: int, subjects: Sequence[str] | ArrayLike | None
) -> NDArray[np.intp]:
    """Return the number of each case's subject, in order of the subjects' names."""
    names = np.arange(num_cases) if subjects is None else np.asarray(subjects)
    if len(names) != num_cases:
        raise ValueError(f"subjects: expected one for each of {num_cases} cases, got {len(names)}")
    return np.unique(names, return_inverse=True)[1]


def _members(groups: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Return the row numbers of each subject."""
    if not len(groups):
        return []
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
