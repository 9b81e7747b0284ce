"""Metrics against scikit-learn and against values counted by hand; intervals by subject."""

import numpy as np
import pytest
from sklearn import metrics as reference

from nnunet_triad.evaluation.classification import (
    accuracy,
    as_rows,
    aucs,
    balanced_accuracy,
    calibration_error,
    confusion,
    macro_auc,
    macro_f1,
    predicted_of,
    recalls,
    score,
    truth_of,
)

CLASSES = ("a", "b", "c", "d")


def random_rows(seed, *, n=60, k=4, ties=False):
    random = np.random.default_rng(seed)
    truth = random.integers(k, size=n)
    logits = random.normal(size=(n, k)) + 1.2 * np.eye(k)[truth]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if ties:
        shares = np.round(shares, 1) + 1e-3
        shares /= shares.sum(axis=1, keepdims=True)
    return as_rows(truth, shares)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_metrics_are_scikit_learns(seed, ties):
    rows = random_rows(seed, ties=ties)
    truth, predicted, shares = truth_of(rows), predicted_of(rows), rows[:, 1:]
    assert accuracy(rows) == pytest.approx(reference.accuracy_score(truth, predicted))
    expected = reference.balanced_accuracy_score(truth, predicted)
    assert balanced_accuracy(rows) == pytest.approx(expected)
    expected = reference.f1_score(truth, predicted, average="macro")
    assert macro_f1(rows) == pytest.approx(expected)
    expected = reference.roc_auc_score(truth, shares, multi_class="ovr")
    assert macro_auc(rows) == pytest.approx(expected)
    np.testing.assert_allclose(
        recalls(rows), reference.recall_score(truth, predicted, average=None)
    )
    np.testing.assert_array_equal(confusion(rows), reference.confusion_matrix(truth, predicted))


def test_a_class_that_is_never_true_is_left_out_as_in_scikit_learn():
    rows = random_rows(0)
    rows = rows[rows[:, 0] != 2]
    truth, predicted = truth_of(rows), predicted_of(rows)
    assert 2 in predicted
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        expected = reference.balanced_accuracy_score(truth, predicted)
    assert balanced_accuracy(rows) == pytest.approx(expected)
    expected = reference.f1_score(truth, predicted, average="macro")
    assert macro_f1(rows) == pytest.approx(expected)
    assert np.isnan(recalls(rows)[2])
    assert np.isnan(aucs(rows)[2])
    assert macro_auc(rows) == pytest.approx(np.nanmean(aucs(rows)))


def test_metrics_of_five_samples_are_those_counted_by_hand():
    """Truth a a a b b; predicted a b a b b."""
    shares = [[0.9, 0.1], [0.4, 0.6], [0.7, 0.3], [0.2, 0.8], [0.45, 0.55]]
    rows = as_rows(np.array([0, 0, 0, 1, 1]), np.array(shares))
    assert accuracy(rows) == pytest.approx(4 / 5)
    assert balanced_accuracy(rows) == pytest.approx((2 / 3 + 1) / 2)
    assert macro_f1(rows) == pytest.approx((2 * 2 / (3 + 2) + 2 * 2 / (2 + 3)) / 2)
    # Of the six pairs (b, a) five have the higher probability of b at b.
    np.testing.assert_allclose(aucs(rows), [5 / 6, 5 / 6])


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    """Ten samples of confidence 0.85, six of them right; ten of 0.55, all right."""
    shares = np.array([[0.85, 0.15]] * 10 + [[0.55, 0.45]] * 10)
    truth = np.array([0] * 6 + [1] * 4 + [0] * 10)
    expected = (10 * (0.85 - 0.6) + 10 * (1 - 0.55)) / 20
    assert calibration_error(as_rows(truth, shares)) == pytest.approx(expected)


def test_scores_have_an_interval_for_all_and_for_each_class():
    rows = random_rows(1)
    scores = score(rows, CLASSES, np.arange(len(rows)).astype(str), times=100)
    found = {(item.metric, item.label): item.interval for item in scores}
    assert len(found) == 5 + 2 * 4
    for (metric, label), interval in found.items():
        assert interval.low <= interval.estimate <= interval.high or metric == "calibration_error"
        if metric == "recall":
            expected = recalls(rows)[CLASSES.index(label)]
            assert interval.estimate == pytest.approx(expected)
        if metric == "auc" and label:
            assert interval.estimate == pytest.approx(aucs(rows)[CLASSES.index(label)])


def test_intervals_draw_whole_subjects():
    """Each subject's samples repeated four times: the interval of subjects does not shrink."""
    rows = random_rows(2, n=30)
    subjects = np.arange(30).astype(str)
    once = score(rows, CLASSES, subjects, times=300)[0].interval
    repeated = np.repeat(rows, 4, axis=0)
    by_subject = score(repeated, CLASSES, np.repeat(subjects, 4), times=300)[0].interval
    by_sample = score(repeated, CLASSES, np.arange(120).astype(str), times=300)[0].interval
    width = once.high - once.low
    assert by_subject.high - by_subject.low == pytest.approx(width, rel=0.15)
    assert by_sample.high - by_sample.low < 0.7 * width


def test_two_classes_have_one_auc() -> None:
    share = np.linspace(0.1, 0.9, 8)
    rows = np.column_stack([np.arange(8) % 2, 1 - share, share])
    scores = score(rows, ("no", "yes"), np.arange(8), times=10)
    (only,) = [item for item in scores if item.metric == "auc"]
    assert only.label == ""
    expected = reference.roc_auc_score(rows[:, 0], share)
    assert only.interval.estimate == pytest.approx(expected)
