"""Linear models and neighbours by nested cross-validation over subjects, with scikit-learn."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedGroupKFold
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from nnunet_triad.features.targets import Targets

# Of equal values the first is taken: the strongest penalty, the most neighbours.
PENALTIES = tuple(10.0**power for power in range(-4, 3))  # inverse strengths of logistic models
STRENGTHS = tuple(10.0**power for power in range(5, -3, -1))  # of ridge models
NEIGHBOURS = (20, 10, 5, 3, 1)

Split = tuple[NDArray[np.intp], NDArray[np.intp]]  # rows to learn from, rows to predict
Made = tuple[Any, Mapping[str, Sequence[Any]]]  # a model, and the values that are tried


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What one kind of model says of each case, learnt from other subjects.

    Attributes:
        scores: (n, k) of the classes, the largest is predicted; (n, 1) numbers.
        chosen: in words, the value of each outer fold.
    """

    scores: NDArray[np.float64]
    chosen: tuple[str, ...]


def _linear(_: int) -> Made:
    model = LogisticRegression(max_iter=5000, class_weight="balanced")
    return model, {"C": PENALTIES}


def _ridge_classes(_: int) -> Made:
    return RidgeClassifier(class_weight="balanced"), {"alpha": STRENGTHS}


def _ridge(_: int) -> Made:
    return Ridge(), {"alpha": STRENGTHS}


def _neighbours(kind: Callable[[], Any]) -> Callable[[int], Made]:
    def make(most: int) -> Made:
        numbers = [number for number in NEIGHBOURS if number <= most] or [1]
        return kind(), {"n_neighbors": numbers}

    return make


# name -> what makes a model, for the number of cases of the smallest training set
CLASSIFIERS: dict[str, Callable[[int], Made]] = {
    "linear": _linear,
    "ridge": _ridge_classes,
    "knn": _neighbours(KNeighborsClassifier),
}
REGRESSORS: dict[str, Callable[[int], Made]] = {
    "ridge": _ridge,
    "knn": _neighbours(KNeighborsRegressor),
}


def probes_for(targets: Targets) -> dict[str, Callable[[int], Made]]:
    """Return the models of a task by name."""
    return CLASSIFIERS if targets.classes else REGRESSORS


def divide(targets: Targets, folds: int, *, seed: int) -> list[Split]:
    """Divide cases into folds, such that no subject is in two of them.

    Classes are spread evenly, as far as subjects allow.

    Args:
        targets: with at least as many subjects as folds, of each class.
        folds: how many.
        seed: of the division.
    """
    kind = StratifiedGroupKFold if targets.classes else GroupKFold
    splitter = kind(folds, shuffle=True, random_state=seed)
    rows = np.zeros((len(targets), 1))
    return list(splitter.split(rows, targets.truth, targets.subjects))


def predict_nested(
    values: NDArray[np.floating],
    targets: Targets,
    make: Callable[[int], Made],
    *,
    outer: Sequence[Split],
    inner_folds: int,
    seed: int,
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64], str]]:
    """Predict each outer fold by a model that was learnt, and chosen, on the others.

    Within the training subjects of a fold the penalty, or the number of neighbours, is chosen by a
    cross-validation of its own: by balanced accuracy, or the squared error. Standardisation, and
    the mean that stands for what is missing, come from the training cases alone.

    Args:
        values: (n, d) features; NaN where a region is missing.
        targets: (n,).
        make: one of `probes_for`.
        outer: from `divide`.
        inner_folds: at most; fewer where a class has fewer subjects.
        seed: of the inner division.

    Yields:
        For each fold its rows, their scores (see `Prediction`), and what was chosen.
    """
    for train, test in outer:
        is_train = np.zeros(len(targets), bool)
        is_train[train] = True
        inside = targets.take(is_train)
        rows = values[is_train]
        folds = min(inner_folds, least_subjects(inside))
        inner = divide(inside, folds, seed=seed)
        model, grid = make(min(len(part) for part, _ in inner))
        (name,) = grid
        steps = [
            ("fill", SimpleImputer(keep_empty_features=True)),
            ("scale", StandardScaler()),
            ("model", model),
        ]
        search = GridSearchCV(
            Pipeline(steps),
            {f"model__{name}": list(grid[name])},
            scoring="balanced_accuracy" if targets.classes else "neg_mean_squared_error",
            cv=inner,
            error_score="raise",
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true")
            search.fit(rows, inside.truth)
        scores = _scores(search, values[test], len(targets.classes))
        yield test, scores, f"{name} {search.best_params_[f'model__{name}']:g}"


def least_subjects(targets: Targets) -> int:
    """Return the number of subjects, or that of the class with fewest."""
    if not targets.classes:
        return len(set(targets.subjects))
    return min(
        len(set(targets.subjects[targets.truth == value])) for value in np.unique(targets.truth)
    )


def _scores(model: Any, rows: NDArray[np.floating], num_classes: int) -> NDArray[np.float64]:
    if not num_classes:
        return np.asarray(model.predict(rows), np.float64)[:, None]
    if hasattr(model, "predict_proba"):
        known = model.predict_proba(rows)
    else:
        known = model.decision_function(rows)
        known = np.column_stack([-known, known]) if known.ndim == 1 else known
    # a class without training cases has the least of scores
    scores = np.full((len(rows), num_classes), min(0.0, known.min()))
    scores[:, model.classes_.astype(int)] = known
    return scores
