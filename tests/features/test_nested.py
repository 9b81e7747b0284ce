"""Nested cross-validation beside loops over scikit-learn's models, by hand."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import balanced_accuracy_score, mean_squared_error, r2_score
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold
from sklearn.neighbors import KNeighborsClassifier

from nnunet_triad.errors import UserError
from nnunet_triad.evaluation.regression import correlation, mean_absolute_error, r_squared
from nnunet_triad.features.nested import NEIGHBOURS, PENALTIES, STRENGTHS
from nnunet_triad.features.probe import run_probe
from nnunet_triad.features.settings import ProbeSettings
from nnunet_triad.features.targets import Targets

FOLDS, INNER = 4, 3
SETTINGS = ProbeSettings(folds=FOLDS, inner_folds=INNER, resamples=100, split_seed=3)


def problem(kind: str, *, n: int = 60, seed: int = 0) -> tuple[np.ndarray, Targets]:
    """Two cases a subject, whose features tell something of the target."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(n, 8))
    number = values[:, 0] + 0.5 * values[:, 1] + random.normal(size=n)
    is_class = kind == "classes"
    truth = np.digitize(number, [-0.5, 0.6]).astype(float) if is_class else number
    subjects = np.array([f"s{place // 2:02d}" for place in range(n)])
    names = ("low", "middle", "high") if is_class else ()
    return values, Targets(
        truth=truth, classes=names, cases=np.arange(n).astype(str), subjects=subjects
    )


def by_hand(values, targets, models, score, splitter):
    """Return predictions of the outer folds and the numbers of the models that were chosen."""
    outer = splitter(FOLDS, shuffle=True, random_state=3)
    predicted, chosen = [None] * len(values), []
    for train, test in outer.split(values, targets.truth, targets.subjects):
        x, y, groups = values[train], targets.truth[train], targets.subjects[train]
        inner = list(splitter(INNER, shuffle=True, random_state=3).split(x, y, groups))
        means = []
        for model in models:
            scores = []
            for a, b in inner:
                mean, sd = x[a].mean(0), x[a].std(0)
                model.fit((x[a] - mean) / sd, y[a])
                scores.append(score(y[b], model.predict((x[b] - mean) / sd)))
            means.append(np.mean(scores))
        best = models[int(np.argmax(means))]
        mean, sd = x.mean(0), x.std(0)
        best.fit((x - mean) / sd, y)
        shown = (values[test] - mean) / sd
        found = best.predict_proba(shown) if targets.classes else best.predict(shown)
        for place, one in zip(test, found, strict=True):
            predicted[place] = one
        chosen.append(int(np.argmax(means)))
    return np.array(predicted), chosen


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("probe", ["linear", "knn", "ridge"])
def test_predictions_are_those_of_nested_loops(probe: str):
    kind = "numbers" if probe == "ridge" else "classes"
    values, targets = problem(kind)
    models = {
        "linear": [LogisticRegression(C=c, class_weight="balanced") for c in PENALTIES],
        "knn": [KNeighborsClassifier(k) for k in NEIGHBOURS if k <= 30],
        "ridge": [Ridge(alpha) for alpha in STRENGTHS],
    }[probe]
    score = balanced_accuracy_score if targets.classes else lambda y, p: -mean_squared_error(y, p)
    splitter = StratifiedGroupKFold if targets.classes else GroupKFold
    expected, chosen = by_hand(values, targets, models, score, splitter)
    result = run_probe({"encoder": values}, targets, SETTINGS, is_quiet=True)
    found = result.predictions["encoder", probe]
    assert [float(text.split()[1]) for text in found.chosen] == [
        getattr(models[place], "C", getattr(models[place], "alpha", None))
        or models[place].n_neighbors
        for place in chosen
    ]
    np.testing.assert_allclose(found.scores.squeeze(), expected, atol=2e-4)


def test_no_subject_is_learnt_from_and_predicted():
    values, targets = problem("classes")
    result = run_probe({"encoder": values}, targets, SETTINGS, is_quiet=True)
    for subject in set(targets.subjects):
        assert len(set(result.folds[targets.subjects == subject])) == 1
    assert sorted(set(result.folds)) == list(range(FOLDS))


def test_target_in_the_features_is_told_and_noise_is_not():
    values, targets = problem("numbers", n=80)
    noise = np.random.default_rng(9).normal(size=(80, 5))
    sets = {"encoder": np.column_stack([targets.truth, values]), "random weights": noise}
    result = run_probe(sets, targets, SETTINGS, is_quiet=True)
    scores = result.scores.set_index(["features", "probe", "metric"])["value"]
    assert scores["encoder", "ridge", "r2"] > 0.99
    assert scores["random weights", "ridge", "r2"] < 0.15
    verdicts = result.differences.set_index(["probe", "metric"])["verdict"]
    assert set(verdicts) == {"above"}  # smaller errors, too
    rows = result.to_table().query("features == 'encoder' and probe == 'ridge'")
    expected = r2_score(rows["target"], rows["predicted"])
    assert scores["encoder", "ridge", "r2"] == pytest.approx(expected)


def test_missing_regions_are_filled_from_training_cases_alone():
    values, targets = problem("numbers")
    values[::7, 0] = np.nan
    values[:, 7] = np.nan
    result = run_probe({"encoder": values}, targets, SETTINGS, is_quiet=True)
    assert np.isfinite(result.predictions["encoder", "ridge"].scores).all()


def test_division_that_leaves_one_subject_of_a_class_is_refused():
    values, targets = problem("classes", n=12)
    truth = np.repeat([0.0, 0, 0, 0, 1, 1], 2)
    rare = Targets(truth=truth, classes=("a", "b"), cases=targets.cases, subjects=targets.subjects)
    with pytest.raises(UserError, match="expected two subjects of each class in every training"):
        run_probe({"encoder": values}, rare, ProbeSettings(folds=2), is_quiet=True)


def test_metrics_of_numbers_are_scikit_learn_s_and_numpy_s():
    random = np.random.default_rng(0)
    rows = random.normal(size=(50, 2)) @ [[1, 0.6], [0, 1]]
    assert r_squared(rows) == pytest.approx(r2_score(rows[:, 0], rows[:, 1]))
    assert mean_absolute_error(rows) == pytest.approx(np.mean(np.abs(rows[:, 0] - rows[:, 1])))
    assert correlation(rows) == pytest.approx(np.corrcoef(rows.T)[0, 1])
    same = np.ones((3, 2))
    assert np.isnan(r_squared(same))
    assert np.isnan(correlation(same))
