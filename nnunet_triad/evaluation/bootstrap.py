"""Percentile bootstrap intervals over cases and subjects: pure functions on arrays.

Shapes: a *sample* is an array of one row a case, `(n,)` or `(n, k)` where a statistic needs k
values of a case (a score and a truth, say). Cases of one subject are not independent; `subjects`
names the subject of each case, and whole subjects are drawn then.

NaN: a case with a NaN is left out (in a paired function, from both models). `num_cases` counts the
cases that were used. With no case left, every number is NaN. A statistic that is NaN on a resample
(an AUC when one class was not drawn) takes that resample out of the percentiles; when this happens
in more than half of the resamples the bounds are NaN.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Statistic = Callable[[NDArray[np.float64]], float]

_NAN = float("nan")
_BLOCK = 1 << 22  # numbers that are drawn at a time


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate and its confidence bounds, in the unit of the values."""

    estimate: float
    low: float
    high: float
    num_cases: int  # without the cases that have a NaN


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
    rows, groups = clean(values, subjects)
    return _interval(rows, groups, statistic, level=level, num_resamples=num_resamples, seed=seed)


def paired_bootstrap(
    first: ArrayLike,
    second: ArrayLike,
    statistic: Statistic = mean,
    *,
    subjects: Sequence[str] | ArrayLike | None = None,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return `statistic(first) - statistic(second)` with its interval; both get the same resamples.

    Args:
        first: (n,) or (n, k), one row a case.
        second: the same shape, the same cases in the same order.
        statistic: as in `bootstrap_interval`, as are the other arguments.
        subjects: (n,), the subject of each case.
        num_resamples: how often the cases are drawn again.
        seed: of the generator.

    Raises:
        ValueError: the shapes differ, or as `bootstrap_interval`.
    """
    one, other = as_pair(first, second)
    if statistic is mean:  # the difference of means is the mean of the differences
        rows, groups = clean(one - other, subjects)
        return _interval(rows, groups, mean, num_resamples=num_resamples, seed=seed)
    rows, groups = clean(np.stack([one, other], axis=1), subjects)

    def difference(pairs: NDArray[np.float64]) -> float:
        return statistic(pairs[:, 0]) - statistic(pairs[:, 1])

    return _interval(rows, groups, difference, num_resamples=num_resamples, seed=seed)


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
    members = members_of(_number_subjects(len(values), subjects))
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)
    sums = np.array([filled[rows].sum(axis=0) for rows in members])
    counts = np.array([known[rows].sum(axis=0) for rows in members])
    blocks = []
    for draws in _draw_blocks(len(members), num_resamples=num_resamples, seed=seed):
        # How often each subject was drawn: (resamples, subjects).
        places = draws + len(members) * np.arange(len(draws))[:, None]
        weights = np.bincount(places.ravel(), minlength=draws.size).reshape(draws.shape)
        with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that is promised
            blocks.append((weights @ sums) / (weights @ counts))
    return np.concatenate(blocks)


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
    level: float = 0.95,
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
    members = members_of(groups)
    return np.array(
        [
            statistic(rows[np.concatenate([members[i] for i in draw])])
            for draws in _draw_blocks(len(members), num_resamples=num_resamples, seed=seed)
            for draw in draws
        ]
    )


def _draw_blocks(
    num_subjects: int, *, num_resamples: int, seed: int
) -> Iterator[NDArray[np.int64]]:
    """Yield the numbers of the subjects in each resample, (resamples, num_subjects).

    In blocks, since 100,000 cases would not fit in memory at once; together they are the same
    numbers as in one.
    """
    generator = np.random.default_rng(seed)
    size = max(1, _BLOCK // num_subjects)
    for start in range(0, num_resamples, size):
        yield generator.integers(
            num_subjects, size=(min(size, num_resamples - start), num_subjects)
        )


def as_pair(first: ArrayLike, second: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return two samples of the same cases as arrays.

    Raises:
        ValueError: their shapes differ.
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != other.shape:
        raise ValueError(f"second: expected the shape of first, {one.shape}, got {other.shape}")
    return one, other


def clean(
    values: ArrayLike, subjects: Sequence[str] | ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Drop the rows with a NaN, and number the subjects.

    Returns:
        The rows that are left, and (n,) the number of each one's subject.

    Raises:
        ValueError: there is not one subject for each row.
    """
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


def members_of(groups: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Return the row numbers of each subject."""
    if not len(groups):
        return []
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
