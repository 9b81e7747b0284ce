"""From predictions to metrics with intervals, rows of the tidy table, and figures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from classification.figures import draw_calibration, draw_confusion, draw_roc
from classification.predict import PREDICTIONS_NAME, Predictions, write_predictions
from nnunet_triad.errors import UserError
from nnunet_triad.evaluation.classification import Score, score
from nnunet_triad.evaluation.results import Result, append_results
from nnunet_triad.files import write_table

METRICS_NAME = "metrics.csv"
RESULTS_NAME = "results.csv"
_FIGURES = ("confusion.png", "roc.png", "calibration.png")


@dataclass(frozen=True, kw_only=True)
class RunName:
    """How a run is called in tables and figures."""

    dataset: str
    architecture: str
    initialization: str
    seed: int = 0

    @property
    def title(self) -> str:
        """The name above figures."""
        return f"{self.dataset}: {self.architecture}, {self.initialization}, seed {self.seed}"


def written_files(output: Path) -> list[Path]:
    """Return the files that `evaluate` writes."""
    return [output / name for name in (PREDICTIONS_NAME, METRICS_NAME, RESULTS_NAME, *_FIGURES)]


def evaluate(predictions: Predictions, output: Path, *, name: RunName) -> list[Score]:
    """Score labelled predictions; write tables and figures.

    Writes OUTPUT/predictions.csv, metrics.csv (each metric with its 95 % interval), results.csv
    (the tidy table, a row a case and value), confusion.png, roc.png and calibration.png.

    Returns:
        The metrics.

    Raises:
        UserError: no sample has a label.
    """
    rows = predictions.rows
    if not len(rows):
        raise UserError("label: expected labels to score against, got none; use predict instead")
    known = predictions.truth >= 0
    scores = score(rows, predictions.classes, predictions.subjects[known])
    write_predictions(output / PREDICTIONS_NAME, predictions)
    write_table(output / METRICS_NAME, to_table(scores), float_format="%.6g")
    (output / RESULTS_NAME).unlink(missing_ok=True)  # of this run alone: not twice
    append_results(output / RESULTS_NAME, tidy_rows(predictions, name))
    draw_confusion(output / "confusion.png", rows, predictions.classes, title=name.title)
    draw_roc(output / "roc.png", rows, predictions.classes, scores, title=name.title)
    draw_calibration(output / "calibration.png", rows, scores, title=name.title)
    return scores


def to_table(scores: Sequence[Score]) -> pd.DataFrame:
    """Return a row a metric: metric, label, value, low, high, samples."""
    return pd.DataFrame(
        [
            {
                "metric": item.metric,
                "label": item.label,
                "value": item.interval.estimate,
                "low": item.interval.low,
                "high": item.interval.high,
                "samples": item.interval.num_cases,
            }
            for item in scores
        ]
    )


def tidy_rows(predictions: Predictions, name: RunName) -> Iterator[Result]:
    """Yield the tidy table's rows: for each case whether it is right, and each class's probability.

    `correct` carries the true class as its label; `probability` the class that it is of. Every
    metric follows from them.
    """
    chosen = predictions.probabilities.argmax(axis=1)
    for number, truth in enumerate(predictions.truth):
        if truth < 0:
            continue
        shared: dict[str, Any] = {
            "task": "classification",
            "dataset": name.dataset,
            "architecture": name.architecture,
            "initialization": name.initialization,
            "fold": 0,
            "case": str(predictions.cases[number]),
            "subject": str(predictions.subjects[number]),
            "seed": name.seed,
        }
        is_right = float(chosen[number] == truth)
        yield Result(**shared, label=predictions.classes[truth], metric="correct", value=is_right)
        for label, value in zip(
            predictions.classes, predictions.probabilities[number], strict=True
        ):
            yield Result(**shared, label=label, metric="probability", value=float(value))


def format_scores(scores: Sequence[Score]) -> str:
    """Return the metrics as lines of text."""
    lines = []
    for item in scores:
        interval = item.interval
        title = f"{item.metric} {item.label}".strip()
        lines.append(
            f"{title:32s} {interval.estimate:.3f}  ({interval.low:.3f} to {interval.high:.3f})"
        )
    return "\n".join(lines)
