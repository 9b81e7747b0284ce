"""Intervals, paired tests and Holm's correction: simulations, closed forms, invariances."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from nnunet_triad.evaluation.bootstrap import bootstrap_interval, bootstrap_means, paired_bootstrap
from nnunet_triad.evaluation.statistics import compare_values, holm, mcnemar, wilcoxon


def bounds(interval):
    return interval.low, interval.high


def test_interval_covers_the_true_mean_at_its_level():
    generator = np.random.default_rng(0)
    inside = 0
    for trial in range(1500):
        values = generator.normal(3, 2, size=80)
        interval = bootstrap_interval(values, num_resamples=400, seed=trial)
        inside += interval.low <= 3 <= interval.high
    # 0.95 less a bias of about 0.005 (the percentile interval is a little short), 3.5 errors.
    assert 0.925 <= inside / 1500 <= 0.965


def test_cluster_interval_covers_where_the_interval_over_cases_does_not():
    generator = np.random.default_rng(1)
    subjects = np.repeat(np.arange(30), 8)
    inside = {"subjects": 0, "cases": 0}
    for trial in range(200):
        values = generator.normal(size=30)[subjects] + 0.1 * generator.normal(size=240)
        for name, groups in (("subjects", subjects), ("cases", None)):
            interval = bootstrap_interval(values, subjects=groups, num_resamples=400, seed=trial)
            inside[name] += interval.low <= 0 <= interval.high
    assert inside["subjects"] >= 0.88 * 200
    assert inside["cases"] <= 0.7 * 200


@pytest.mark.parametrize("statistic", [np.mean, np.median, np.std])
def test_interval_agrees_with_scipy(statistic):
    values = np.random.default_rng(2).gamma(2, size=60)
    ours = bootstrap_interval(values, statistic, num_resamples=4000)
    theirs = stats.bootstrap(
        (values,), statistic, n_resamples=4000, method="percentile", rng=3
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.estimate == statistic(values)
    assert bounds(ours) == pytest.approx((theirs.low, theirs.high), abs=0.06 * width)


def test_default_statistic_is_the_mean_and_its_short_cut_changes_nothing():
    values = np.random.default_rng(3).normal(size=24)
    subjects = np.repeat(np.arange(8), 3)
    for groups in (None, subjects):
        quick = bootstrap_interval(values, subjects=groups, num_resamples=300)
        plain = bootstrap_interval(values, np.mean, subjects=groups, num_resamples=300)
        assert bounds(quick) == pytest.approx(bounds(plain), rel=1e-12)
        one = paired_bootstrap(values, values[::-1], subjects=groups, num_resamples=300)
        other = paired_bootstrap(values, values[::-1], np.mean, subjects=groups, num_resamples=300)
        assert bounds(one) == pytest.approx(bounds(other), rel=1e-9, abs=1e-12)


def test_means_of_columns_are_those_of_a_naive_loop_that_skips_nan():
    generator = np.random.default_rng(11)
    columns = generator.normal(size=(12, 3))
    columns[generator.uniform(size=columns.shape) < 0.3] = math.nan
    subjects = np.array(list("aabbbcddefff"))
    ours = bootstrap_means(columns, subjects=subjects, num_resamples=50, seed=4)
    names = np.unique(subjects)
    draws = np.random.default_rng(4).integers(len(names), size=(50, len(names)))
    for drawn, means in zip(draws, ours, strict=True):
        rows = np.concatenate([columns[subjects == names[i]] for i in drawn])
        known = [column[~np.isnan(column)] for column in rows.T]
        naive = [column.mean() if len(column) else math.nan for column in known]
        assert means == pytest.approx(naive, nan_ok=True)


def test_blocks_of_resamples_are_the_same_as_one(monkeypatch):
    columns = np.random.default_rng(13).normal(size=(9, 2))
    whole = bootstrap_means(columns, num_resamples=40, seed=5)
    monkeypatch.setattr("nnunet_triad.evaluation.bootstrap._BLOCK", 9 * 7)
    assert (bootstrap_means(columns, num_resamples=40, seed=5) == whole).all()


def test_means_of_equal_columns_differ_by_nothing():
    column = np.random.default_rng(12).normal(size=20)
    drawn = bootstrap_means(np.stack([column, column], axis=1))
    assert (drawn[:, 0] == drawn[:, 1]).all()


def test_interval_does_not_depend_on_the_order_within_a_subject():
    values = np.random.default_rng(4).normal(size=30)
    subjects = np.repeat([f"sub-{i}" for i in range(10)], 3)
    order = np.concatenate([np.array([2, 0, 1]) + 3 * i for i in range(10)])
    one = bootstrap_interval(values, subjects=subjects)
    other = bootstrap_interval(values[order], subjects=subjects[order])
    assert bounds(one) == pytest.approx(bounds(other))


def test_interval_is_reproducible_and_follows_scale_and_shift():
    values = np.random.default_rng(5).normal(size=20)
    interval = bootstrap_interval(values, seed=7)
    assert interval == bootstrap_interval(values, seed=7)
    assert interval != bootstrap_interval(values, seed=8)
    moved = bootstrap_interval(10 * values + 4, seed=7)
    assert bounds(moved) == pytest.approx([10 * bound + 4 for bound in bounds(interval)])


def test_nan_cases_are_left_out_and_counted_out():
    values = np.array([0.2, math.nan, 0.4, 0.9])
    assert bootstrap_interval(values) == bootstrap_interval(values[[0, 2, 3]])
    assert bootstrap_interval(values).num_cases == 3
    paired = paired_bootstrap(values, np.array([0.1, 0.5, math.nan, 0.5]))
    assert paired.num_cases == 2
    assert paired.estimate == pytest.approx((0.1 + 0.4) / 2)


@pytest.mark.parametrize(("values", "estimate"), [([], math.nan), ([0.5], 0.5)])
def test_interval_without_two_cases_has_no_bounds(values, estimate):
    interval = bootstrap_interval(values)
    assert interval.estimate == pytest.approx(estimate, nan_ok=True)
    assert all(map(math.isnan, bounds(interval)))


def test_interval_of_one_subject_has_no_bounds():
    assert math.isnan(bootstrap_interval([0.1, 0.4], subjects=["a", "a"]).low)


def test_statistic_of_rows_sees_whole_cases_and_may_be_undefined():
    scores = np.array([[0.9, 1], [0.8, 1], [0.3, 0], [0.1, 0], [0.85, 0]])

    def auc(rows):
        positive, negative = rows[rows[:, 1] == 1, 0], rows[rows[:, 1] == 0, 0]
        if not len(positive) or not len(negative):
            return math.nan
        return float(np.mean(positive[:, None] > negative))

    interval = bootstrap_interval(scores, auc)
    assert interval.estimate == pytest.approx(5 / 6)
    assert 0 <= interval.low < interval.high <= 1
    never = bootstrap_interval(scores, lambda rows: math.nan)
    assert math.isnan(never.low)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"level": 1.0}, "level: expected a number between 0 and 1, got 1.0"),
        ({"num_resamples": 0}, "num_resamples: expected at least 1, got 0"),
        ({"subjects": ["a"]}, "subjects: expected one for each of 3 cases, got 1"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval([1, 2, 3], **arguments)


def test_paired_interval_is_antisymmetric_and_narrower_than_an_unpaired_one():
    generator = np.random.default_rng(6)
    difficulty = generator.normal(size=50)
    first = difficulty + 0.1 * generator.normal(size=50) + 0.2
    second = difficulty + 0.1 * generator.normal(size=50)
    there, back = paired_bootstrap(first, second), paired_bootstrap(second, first)
    assert bounds(there) == pytest.approx((-back.high, -back.low))
    alone = bootstrap_interval(first)
    assert there.high - there.low < 0.3 * (alone.high - alone.low)
    assert there.low > 0


def test_paired_samples_of_other_lengths_are_refused():
    with pytest.raises(
        ValueError, match=r"second: expected the shape of first, \(2,\), got \(3,\)"
    ):
        paired_bootstrap([1, 2], [1, 2, 3])


def test_wilcoxon_of_all_positive_differences_is_the_closed_form():
    # Exact: only one of the 2^n sign patterns is as extreme on each side.
    assert wilcoxon(np.arange(1, 9)) == pytest.approx(2 / 2**8)
    assert wilcoxon(-np.arange(1, 9)) == pytest.approx(2 / 2**8)


def test_wilcoxon_of_equal_models_is_one_and_of_nothing_undefined():
    assert wilcoxon(np.zeros(10)) == 1.0
    assert math.isnan(wilcoxon([math.nan]))


def test_wilcoxon_p_values_are_uniform_without_a_difference():
    generator = np.random.default_rng(7)
    p_values = [wilcoxon(generator.normal(size=25)) for _ in range(400)]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


def test_repeated_cases_of_a_subject_do_not_add_evidence():
    generator = np.random.default_rng(8)
    first, second = generator.normal(0.4, 1, size=12), generator.normal(size=12)
    once = compare_values(first, second)
    often = compare_values(
        np.repeat(first, 5), np.repeat(second, 5), subjects=np.repeat(np.arange(12), 5)
    )
    assert often.p_value == once.p_value
    assert often.num_units == once.num_units == 12
    assert bounds(often.difference) == pytest.approx(bounds(once.difference))


@pytest.mark.parametrize(
    ("only_first", "only_second", "expected"),
    [
        (6, 16, 0.052478790283203),  # 2 * sum of C(22, k) / 2^22, k = 0..6
        (0, 5, 2 / 2**5),
        (3, 3, 1.0),
        (0, 0, 1.0),
    ],
)
def test_mcnemar_is_the_sign_test_on_discordant_cases(only_first, only_second, expected):
    first = [1] * only_first + [0] * only_second + [1] * 20 + [0] * 3
    second = [0] * only_first + [1] * only_second + [1] * 20 + [0] * 3
    if only_first + only_second:
        n, k = only_first + only_second, min(only_first, only_second)
        naive = min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)
        assert mcnemar(first, second) == pytest.approx(naive)
    assert mcnemar(first, second) == pytest.approx(expected)
    order = np.random.default_rng(9).permutation(len(first))
    assert mcnemar(np.array(second)[order], np.array(first)[order]) == pytest.approx(expected)


def test_mcnemar_of_scores_is_refused_and_of_unknowns_undefined():
    with pytest.raises(ValueError, match="correct: expected 0 or 1"):
        mcnemar([0.3, 1], [1, 0])
    assert math.isnan(mcnemar([math.nan], [1]))


def test_holm_is_the_closed_test_of_bonferroni():
    # By the closure principle: the largest Bonferroni p value of all sets that hold the hypothesis.
    p_values = np.random.default_rng(10).uniform(0, 0.3, size=5)
    p_values[1] = p_values[3]
    sets = [chosen for size in range(1, 6) for chosen in itertools.combinations(range(5), size)]
    naive = [
        min(1.0, max(len(s) * min(p_values[list(s)]) for s in sets if i in s)) for i in range(5)
    ]
    assert holm(p_values) == pytest.approx(naive)


def test_holm_keeps_nan_apart_and_one_test_as_it_is():
    adjusted = holm([0.01, math.nan, 0.04])
    assert adjusted[[0, 2]] == pytest.approx([0.02, 0.04])
    assert math.isnan(adjusted[1])
    assert holm([0.3]) == pytest.approx([0.3])
    assert holm([]).shape == (0,)
