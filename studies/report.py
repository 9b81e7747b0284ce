"""Figures, tables in Markdown, and the one tidy table of the experiment."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nnunet_triad.files import write_atomically
from studies.design import (
    FINE_TUNINGS,
    MAIN,
    PLAIN,
    PRETRAININGS,
    SCRATCH,
    SLOW_ENCODER,
)
from studies.images import LABELS
from studies.summary import (
    Comparison,
    Repeats,
    compare_all,
    compare_recipes,
    compare_repeats,
    is_ablation,
    iterations_to_scratch,
    ordinary,
    read_trials,
    scores,
    two_way_interval,
)
from studies.task_summary import (
    UNITS,
    TaskComparison,
    compare_tasks,
    read_task_trials,
)

_COLOURS = {
    SCRATCH: "#777777",
    "paper": "#d95f02",
    "masked": "#6baed6",
    "paper-long": "#fdae6b",
    "long": "#08519c",
    "low-rate": "#31a354",
}
_OFFSETS = {
    SCRATCH: 0.92,
    "paper": 0.96,
    "masked": 1.0,
    "paper-long": 1.04,
    "long": 1.08,
    "low-rate": 1.12,
}
_NAMES = {
    SCRATCH: "scratch",
    "paper": "the paper's recipe",
    "masked": "masked recipe",
    "paper-long": "the paper's, 5 x steps",
    "long": "masked, 5 x steps",
    "low-rate": "masked, 5 x steps, rate 1e-4",
}


_MODES = {"linear-probe": "frozen", SLOW_ENCODER: "at a tenth of the rate"}


def write_report(folder: Path, output: Path) -> list[Path]:
    """Write evidence.csv, tasks.csv, tables.md, and the figures of what has been run.

    Args:
        folder: of the experiment.
        output: where to; made when missing.

    Raises:
        UserError: no trial is finished.
    """
    others = read_task_trials(folder)
    if not len(others) or any((folder / "trials").glob("*.csv")):
        table = read_trials(folder)
    else:
        table = pd.DataFrame()
    output.mkdir(parents=True, exist_ok=True)
    comparisons = compare_all(table) if len(table) else []
    task_comparisons = compare_tasks(others)
    text = tables(table, comparisons) if len(table) else ""
    if task_comparisons:
        text += f"\n## Other tasks\n\n{_tasks_table(task_comparisons)}"
    with write_atomically(output / "tables.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    written = [output / "tables.md"]
    if len(table):
        with write_atomically(output / "evidence.csv") as temporary:
            _compact(table).to_csv(temporary, index=False, float_format="%.4f")
        written += [
            output / "evidence.csv",
            draw_labelled(table, output / "labelled.png"),
            draw_ablations(comparisons, output / "ablations.png"),
            draw_curves(table, output / "curves.png"),
        ]
    if len(others):
        with write_atomically(output / "tasks.csv") as temporary:
            others.to_csv(temporary, index=False, float_format="%.4f")
        written += [output / "tasks.csv", draw_tasks(task_comparisons, output / "tasks.png")]
    return written


def _compact(table: pd.DataFrame) -> pd.DataFrame:
    keys = ["encoder", "initialization", "labelled", "finetuning", "is_confirmation", "seed"]
    return table.sort_values([*keys, "iteration", "case", "label"])[
        [*keys, "iteration", "case", "label", "dice"]
    ]


def tables(table: pd.DataFrame, comparisons: list[Comparison]) -> str:
    """Return all tables as Markdown."""
    main = [c for c in comparisons if _is_main(c) and not c.is_confirmation]
    confirmation = [c for c in comparisons if c.is_confirmation]
    ablations = [c for c in comparisons if is_ablation(c)]
    parts = [
        "## By labelled subjects\n",
        _comparison_table(main),
        "\n## On subjects that nothing was chosen on\n",
        _comparison_table(confirmation),
        "\n## By label\n",
        _label_table(table),
        "\n## Iterations to scratch's final Dice\n",
        _iterations_table(table),
        "\n## Ablations\n",
        _comparison_table(ablations),
        "\n## The masked recipe against the paper's\n",
        _recipes_table(compare_recipes(table)),
        "\n## Several pre-trainings, on subjects that nothing was chosen on\n",
        _repeats_table(compare_repeats(table)),
    ]
    return "\n".join(parts) + "\n"


def _is_main(c: Comparison) -> bool:
    return c.initialization in MAIN and c.finetuning == PLAIN


def _comparison_table(rows: list[Comparison]) -> str:
    lines = [
        "| encoder | labelled | pre-training | fine-tuning | seeds | scratch | pre-trained "
        "| difference (95 % interval) | p, Holm |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for c in rows:
        how = FINE_TUNINGS[c.finetuning].title
        lines.append(
            f"| {c.encoder} | {c.labelled} | {PRETRAININGS[c.initialization].title} | {how} "
            f"| {c.num_seeds} | {c.scratch:.3f} | {c.dice:.3f} | {_interval(c)} | {c.p_value:.2g} |"
        )
    return "\n".join(lines) + "\n"


def _recipes_table(rows: list[Comparison]) -> str:
    lines = [
        "| subjects | labelled | steps | seeds | the paper's | masked | masked - the paper's "
        "(95 % interval) | p, Holm |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for c in sorted(rows, key=lambda c: (c.is_confirmation, c.initialization, c.labelled)):
        subjects = "new" if c.is_confirmation else "first"
        steps = "five times" if c.initialization == "long" else "plain"
        lines.append(
            f"| {subjects} | {c.labelled} | {steps} | {c.num_seeds} | {c.scratch:.3f} "
            f"| {c.dice:.3f} | {_interval(c)} | {c.p_value:.2g} |"
        )
    return "\n".join(lines) + "\n"


def _repeats_table(rows: list[Repeats]) -> str:
    lines = [
        "| labelled | pre-trainings | fine-tuning seeds | scratch | pre-trained "
        "| difference (95 % interval) |",
        "|---|---|---|---|---|---|",
    ]
    for r in rows:
        labelled = ", ".join(map(str, r.labelled))
        seeds = ", ".join(str(PRETRAININGS[name].seed) for name in r.pretrainings)
        lines.append(
            f"| {labelled} | seed {seeds} | {r.num_seeds} | {r.scratch:.3f} | {r.dice:.3f} "
            f"| {_interval(r)} |"
        )
    return "\n".join(lines) + "\n"


def _tasks_table(rows: list[TaskComparison]) -> str:
    lines = [
        "| task | pre-training | seeds | before | scratch | pre-trained "
        "| difference (95 % interval) | p, Holm |",
        "|---" * 8 + "|",
    ]
    for c in rows:
        how = _MODES.get(c.mode, "fine-tuned")
        unit = " mm" if c.task == "registration" else ""
        before = "" if np.isnan(c.before) else f"{c.before:.3f}{unit}"
        lines.append(
            f"| {c.task}: {c.network}, {how} | {_NAMES[c.initialization]} | {c.num_seeds} "
            f"| {before} | {c.scratch:.3f}{unit} | {c.pretrained:.3f}{unit} "
            f"| {_interval(c)} | {c.p_value:.2g} |"
        )
    return "\n".join(lines) + "\n"


def _interval(c: Comparison | Repeats | TaskComparison) -> str:
    d = c.difference
    # One seed's interval knows nothing of the others.
    mark = "**" if c.num_seeds > 1 and (d.low > 0 or d.high < 0) else ""
    return f"{mark}{d.estimate:+.3f}{mark} ({d.low:+.3f} to {d.high:+.3f})"


def _label_table(table: pd.DataFrame) -> str:
    lines = [
        "| encoder | labelled | pre-training | " + " | ".join(LABELS) + " |",
        "|---" * (3 + len(LABELS)) + "|",
    ]
    by_label = {label: compare_all(table, label=label) for label in LABELS}
    for index, c in enumerate(by_label[LABELS[0]]):
        if _is_main(c) and not c.is_confirmation:
            found = [by_label[name][index] for name in LABELS]
            cells = [f"{f.dice:.2f} ({f.difference.estimate:+.3f})" for f in found]
            title = PRETRAININGS[c.initialization].title
            lines.append(f"| {c.encoder} | {c.labelled} | {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _iterations_table(table: pd.DataFrame) -> str:
    rows = iterations_to_scratch(table)
    rows = rows[rows.initialization.isin(MAIN)]
    last = int(table.iteration.max())
    lines = ["| encoder | labelled | pre-training | iterations |", "|---|---|---|---|"]
    for encoder, labelled, name, reached in rows.itertuples(index=False):
        text = f"not within {last}" if np.isnan(reached) else f"{reached:.0f} of {last}"
        lines.append(f"| {encoder} | {labelled} | {PRETRAININGS[name].title} | {text} |")
    return "\n".join(lines) + "\n"


def draw_labelled(table: pd.DataFrame, path: Path) -> Path:
    """Draw Dice against the number of labelled subjects, a panel an encoder."""
    final = scores(ordinary(table))
    final = final[final.initialization.isin(list(_COLOURS))]
    encoders = sorted(final.encoder.unique(), reverse=True)
    figure = Figure(figsize=(5 * len(encoders), 3.8), layout="constrained")
    axes = figure.subplots(1, len(encoders), squeeze=False)
    for axis, encoder in zip(axes[0], encoders, strict=True):
        part = final[final.encoder == encoder]
        for name, offset in _OFFSETS.items():
            _draw_line(axis, part[part.initialization == name], name, offset)
        ticks = sorted(part.labelled.unique())
        axis.set_xscale("log", base=2)
        axis.set_xticks(ticks, [str(n) for n in ticks])
        axis.set_xlim(0.8 * ticks[0], 1.25 * max(ticks[-1], 2))
        axis.set(title=encoder, xlabel="labelled subjects", ylabel="mean Dice")
        axis.grid(alpha=0.3)
    _legend(figure, [name for name in _NAMES if (final.initialization == name).any()])
    return _save(figure, path)


def _legend(figure: Figure, names: Sequence[str]) -> None:
    handles = [
        Line2D([], [], color=_COLOURS[name], marker="o", label=_NAMES[name]) for name in names
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)


def _draw_line(axis: Axes, rows: pd.DataFrame, name: str, offset: float) -> None:
    groups = {int(str(labelled)): group for labelled, group in rows.groupby("labelled")}
    intervals = [
        two_way_interval(g.pivot_table(index="seed", columns="case", values="dice").to_numpy())
        for g in groups.values()
    ]
    if not intervals:
        return
    x = [labelled * offset for labelled in groups]
    y = np.array([interval.estimate for interval in intervals])
    low = y - np.array([interval.low for interval in intervals])
    high = np.array([interval.high for interval in intervals]) - y
    axis.errorbar(
        x,
        y,
        yerr=np.stack([low, high]),
        color=_COLOURS[name],
        label=_NAMES[name],
        marker="o",
        capsize=3,
    )


def draw_ablations(comparisons: list[Comparison], path: Path) -> Path:
    """Draw the difference to scratch of each pre-training, with its interval."""
    rows = [c for c in comparisons if is_ablation(c)]
    rows.sort(key=lambda c: c.difference.estimate)
    figure = Figure(figsize=(8, 0.4 * len(rows) + 1.4), layout="constrained")
    axis = figure.subplots()
    for y, c in enumerate(rows):
        d = c.difference
        colour = _COLOURS.get(c.initialization, "#444444")
        axis.plot([d.low, d.high], [y, y], color=colour, lw=2)
        axis.plot(d.estimate, y, "o", color=colour)
    axis.axvline(0, color="black", lw=0.8)
    axis.set_yticks(range(len(rows)), [_title(c) for c in rows])
    axis.set_xlabel("difference of mean Dice to scratch, 95 % interval")
    axis.grid(axis="x", alpha=0.3)
    return _save(figure, path)


def draw_tasks(comparisons: list[TaskComparison], path: Path) -> Path:
    """Draw the difference to scratch of the other tasks, a panel a task; right is better."""
    tasks = [task for task in UNITS if any(c.task == task for c in comparisons)]
    most = max([sum(c.task == task for c in comparisons) for task in tasks], default=1)
    figure = Figure(figsize=(5 * max(1, len(tasks)), 1.3 + 0.3 * most), layout="constrained")
    axes = figure.subplots(1, max(1, len(tasks)), squeeze=False)[0]
    for axis, task in zip(axes, tasks, strict=False):
        rows = [c for c in comparisons if c.task == task]
        for y, c in enumerate(rows):
            colour = _COLOURS[c.initialization]
            axis.plot([c.difference.low, c.difference.high], [y, y], color=colour, lw=2)
            axis.plot(c.difference.estimate, y, "o", color=colour)
        axis.axvline(0, color="black", lw=0.8)
        names = [", ".join(filter(None, (c.network, _MODES.get(c.mode)))) for c in rows]
        axis.set_yticks(range(len(rows)), names)
        axis.set_ylim(-0.6, len(rows) - 0.4)
        axis.set(title=task, xlabel=f"{UNITS[task]}, difference (right: better)")
        axis.grid(axis="x", alpha=0.3)
        if task == "registration":
            axis.invert_xaxis()
    _legend(figure, list(dict.fromkeys(c.initialization for c in comparisons)))
    return _save(figure, path)


def _title(c: Comparison) -> str:
    how = f"; {FINE_TUNINGS[c.finetuning].title}" if c.finetuning != PLAIN else ""
    return PRETRAININGS[c.initialization].title + how


def draw_curves(table: pd.DataFrame, path: Path) -> Path:
    """Draw the mean Dice against iterations, on the subjects that are measured early."""
    plain = ordinary(table)
    early = plain[plain.iteration < plain.iteration.max()].case.unique()
    plain = plain[plain.case.isin(early) & plain.initialization.isin(list(_COLOURS))]
    settings = sorted(
        set(zip(plain.encoder, plain.labelled, strict=True)), key=lambda s: (s[0], s[1])
    )
    columns = min(4, len(settings))
    lines = -(-len(settings) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.8 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    for axis in axes.flat[len(settings) :]:
        axis.set_axis_off()
    for axis, (encoder, labelled) in zip(axes.flat, settings, strict=False):
        part = plain[(plain.encoder == encoder) & (plain.labelled == labelled)]
        for name, group in part.groupby("initialization"):
            curve = group.groupby("iteration").dice.mean()
            axis.plot(curve.index, curve, "o-", color=_COLOURS[str(name)])
        axis.set_title(f"{encoder}, {labelled} labelled", fontsize=10)
        axis.set(xlabel="iteration", ylabel="mean Dice")
        axis.grid(alpha=0.3)
    _legend(figure, [name for name in _NAMES if (plain.initialization == name).any()])
    return _save(figure, path)


def _save(figure: Figure, path: Path) -> Path:
    FigureCanvasAgg(figure)
    with write_atomically(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    return path
