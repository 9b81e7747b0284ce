"""Confusion matrices and ROC curves from the results table of classifications."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nnunet_triad.benchmark.report.data import Model


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """The probabilities of one classifier on one dataset."""

    dataset: str
    model: Model
    classes: tuple[str, ...]
    probabilities: NDArray[np.float64]  # (cases, classes)
    truths: NDArray[np.intp]  # (cases,), places in `classes`

    @property
    def confusion(self) -> NDArray[np.intp]:
        """Counts, (true class, predicted class)."""
        counts = np.zeros((len(self.classes),) * 2, dtype=np.intp)
        np.add.at(counts, (self.truths, self.probabilities.argmax(axis=1)), 1)
        return counts

    def roc(self) -> tuple[NDArray[np.float64], NDArray[np.float64], float] | None:
        """Return false and true positive rates and the area; None when it is not defined.

        Of two classes, the second one's. Of more, the average of one against the rest over the
        classes that have both positive and negative cases (macro average, as in scikit-learn).
        """
        from sklearn.metrics import auc, roc_curve

        places = [1] if len(self.classes) == 2 else range(len(self.classes))
        grid = np.linspace(0, 1, 201)
        curves = []
        for place in places:
            positive = self.truths == place
            if positive.any() and not positive.all():
                false_rate, true_rate, _ = roc_curve(positive, self.probabilities[:, place])
                curves.append((false_rate, true_rate))
        if not curves:
            return None
        area = float(np.mean([auc(false, true) for false, true in curves]))
        if len(curves) == 1:
            return (*curves[0], area)
        mean = np.mean([np.interp(grid, false, true) for false, true in curves], axis=0)
        return np.concatenate([[0], grid]), np.concatenate([[0], mean]), area


def predictions(table: pd.DataFrame) -> list[Predictions]:
    """Return the predictions of each dataset and model that has probabilities and true classes.

    Repeats with several seeds are averaged. The true class is the label of a case's `correct` row.
    """
    rows = table[table["task"] == "classification"]
    keys = ["dataset", "architecture", "initialization"]
    found = [_predictions(group) for _, group in rows.groupby(keys, sort=False)]
    return [item for item in found if item is not None]


def _predictions(rows: pd.DataFrame) -> Predictions | None:
    chances = rows[rows["metric"] == "probability"]
    truths = rows[rows["metric"] == "correct"].drop_duplicates("case").set_index("case")["label"]
    wide = chances.pivot_table(index="case", columns="label", values="value", sort=False)
    wide = wide.loc[[case for case in wide.index if case in truths.index]].dropna()
    classes = tuple(map(str, wide.columns))
    known = [case for case in wide.index if truths[case] in classes]
    if not known or len(classes) < 2:
        return None
    first = rows.iloc[0]
    return Predictions(
        dataset=str(first["dataset"]),
        model=Model(architecture=first["architecture"], initialization=first["initialization"]),
        classes=classes,
        probabilities=wide.loc[known].to_numpy(dtype=np.float64),
        truths=np.array([classes.index(truths[case]) for case in known]),
    )
