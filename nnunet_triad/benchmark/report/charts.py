"""The report's charts: bars and radar charts (Fig. 3 and 4), ROC curves (5), box plots (6)."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from nnunet_triad.benchmark.report.data import (
    Sample,
    architecture_name,
    initialization_name,
    ordered,
)
from nnunet_triad.benchmark.report.scores import Difference, Score
from nnunet_triad.benchmark.report.svg import INK, LINE, MUTED, SvgMaker


def draw_bars(svg: SvgMaker, scores: Sequence[Score], *, title: str, unit: str) -> str:
    """Draw a bar a model with its interval, by architecture; the paper's value is a dotted line.

    Args:
        svg: makes the element.
        scores: of one scope; those that were not run are left out.
        title: over the chart.
        unit: at the value axis.
    """
    shown = [score for score in scores if score.ours is not None]
    architectures = list(dict.fromkeys(score.model.architecture for score in shown))
    with svg.figure(3.7, 2.5) as figure:
        axes = figure.subplots()
        for place, architecture in enumerate(architectures):
            _draw_group(
                svg, axes, place, [s for s in shown if s.model.architecture == architecture]
            )
        axes.set_xticks(range(len(architectures)), [_short(a) for a in architectures])
        axes.tick_params(axis="x", length=0, labelcolor=INK)
        axes.set_ylim(0, 100)
        axes.set_ylabel(unit)
        axes.set_title(title, loc="left", weight="bold")
        axes.grid(axis="y", linewidth=0.5)
        axes.set_axisbelow(True)
    spoken = "; ".join(f"{score.model.name}: {_spoken(score)}" for score in shown)
    return svg.render(figure, label=f"Bar chart, {title}, {unit}. {spoken}")


def draw_radar(
    svg: SvgMaker, samples: Sequence[Sample], *, title: str, spokes: Sequence[tuple[str, str]]
) -> str:
    """Draw one polygon an initialisation over the categories of several datasets.

    Args:
        svg: makes the element.
        samples: of one architecture; each dataset and initialisation once.
        title: over the chart.
        spokes: (dataset, label), at least three.
    """
    angles = np.linspace(0, 2 * np.pi, len(spokes), endpoint=False)
    by_key = {(s.dataset, s.model.initialization): s for s in samples}
    names = list(dict.fromkeys(sample.model.initialization for sample in samples))
    run = {(sample.dataset, sample.model.initialization) for sample in samples}
    spoken, drawn = [], list[float]()
    with svg.figure(4.6, 4.6) as figure:
        axes = figure.subplots(subplot_kw={"projection": "polar"})
        for name in names:
            values = [_label_value(by_key.get((d, name)), label) for d, label in spokes]
            closed = [*zip(angles, values, strict=True), (angles[0], values[0])]
            axes.plot(*zip(*closed, strict=True), color=svg.colour(name), linewidth=1.5)
            texts = [
                f"{_spoke(spoke)} {_spoken_value(value) if (spoke[0], name) in run else 'not run'}"
                for spoke, value in zip(spokes, values, strict=True)
            ]
            spoken.append(f"{initialization_name(name)}: {', '.join(texts)}")
            drawn += values
        axes.set_xticks(angles, _spoke_names(spokes))
        axes.tick_params(axis="x", labelsize=7, labelcolor=INK, pad=4)
        rings = _rings(drawn)
        axes.set_ylim(rings[0], 100)
        axes.set_yticks(rings, [f"{ring}" for ring in rings], fontsize=7)
        axes.spines["polar"].set_visible(False)
        axes.grid(linewidth=0.5)
        axes.set_title(title, weight="bold")
    return svg.render(figure, label=f"Radar chart of Dice in percent, {title}. {'. '.join(spoken)}")


def draw_roc(
    svg: SvgMaker,
    curves: Mapping[str, tuple[str, NDArray[np.float64], NDArray[np.float64], float]],
    *,
    title: str,
) -> str:
    """Draw receiver operating characteristics.

    Args:
        svg: makes the element.
        curves: model's name -> (initialisation, false positive rates, true positive rates, area).
        title: over the chart.
    """
    with svg.figure(3.7, 3.7) as figure:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=LINE, linewidth=0.8, linestyle=":")
        styles: dict[str, str] = {}
        for name, (initialization, false_rate, true_rate, area) in curves.items():
            architecture = name.split(",")[0]
            styles.setdefault(architecture, ("-", "--", "-.", ":")[len(styles) % 4])
            axes.plot(
                false_rate,
                true_rate,
                color=svg.colour(initialization),
                linestyle=styles[architecture],
                linewidth=1.5,
                label=f"{name}: {area:.3f}",
            )
        axes.set_xlim(-0.01, 1.01)
        axes.set_ylim(-0.01, 1.01)
        axes.set_xlabel("false positive rate")
        axes.set_ylabel("true positive rate")
        axes.set_aspect("equal")
        axes.set_title(title, loc="left", weight="bold")
        axes.legend(title="area under the curve", fontsize=7, title_fontsize=7, loc="lower right")
    spoken = "; ".join(f"{name}: area {curve[3]:.3f}" for name, curve in curves.items())
    return svg.render(figure, label=f"ROC curves, {title}. {spoken}")


def draw_boxes(svg: SvgMaker, samples: Sequence[Sample], *, title: str) -> str:
    """Draw a box of the cases' Dice a structure and initialisation (median, quartiles, 1.5 IQR).

    Args:
        svg: makes the element.
        samples: of one dataset and architecture.
        title: over the chart.
    """
    labels = ordered({label for s in samples for label in s.labels}, samples[0].labels)
    height = 0.14 * len(samples)
    with svg.figure(5.2, 0.9 + len(labels) * (height + 0.1)) as figure:
        axes = figure.subplots()
        step = 0.8 / len(samples)
        for number, sample in enumerate(samples):
            colour = svg.colour(sample.model.initialization)
            columns = [_known(sample, label) for label in labels]
            places = [row + (number - (len(samples) - 1) / 2) * step for row in range(len(labels))]
            axes.boxplot(
                columns,
                positions=places,
                widths=0.85 * step,
                orientation="horizontal",
                patch_artist=True,
                manage_ticks=False,
                boxprops={"facecolor": colour, "edgecolor": colour, "alpha": 0.75},
                medianprops={"color": INK, "linewidth": 1.2},
                whiskerprops={"color": colour},
                capprops={"color": colour},
                flierprops={"markersize": 2, "markeredgecolor": colour},
            )
        axes.set_yticks(range(len(labels)), [label or "all" for label in labels])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_xlim(right=100)
        axes.set_xlabel("Dice (%)")
        axes.set_title(title, loc="left", weight="bold")
        axes.grid(axis="x", linewidth=0.5)
        axes.set_axisbelow(True)
    spoken = "; ".join(f"{s.model.name}: {_spoken_medians(s, labels)}" for s in samples)
    return svg.render(figure, label=f"Box plots of Dice in percent, {title}. Medians: {spoken}")


def draw_forest(svg: SvgMaker, pairs: Sequence[Difference]) -> str:
    """Draw each pair's difference with its interval, a row a dataset and architecture.

    Args:
        svg: makes the element.
        pairs: with differences; all to the same kind of second model.
    """
    rows = list(dict.fromkeys((pair.scope, pair.first.architecture) for pair in pairs))
    spoken = []
    with svg.figure(5.0, 0.8 + 0.42 * len(rows)) as figure:
        axes = figure.subplots()
        axes.axvline(0, color=MUTED, linewidth=1)
        for row, key in enumerate(rows):
            mine = [pair for pair in pairs if (pair.scope, pair.first.architecture) == key]
            for number, pair in enumerate(mine):
                assert pair.ours is not None
                y = row + (number - (len(mine) - 1) / 2) * 0.6 / len(mine)
                colour = svg.colour(pair.first.initialization)
                axes.plot([pair.ours.low, pair.ours.high], [y, y], color=colour, linewidth=2)
                axes.plot(pair.ours.estimate, y, "o", color=colour, markersize=5)
                name = initialization_name(pair.first.initialization)
                value = _spoken_value(pair.ours.estimate, "+.1f")
                spoken.append(f"{key[0]}, {_flat(key[1])}, {name} {value}")
        axes.set_yticks(range(len(rows)), [f"{d}\n{_flat(a)}" for d, a in rows])
        axes.tick_params(axis="y", length=0, labelcolor=INK, labelsize=8)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel("difference to Scratch (percentage points)")
        axes.grid(axis="x", linewidth=0.5)
        axes.set_axisbelow(True)
    return svg.render(figure, label=f"Differences to Scratch, in points. {'; '.join(spoken)}")


def _spoke_names(spokes: Sequence[tuple[str, str]]) -> list[str]:
    """Return dataset and label below each other; the label alone where there is one dataset."""
    names = [label.replace("_", " ") for _, label in spokes]
    if len({dataset for dataset, _ in spokes}) == 1 and all(names):
        return names
    return [f"{d}\n{name}" if name else d for (d, _), name in zip(spokes, names, strict=True)]


def _rings(values: Sequence[float]) -> list[int]:
    """Return the values of a radar chart's rings; the first one is its centre."""
    known = [value for value in values if not math.isnan(value)]
    centre = max(0, int(min(known, default=0) // 10 - 1) * 10)
    return list(range(centre, 101, 10 if centre >= 50 else 25))


def _draw_group(svg: SvgMaker, axes: Axes, place: int, scores: Sequence[Score]) -> None:
    width = 0.8 / len(scores)
    for number, score in enumerate(scores):
        assert score.ours is not None
        x = place + (number - (len(scores) - 1) / 2) * width
        colour = svg.colour(score.model.initialization)
        axes.bar(x, score.ours.estimate, width * 0.9, color=colour)
        if not math.isnan(score.ours.low):
            axes.plot([x, x], [score.ours.low, score.ours.high], color=INK, linewidth=1)
        if score.paper is not None:
            half = width * 0.45
            axes.plot([x - half, x + half], [score.paper.value] * 2, color=MUTED, linestyle=":")


def _short(architecture: str) -> str:
    return architecture_name(architecture).split(" (")[0].replace(", ", "\n")


def _flat(architecture: str) -> str:
    return _short(architecture).replace("\n", " ")


def _spoken(score: Score) -> str:
    assert score.ours is not None
    return _spoken_value(score.ours.estimate, ".1f")


def _spoken_value(value: float, form: str = ".0f") -> str:
    """Return a number as a screen reader says it; no case may have had a defined one."""
    return "no value" if math.isnan(value) else f"{value:{form}}"


def _label_value(sample: Sample | None, label: str) -> float:
    if sample is None or label not in sample.labels:
        return math.nan
    known = _known(sample, label)
    return float(known.mean()) if len(known) else math.nan


def _known(sample: Sample, label: str) -> NDArray[np.float64]:
    """Return one label's values in percent, without those that are undefined."""
    if label not in sample.labels:
        return np.empty(0)
    values = 100 * sample.column(label)
    return values[~np.isnan(values)]


def _spoke(spoke: tuple[str, str]) -> str:
    dataset, label = spoke
    return f"{dataset} {label}" if label else dataset


def _spoken_medians(sample: Sample, labels: Sequence[str]) -> str:
    known = {label: _known(sample, label) for label in labels}
    return ", ".join(f"{label} {np.median(v):.0f}" for label, v in known.items() if len(v))
