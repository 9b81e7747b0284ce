"""Runs compared on the same samples: differences with intervals, McNemar's test, a figure."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from classification.figures import draw_comparison
from classification.predict import Predictions, read_predictions
from nnunet_triad.errors import UserError
from nnunet_triad.evaluation.bootstrap import paired_bootstrap
from nnunet_triad.evaluation.classification import (
    METRICS,
    num_resamples,
    predicted_of,
    score,
    truth_of,
)
from nnunet_triad.evaluation.statistics import holm, mcnemar
from nnunet_triad.files import check_outputs, write_table


def compare(paths: Sequence[Path], output: Path) -> pd.DataFrame:
    """Compare each run with the first one.

    Writes OUTPUT/comparison.csv and comparison.png.

    Args:
        paths: folders of runs, or tables of predictions, of the same samples.
        output: folder for the table and the figure.

    Returns:
        A row a run and metric: run, against, metric, value, reference, difference, low, high, and
        for accuracy McNemar's p, as it is and corrected for the number of runs by Holm's method.

    Raises:
        UserError: fewer than two runs, or runs of other samples or classes, or the table would
            replace one that is read.
    """
    check_outputs([output / "comparison.csv"], paths)
    runs = read_runs(paths)
    reference_name, reference = next(iter(runs.items()))
    table = pd.DataFrame(
        [
            {"run": name, "against": reference_name, **row}
            for name, run in list(runs.items())[1:]
            for row in differences(run, reference)
        ]
    )
    table["p_holm"] = np.nan
    tested = table["p"].notna()
    table.loc[tested, "p_holm"] = holm(table.loc[tested, "p"])
    write_table(output / "comparison.csv", table, float_format="%.6g")
    draw_comparison(
        output / "comparison.png",
        {name: run.rows for name, run in runs.items()},
        {name: score(run.rows, run.classes, run.subjects) for name, run in runs.items()},
    )
    return table


def differences(run: Predictions, reference: Predictions) -> list[dict[str, object]]:
    """Return for each metric the difference of two runs with its paired 95 % interval."""
    result: list[dict[str, object]] = []
    for metric, function in METRICS.items():
        interval = paired_bootstrap(
            run.rows,
            reference.rows,
            function,
            subjects=run.subjects,
            num_resamples=num_resamples(len(run.rows)),
        )
        p_value = float("nan")
        if metric == "accuracy":
            p_value = mcnemar(*(_is_right(item) for item in (run, reference)))
        result.append(
            {
                "metric": metric,
                "value": function(run.rows),
                "reference": function(reference.rows),
                "difference": interval.estimate,
                "low": interval.low,
                "high": interval.high,
                "p": p_value,
            }
        )
    return result


def read_runs(paths: Sequence[Path]) -> Mapping[str, Predictions]:
    """Read the labelled predictions of several runs, in the same order of samples.

    Raises:
        UserError: fewer than two runs, or runs of other samples or classes.
    """
    if len(paths) < 2:
        raise UserError(f"RUNS: expected two or more runs to compare, got {len(paths)}")
    runs: dict[str, Predictions] = {}
    for path in paths:
        run = _labelled(read_predictions(path), path)
        first = next(iter(runs.values()), run)
        name = path.name if path.is_dir() else path.parent.name
        runs[name if name not in runs else str(path)] = _aligned(run, first, path)
    if len(runs) < len(paths):
        raise UserError("RUNS: expected different runs, got the same one twice")
    return runs


def _labelled(run: Predictions, path: Path) -> Predictions:
    known = run.truth >= 0
    if not known.any():
        raise UserError(
            f"{path}: expected labelled samples, got none; evaluate, not predict, first"
        )
    return _take(run, np.flatnonzero(known))


def _aligned(run: Predictions, first: Predictions, path: Path) -> Predictions:
    """Return the run's samples in the order of the first run's."""
    place = {case: number for number, case in enumerate(run.cases)}
    if set(place) != set(first.cases) or len(run.cases) != len(first.cases):
        raise UserError(
            f"{path}: expected the {len(first.cases)} samples of the first run, got "
            f"{len(run.cases)}, of which {len(set(place) & set(first.cases))} are the same"
        )
    run = _take(run, np.array([place[case] for case in first.cases]))
    if run.classes != first.classes or (run.truth != first.truth).any():
        raise UserError(f"{path}: expected the classes and labels of the first run, got others")
    return run


def _take(run: Predictions, order: np.ndarray) -> Predictions:
    return Predictions(
        classes=run.classes,
        cases=run.cases[order],
        subjects=run.subjects[order],
        splits=run.splits[order],
        truth=run.truth[order],
        probabilities=run.probabilities[order],
    )


def _is_right(run: Predictions) -> np.ndarray:
    return (predicted_of(run.rows) == truth_of(run.rows)).astype(float)
