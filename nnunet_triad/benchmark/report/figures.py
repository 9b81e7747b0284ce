"""Which charts a task's section has, after the paper's figures."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from markupsafe import Markup

from nnunet_triad.benchmark.paper import GROUPS, members
from nnunet_triad.benchmark.report.charts import (
    draw_bars,
    draw_boxes,
    draw_forest,
    draw_radar,
    draw_roc,
)
from nnunet_triad.benchmark.report.classes import Predictions, predictions
from nnunet_triad.benchmark.report.data import Sample, architecture_name
from nnunet_triad.benchmark.report.scores import Scores
from nnunet_triad.benchmark.report.svg import SvgMaker
from nnunet_triad.benchmark.report.tables import TaskTables
from nnunet_triad.weights.origins import TRIAD

_UNITS = {"segmentation": "Dice (%)", "classification": "accuracy (%)", "registration": "Dice (%)"}
_MIN_SPOKES = 3


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """A confusion matrix as a table."""

    dataset: str
    model: str
    classes: tuple[str, ...]
    counts: list[list[int]]  # true, predicted
    shares: list[list[float]]  # of the true class


@dataclass(frozen=True, kw_only=True)
class TaskFigures:
    """SVG elements and matrices of one task."""

    forest: Markup | None = None
    bars: list[Markup] = field(default_factory=list)
    radars: list[Markup] = field(default_factory=list)
    roc: list[Markup] = field(default_factory=list)
    boxes: list[Markup] = field(default_factory=list)
    confusions: list[Confusion] = field(default_factory=list)


def make_figures(
    tables: TaskTables, scores: Scores, table: pd.DataFrame, svg: SvgMaker
) -> TaskFigures:
    """Draw what there are numbers for."""
    task = tables.task
    mine = [sample for sample in scores.samples if sample.task == task]
    found = predictions(table) if task == "classification" else []
    return TaskFigures(
        forest=_forest(tables, scores, svg),
        bars=_bars(tables, svg),
        radars=_radars(mine, svg) if task == "segmentation" else [],
        roc=_roc(found, svg),
        boxes=_boxes(mine, svg) if task == "registration" else [],
        confusions=[_confusion(item) for item in sorted(found, key=_confusion_order)],
    )


def _bars(tables: TaskTables, svg: SvgMaker) -> list[Markup]:
    unit = _UNITS[tables.task]
    names = list(dict.fromkeys(score.scope for score in tables.datasets))
    return [
        Markup(draw_bars(svg, [s for s in tables.datasets if s.scope == n], title=n, unit=unit))
        for n in names
    ]


def _forest(tables: TaskTables, scores: Scores, svg: SvgMaker) -> Markup | None:
    """Differences to Scratch, where there are any."""
    pairs = [
        pair
        for pair in tables.tests
        if pair.ours is not None
        and pair.second == scores.scratch_of(tables.task, pair.scope, pair.first)
    ]
    return Markup(draw_forest(svg, pairs)) if pairs else None


def _radars(samples: Sequence[Sample], svg: SvgMaker) -> list[Markup]:
    """One an architecture and group, over the labels of all its datasets (Fig. 3d and 4)."""
    result = []
    for architecture in dict.fromkeys(sample.model.architecture for sample in samples):
        mine = [s for s in samples if s.model.architecture == architecture]
        for group, names in _radar_groups(mine):
            chosen = [s for s in mine if s.dataset in names]
            spokes = list(dict.fromkeys((s.dataset, x) for s in chosen for x in s.labels))
            if len(spokes) >= _MIN_SPOKES:
                title = f"{architecture_name(architecture)}, {group}"
                result.append(Markup(draw_radar(svg, chosen, title=title, spokes=spokes)))
    return result


def _radar_groups(samples: Sequence[Sample]) -> list[tuple[str, set[str]]]:
    """Return the paper's two domains, and each dataset that is not the paper's on its own."""
    names = list(dict.fromkeys(sample.dataset for sample in samples))
    domains = {group: set(members("segmentation", group)) for group in GROUPS}
    groups = [
        (group, domains[group] & set(names))
        for group in ("within-domain", "out-of-domain")
        if domains[group] & set(names)
    ]
    return [*groups, *((name, {name}) for name in names if name not in domains["all"])]


def _roc(found: Sequence[Predictions], svg: SvgMaker) -> list[Markup]:
    result = []
    for dataset in dict.fromkeys(item.dataset for item in found):
        mine = [item for item in found if item.dataset == dataset]
        curves = {
            item.model.name: (item.model.initialization, *curve)
            for item in mine
            if (curve := item.roc()) is not None
        }
        if curves:
            result.append(Markup(draw_roc(svg, curves, title=dataset)))
    return result


def _boxes(samples: Sequence[Sample], svg: SvgMaker) -> list[Markup]:
    grouped: dict[str, list[Sample]] = {}
    for sample in samples:
        title = f"{sample.dataset}, {architecture_name(sample.model.architecture)}"
        grouped.setdefault(title, []).append(sample)
    return [Markup(draw_boxes(svg, mine, title=title)) for title, mine in grouped.items()]


def _confusion(item: Predictions) -> Confusion:
    counts = item.confusion
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return Confusion(
        dataset=item.dataset,
        model=item.model.name,
        classes=item.classes,
        counts=counts.tolist(),
        shares=(counts / totals).round(3).tolist(),
    )


def _confusion_order(item: Predictions) -> tuple[str, bool, bool]:
    """Sort Swin-B with Triad first, which the paper shows (Fig. 5b)."""
    return (
        item.dataset,
        item.model.architecture != "swin_b",
        item.model.initialization != TRIAD.name,
    )
