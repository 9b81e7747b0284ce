"""Paired tests and Holm's correction.

What is said in `nnunet_triad.evaluation.bootstrap` about shapes, subjects and NaN holds here, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from nnunet_triad.evaluation.bootstrap import (
    Interval,
    as_pair,
    clean,
    members_of,
    paired_bootstrap,
)

_NAN = float("nan")


@dataclass(frozen=True, kw_only=True)
class PairedComparison:
    """Two models on the same cases."""

    difference: Interval  # statistic of the first - statistic of the second
    p_value: float  # two-sided; not corrected for several comparisons: see `holm`
    test: str  # as it is called
    num_units: int  # what the test counted: subjects, or cases where no subjects are given


def compare_values(
    first: ArrayLike,
    second: ArrayLike,
    *,
    subjects: Sequence[str] | ArrayLike | None = None,
) -> PairedComparison:
    """Compare a continuous metric (Dice, HD95) of two models: difference of means, Wilcoxon test.

    The test ranks one difference a subject, the mean over the subject's cases: several cases of one
    subject would make the test believe in more evidence than there is.

    Args:
        first: (n,), a value a case.
        second: (n,), the same cases in the same order.
        subjects: (n,), the subject of each case.
    """
    one, other = as_pair(first, second)
    differences, groups = clean(one - other, subjects)
    by_subject = [differences[indices].mean() for indices in members_of(groups)]
    return PairedComparison(
        difference=paired_bootstrap(first, second, subjects=subjects),
        p_value=wilcoxon(by_subject),
        test="Wilcoxon signed-rank",
        num_units=len(by_subject),
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
    one, other = as_pair(first_correct, second_correct)
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
