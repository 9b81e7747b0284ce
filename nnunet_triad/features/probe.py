"""A probe: what frozen features tell of a target, and what the floors tell without them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from nnunet_triad.errors import UserError
from nnunet_triad.evaluation import regression
from nnunet_triad.evaluation.bootstrap import bootstrap_interval, paired_bootstrap
from nnunet_triad.evaluation.classification import (
    Rows,
    accuracy,
    as_rows,
    balanced_accuracy,
    macro_auc,
)
from nnunet_triad.features.feature_sets import ENCODER
from nnunet_triad.features.nested import (
    Prediction,
    Split,
    divide,
    least_subjects,
    predict_nested,
    probes_for,
)
from nnunet_triad.features.settings import ProbeSettings
from nnunet_triad.features.targets import Targets

Metric = Callable[[Rows], float]
Row = tuple[tuple[str, str], Rows]  # (features, probe), truths and scores
CLASS_METRICS: dict[str, Metric] = {
    "balanced_accuracy": balanced_accuracy,
    "auc": macro_auc,
    "accuracy": accuracy,
}
LOWER_IS_BETTER = ("mae",)


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """Predictions and what is made of them.

    Attributes:
        targets: of the cases.
        folds: (n,), the outer fold of each.
        predictions: (features, probe) -> what was predicted.
        scores: features, probe, metric, value, low, high, num_cases, chosen.
        differences: of the encoder from each floor: floor, probe, metric, difference, low, high.
    """

    targets: Targets
    folds: NDArray[np.intp]
    predictions: Mapping[tuple[str, str], Prediction]
    scores: pd.DataFrame
    differences: pd.DataFrame

    def to_table(self) -> pd.DataFrame:
        """Return a row a case, set of features and probe."""
        names = self.targets.classes
        parts = []
        for (features, probe), one in self.predictions.items():
            part = pd.DataFrame(
                {
                    "case": self.targets.cases,
                    "subject": self.targets.subjects,
                    "fold": self.folds,
                    "features": features,
                    "probe": probe,
                }
            )
            if names:
                part["target"] = [names[int(value)] for value in self.targets.truth]
                part["predicted"] = [names[place] for place in one.scores.argmax(axis=1)]
                for number, name in enumerate(names):
                    part[f"score_{name}"] = one.scores[:, number]
            else:
                part["target"] = self.targets.truth
                part["predicted"] = one.scores[:, 0]
            parts.append(part)
        return pd.concat(parts, ignore_index=True)


def metrics_for(targets: Targets) -> dict[str, Metric]:
    """Return the metrics of a task by name; the first is that of charts."""
    return CLASS_METRICS if targets.classes else regression.METRICS


def run_probe(
    sets: Mapping[str, NDArray[np.float64]],
    targets: Targets,
    settings: ProbeSettings,
    *,
    is_quiet: bool = False,
) -> ProbeResult:
    """Probe sets of features on the same folds, and compare the encoder's with the others.

    Intervals are of the bootstrap over subjects on what was predicted of each case by models that
    never saw its subject. They hold for these models; that another division into folds gives other
    models is not in them.

    Args:
        sets: name -> (n, d); one is the encoder's.
        targets: checked by `check_folds`.
        settings: of the probe.
        is_quiet: show no progress bar.
    """
    outer = divide(targets, settings.folds, seed=settings.split_seed)
    _check_training_sets(targets, outer)
    folds = np.zeros(len(targets), np.intp)
    for number, (_, test) in enumerate(outer):
        folds[test] = number
    probes = probes_for(targets)
    predictions: dict[tuple[str, str], Prediction] = {}
    total = len(sets) * len(probes) * len(outer)
    with tqdm(total=total, desc="probe", unit="fold", disable=is_quiet) as bar:
        for name, values in sets.items():
            for probe, make in probes.items():
                scores = np.zeros((len(targets), max(1, len(targets.classes))))
                chosen = []
                for test, found, value in predict_nested(
                    values,
                    targets,
                    make,
                    outer=outer,
                    inner_folds=settings.inner_folds,
                    seed=settings.split_seed,
                ):
                    scores[test] = found
                    chosen.append(value)
                    bar.update()
                predictions[name, probe] = Prediction(scores=scores, chosen=tuple(chosen))
    rows = {key: as_rows(targets.truth, one.scores) for key, one in predictions.items()}
    return ProbeResult(
        targets=targets,
        folds=folds,
        predictions=predictions,
        scores=_score(_shown(rows, "intervals", is_quiet), predictions, targets, settings),
        differences=_compare(_shown(rows, "differences", is_quiet), rows, targets, settings),
    )


def _check_training_sets(targets: Targets, outer: Sequence[Split]) -> None:
    """Refuse a division that leaves a class too few subjects to choose by, as few do."""
    for train, _ in outer:
        inside = targets.take(np.isin(np.arange(len(targets)), train))
        is_whole = set(inside.truth) == set(targets.truth) or not targets.classes
        if not is_whole or least_subjects(inside) < 2:
            raise UserError(
                f"folds: expected two subjects of each class in every training set, got fewer "
                f"with {len(outer)} folds; use other --folds, or leave a rare class empty",
                setting="folds",
            )


def _shown(rows: Mapping[tuple[str, str], Rows], what: str, is_quiet: bool) -> Iterable[Row]:
    """Return the items with a progress bar: two thousand draws each take a while."""
    bar: Iterable[Row] = tqdm(rows.items(), desc=what, unit="probe", disable=is_quiet)
    return bar


def _score(
    shown: Iterable[Row],
    predictions: Mapping[tuple[str, str], Prediction],
    targets: Targets,
    settings: ProbeSettings,
) -> pd.DataFrame:
    found = []
    for (name, probe), one in shown:
        for metric, function in metrics_for(targets).items():
            interval = bootstrap_interval(
                one, function, subjects=targets.subjects, num_resamples=settings.resamples
            )
            found.append(
                {
                    "features": name,
                    "probe": probe,
                    "metric": metric,
                    "value": interval.estimate,
                    "low": interval.low,
                    "high": interval.high,
                    "num_cases": interval.num_cases,
                    "chosen": ", ".join(predictions[name, probe].chosen),
                }
            )
    return pd.DataFrame(found)


def _compare(
    shown: Iterable[Row],
    rows: Mapping[tuple[str, str], Rows],
    targets: Targets,
    settings: ProbeSettings,
) -> pd.DataFrame:
    found = []
    for (name, probe), floor in shown:
        if name == ENCODER:
            continue
        for metric, function in metrics_for(targets).items():
            interval = paired_bootstrap(
                rows[ENCODER, probe],
                floor,
                function,
                subjects=targets.subjects,
                num_resamples=settings.resamples,
            )
            sign = -1 if metric in LOWER_IS_BETTER else 1
            found.append(
                {
                    "floor": name,
                    "probe": probe,
                    "metric": metric,
                    "difference": interval.estimate,
                    "low": interval.low,
                    "high": interval.high,
                    "verdict": _verdict(sign * interval.low, sign * interval.high),
                }
            )
    return pd.DataFrame(found)


def _verdict(one: float, other: float) -> str:
    """Say on which side of zero an interval of the encoder's gain lies."""
    if min(one, other) > 0:
        return "above"
    return "below" if max(one, other) < 0 else "not told apart"
