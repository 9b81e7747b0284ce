"""Figures of a classification: confusion matrix, ROC curves, calibration, and runs side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from nnunet_triad.evaluation.classification import (
    NUM_BINS,
    Rows,
    Score,
    confusion,
    predicted_of,
    truth_of,
)
from nnunet_triad.files import save_figure

_CURVE_POINTS = np.linspace(0, 1, 201)  # false positive rates of averaged curves
_MAX_ANNOTATED = 15  # classes up to which cells carry their counts
_COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999",
    "#882255", "#117733", "#332288",
)  # fmt: skip  # Okabe and Ito's, then Tol's: apart for colour-blind readers


def draw_confusion(path: Path, rows: Rows, classes: Sequence[str], *, title: str) -> Path:
    """Draw the confusion matrix: shares of the true class as colour, counts as text.

    Source: Figure 5b of the paper; with counts, names, and the recall of each class.
    """
    counts = confusion(rows)
    totals = counts.sum(axis=1)
    shares = counts / np.maximum(totals, 1)[:, None]
    edge = max(3.6, 1.4 + 0.62 * len(classes))
    figure = Figure(figsize=(edge + 1.0, edge), layout="constrained")
    axis = figure.subplots()
    picture = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(picture, ax=axis, label="share of the true class", shrink=0.8)
    axis.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor")
    names = [f"{name} ({total})" for name, total in zip(classes, totals, strict=True)]
    axis.set_yticks(range(len(classes)), names)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true (samples)")
    axis.set_title(title, fontsize=9)
    if len(classes) <= _MAX_ANNOTATED:
        _annotate(axis, counts, shares)
    return save_figure(figure, path)


def draw_roc(
    path: Path, rows: Rows, classes: Sequence[str], scores: Sequence[Score], *, title: str
) -> Path:
    """Draw each class's ROC curve against the rest, with its area and interval.

    With two classes the curves are one another's mirror image, and only the second is drawn.
    """
    areas = {item.label: item.interval for item in scores if item.metric == "auc"}
    shown = range(len(classes)) if len(classes) > 2 else [1]
    figure = Figure(figsize=(5.2, 5.0), layout="constrained")
    axis = figure.subplots()
    for number in shown:
        area = areas.get(classes[number], areas[""])
        is_class = truth_of(rows) == number
        if not 0 < is_class.sum() < len(rows):
            continue
        false_rate, true_rate, _ = roc_curve(is_class, rows[:, 1 + number])
        label = f"{classes[number]}: {area.estimate:.2f} ({area.low:.2f} to {area.high:.2f})"
        axis.plot(false_rate, true_rate, color=_colour(number), label=label)
    _finish_roc(axis, title, "class: AUC (95 % interval)")
    return save_figure(figure, path)


def draw_calibration(path: Path, rows: Rows, scores: Sequence[Score], *, title: str) -> Path:
    """Draw accuracy over confidence in bins, with intervals, and the number of samples in each."""
    error = next(item.interval for item in scores if item.metric == "calibration_error")
    confidences = rows[:, 1:].max(axis=1)
    hits = truth_of(rows) == predicted_of(rows)
    bins = np.minimum((confidences * NUM_BINS).astype(int), NUM_BINS - 1)
    figure = Figure(figsize=(5.0, 5.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfect")
    for number in np.unique(bins):
        inside = bins == number
        low, high = _wilson(int(hits[inside].sum()), int(inside.sum()))
        place = confidences[inside].mean()
        upper.plot([place, place], [low, high], color=_COLOURS[0], alpha=0.5)
        upper.plot(place, hits[inside].mean(), "o", color=_COLOURS[0])
    upper.set_ylim(-0.02, 1.02)
    upper.set_ylabel("accuracy in the bin (95 % interval)")
    upper.set_title(f"{title}\nexpected calibration error {error.estimate:.3f}", fontsize=9)
    upper.legend(loc="upper left", fontsize=8)
    lower.hist(confidences, bins=np.linspace(0, 1, NUM_BINS + 1), color=_COLOURS[0])
    lower.set_xlabel("confidence: probability of the predicted class")
    lower.set_ylabel("samples")
    for axis in (upper, lower):
        axis.grid(alpha=0.3)
    return save_figure(figure, path)


def draw_comparison(
    path: Path, runs: Mapping[str, Rows], scores: Mapping[str, Sequence[Score]]
) -> Path:
    """Draw runs side by side: their mean ROC curves, and their metrics with intervals.

    Source: Figure 5c and 5d of the paper; with intervals.
    """
    figure = Figure(figsize=(11.0, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for number, (name, rows) in enumerate(runs.items()):
        left.plot(_CURVE_POINTS, mean_roc(rows), color=_colour(number), label=name)
    _finish_roc(left, "mean of the classes' curves against the rest", None)
    names = ["accuracy", "balanced_accuracy", "macro_f1", "auc"]
    for number, (name, items) in enumerate(scores.items()):
        chosen = {item.metric: item.interval for item in items if not item.label}
        places = np.arange(len(names)) + 0.7 * ((number + 0.5) / len(scores) - 0.5)
        values = [chosen[metric] for metric in names]
        spread = [
            [value.estimate - value.low for value in values],
            [value.high - value.estimate for value in values],
        ]
        right.errorbar(
            places,
            [value.estimate for value in values],
            yerr=np.maximum(spread, 0),
            fmt="o",
            capsize=3,
            color=_colour(number),
            label=name,
        )
    right.set_xticks(range(len(names)), [name.replace("_", " ") for name in names])
    right.set_ylim(None, 1.02)
    right.set_title("95 % bootstrap intervals over subjects", fontsize=9)
    right.grid(alpha=0.3, axis="y")
    return save_figure(figure, path)


def draw_training(path: Path, table: "dict[str, np.ndarray]") -> Path:
    """Draw loss and validation accuracy over the epochs; the log's columns by name."""
    figure = Figure(figsize=(8.0, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(table["epoch"], table["loss"], color=_COLOURS[0], label="training")
    left.plot(table["epoch"], table["val_loss"], color=_COLOURS[1], label="validation")
    left.set_ylabel("loss")
    right.plot(table["epoch"], table["val_accuracy"], color=_COLOURS[1], label="accuracy")
    right.plot(
        table["epoch"], table["val_balanced_accuracy"], color=_COLOURS[2], label="balanced accuracy"
    )
    right.set_ylabel("on validation")
    right.set_ylim(-0.02, 1.02)
    for axis in (left, right):
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    return save_figure(figure, path)


def mean_roc(rows: Rows) -> np.ndarray:
    """Return the mean true positive rate of the classes at `_CURVE_POINTS`."""
    curves = []
    for number in range(rows.shape[1] - 1):
        is_class = truth_of(rows) == number
        if 0 < is_class.sum() < len(rows):
            false_rate, true_rate, _ = roc_curve(is_class, rows[:, 1 + number])
            curves.append(np.interp(_CURVE_POINTS, false_rate, true_rate))
            curves[-1][0] = 0.0
    return np.mean(curves, axis=0)


def _annotate(axis: Axes, counts: np.ndarray, shares: np.ndarray) -> None:
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shares[row, column] > 0.55 else "black"
            axis.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=9)


def _finish_roc(axis: Axes, title: str, legend: str | None) -> None:
    axis.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
    axis.set_xlim(-0.01, 1.01)
    axis.set_ylim(-0.01, 1.01)
    axis.set_aspect("equal")
    axis.set_xlabel("false positive rate")
    axis.set_ylabel("true positive rate")
    axis.set_title(title, fontsize=9)
    axis.grid(alpha=0.3)
    axis.legend(title=legend, fontsize=8, title_fontsize=8, loc="lower right")


def _wilson(hits: int, number: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share."""
    z = 1.959964
    share = hits / number
    centre = (share + z**2 / (2 * number)) / (1 + z**2 / number)
    half = z / (1 + z**2 / number) * np.sqrt(share * (1 - share) / number + z**2 / (4 * number**2))
    return float(centre - half), float(centre + half)


def _colour(number: int) -> str:
    return to_hex(_COLOURS[number % len(_COLOURS)])
