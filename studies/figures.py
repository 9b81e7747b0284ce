"""The figures of the studies."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nnunet_triad.files import save_figure
from studies.design import (
    DATA,
    EXCHANGED,
    FINETUNE,
    INSIDE,
    PLAIN,
    PRETRAININGS,
    SCRATCH,
    TRAININGS,
)
from studies.summary import (
    AXES,
    Comparison,
    compare,
    compare_axes,
    ordinary,
    scores,
    two_way_interval,
)

_COLOURS = {
    SCRATCH: "#777777",
    "paper": "#d95f02",
    "masked": "#6baed6",
    "paper-long": "#fdae6b",
    "long": "#08519c",
    "low-rate": "#31a354",
    "real-spark": "#08519c",
}
_OTHER_COLOUR = "#444444"
_NAMES = {
    SCRATCH: "scratch",
    "paper": "the paper's recipe",
    "masked": "masked recipe",
    "paper-long": "the paper's, 5 x steps",
    "long": "masked, 5 x steps",
    "low-rate": "masked, 5 x steps, rate 1e-4",
    "real-spark": "spark on 208 unlabelled volumes",
}
# Inside nnU-Net: the axes that an encoder sees, by training.
_ARMS = {SCRATCH: "scratch", EXCHANGED: "axes\nexchanged", INSIDE: "axes as\npre-trained"}
_UNITS = {
    "segmentation": "mean Dice",
    "classification": "accuracy",
    "registration": "endpoint error, mm",
}


def draw_labelled(table: pd.DataFrame, path: Path) -> Path:
    """Draw Dice against the number of labelled subjects, a panel an encoder.

    Args:
        table: rows of one set of subjects, fine-tuned alike.
        path: the picture.
    """
    final = scores(table)
    encoders = sorted(final.network.unique(), reverse=True)
    figure = Figure(figsize=(5 * max(1, len(encoders)), 3.8), layout="constrained")
    axes = figure.subplots(1, max(1, len(encoders)), squeeze=False)[0]
    for axis, encoder in zip(axes, encoders, strict=False):
        part = final[final.network == encoder]
        present = [name for name in _NAMES if name in set(part.initialization)]
        for place, name in enumerate(present):
            _draw_line(axis, part[part.initialization == name], name, 0.92 + 0.04 * place)
        ticks = sorted(part.labelled.unique())
        axis.set_xscale("log", base=2)
        axis.set_xticks(ticks, [str(n) for n in ticks])
        axis.set_xlim(0.8 * ticks[0], 1.25 * max(ticks[-1], 2))
        axis.set(title=encoder, xlabel="labelled subjects", ylabel="mean Dice")
        axis.grid(alpha=0.3)
    _legend(figure, final)
    return save_figure(figure, path)


def _legend(figure: Figure, rows: pd.DataFrame) -> None:
    present = set(rows.initialization)
    handles = [
        Line2D([], [], color=_COLOURS[name], marker="o", label=title)
        for name, title in _NAMES.items()
        if name in present
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)


def _draw_line(axis: Axes, rows: pd.DataFrame, name: str, offset: float) -> None:
    groups = {int(str(labelled)): group for labelled, group in rows.groupby("labelled")}
    if not groups:
        return
    intervals = [
        two_way_interval(g.pivot_table(index="seed", columns="case", values="value").to_numpy())
        for g in groups.values()
    ]
    low, y, high = np.array([(i.low, i.estimate, i.high) for i in intervals]).T
    x = [labelled * offset for labelled in groups]
    axis.errorbar(x, y, yerr=[y - low, high - y], color=_COLOURS[name], marker="o", capsize=3)


def draw_curves(table: pd.DataFrame, path: Path) -> Path:
    """Draw the mean Dice against iterations, on the subjects that are measured early."""
    plain = ordinary(table)
    early = plain[plain.iteration < plain.iteration.max()].case.unique()
    plain = plain[plain.case.isin(early) & plain.initialization.isin(list(_COLOURS))]
    panels = list(plain.groupby(["network", "labelled"]))
    columns = max(1, min(4, len(panels)))
    lines = max(1, -(-len(panels) // columns))
    figure = Figure(figsize=(3.2 * columns, 2.8 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).flat
    for axis in axes:
        axis.set_axis_off()
    for axis, ((network, labelled), part) in zip(axes, panels, strict=False):
        axis.set_axis_on()
        for name, group in part.groupby("initialization"):
            curve = group.groupby("iteration").value.mean()
            axis.plot(curve.index, curve, "o-", color=_COLOURS[str(name)])
        axis.set_title(f"{network}, {labelled} labelled", fontsize=10)
        axis.set(xlabel="iteration", ylabel="mean Dice")
        axis.grid(alpha=0.3)
    _legend(figure, plain)
    return save_figure(figure, path)


def draw_differences(panels: Mapping[str, Sequence[Comparison]], path: Path) -> Path:
    """Draw the differences to scratch with their intervals, a panel each title; right is better."""
    shown = {title: found for title, found in panels.items() if found}
    most = max(map(len, shown.values()), default=1)
    width = max(1, len(shown))
    figure = Figure(figsize=(8 if width == 1 else 7 * width, 0.4 * most + 1.4))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(1, width, squeeze=False)[0]
    for axis, (title, found) in zip(axes, shown.items(), strict=False):
        _draw_differences(axis, title, found)
    return save_figure(figure, path)


def _draw_differences(axis: Axes, title: str, found: Sequence[Comparison]) -> None:
    task = DATA[found[0].data].task
    for y, c in enumerate(found):
        colour = _COLOURS.get(c.initialization, _OTHER_COLOUR)
        axis.plot([c.difference.low, c.difference.high], [y, y], color=colour, lw=2)
        axis.plot(c.difference.estimate, y, "o", color=colour)
    axis.axvline(0, color="black", lw=0.8)
    axis.set_yticks(range(len(found)), [_name(c) for c in found], fontsize=8)
    axis.set_ylim(-0.6, len(found) - 0.4)
    axis.set(title=title, xlabel=f"{_UNITS[task]}, difference to scratch, 95 % interval")
    axis.grid(axis="x", alpha=0.3)
    if task == "registration":
        axis.invert_xaxis()


def _name(c: Comparison) -> str:
    parts = [PRETRAININGS[c.initialization].title]
    if c.training not in (PLAIN, FINETUNE):
        parts.append(TRAININGS[c.training].title)
    if DATA[c.data].is_real and c.labelled != (0,):
        return f"{c.network}, {c.labelled[0]} labelled; {'; '.join(parts)}"
    if DATA[c.data].task != "segmentation":
        parts.insert(0, c.network)
    return "; ".join(parts)


def draw_axes(table: pd.DataFrame, path: Path) -> Path:
    """Draw a line a seed through the three initialisations, a panel a network; the differences."""
    final = scores(table[table.data == AXES])
    arm = final.training.where(final.initialization != SCRATCH, SCRATCH)
    by_seed = final.assign(arm=arm)
    networks = sorted(final.network.unique(), reverse=True)
    figure = Figure(figsize=(3.8 * len(networks) + 6, 3.6), layout="constrained")
    ratios = [1.0] * len(networks) + [1.5]
    axes = figure.subplots(1, len(ratios), squeeze=False, width_ratios=ratios)[0]
    for axis, network in zip(axes, networks, strict=False):
        part = by_seed[by_seed.network == network]
        lines = part.pivot_table(index="seed", columns="arm", values="value")[list(_ARMS)]
        axis.plot(list(_ARMS.values()), lines.T, "o-", color="#9ecae1", markersize=4)
        axis.plot(list(_ARMS.values()), lines.mean(), "_", color="black", markersize=22)
        axis.set(title=network, ylabel="mean Dice")
        axis.margins(x=0.15)
        axis.grid(axis="y", alpha=0.3)
    _draw_axes_differences(axes[-1], table)
    return save_figure(figure, path)


def _draw_axes_differences(axis: Axes, table: pd.DataFrame) -> None:
    found = [
        *((f"{_ARMS[c.training]} - scratch", c) for c in compare(table, (AXES,))),
        *((f"{_ARMS[INSIDE]} - {_ARMS[EXCHANGED]}", c) for c in compare_axes(table)),
    ]
    found = [(f"{c.network}: {' '.join(name.split())}", c) for name, c in found]
    found.sort(key=lambda pair: pair[1].network)
    for y, (_, c) in enumerate(found):
        axis.plot([c.difference.low, c.difference.high], [y, y], color="#08519c", lw=2)
        axis.plot(c.difference.estimate, y, "o", color="#08519c")
    axis.axvline(0, color="black", lw=0.8)
    axis.set_yticks(range(len(found)), [name for name, _ in found], fontsize=8)
    axis.set(xlabel="mean Dice, difference, 95 % interval")
    axis.grid(axis="x", alpha=0.3)
