"""Tables and a figure of the classification of phantoms; see `classification_phantom`.

Seeds: a metric is the mean over the seeds' metrics; a resample draws test subjects, with the
predictions of all seeds for each. The interval says how far other test subjects would move the
number; how far other seeds would is the standard deviation beside it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from classification.evaluate import RESULTS_NAME, RunName, tidy_rows
from classification.figures import save_figure
from classification.metrics import (
    Rows,
    accuracy,
    as_rows,
    balanced_accuracy,
    macro_auc,
    macro_f1,
    predicted_of,
    recalls,
    truth_of,
)
from classification.predict import PREDICTIONS_NAME, Predictions, read_predictions
from nnunet_triad.evaluation.bootstrap import Interval, bootstrap_interval, paired_bootstrap
from nnunet_triad.evaluation.results import Result, append_results
from nnunet_triad.evaluation.statistics import holm, mcnemar

METRICS = {"accuracy": accuracy, "macro F1": macro_f1, "AUC": macro_auc}
_RESAMPLES = 1000
_COLOURS = {
    "scratch": "#0072B2",
    "triad": "#D55E00",
    "triad-masked": "#009E73",
    "triad-masked-long": "#CC79A7",
}
_GROUP = ["task", "encoder", "mode", "initialization", "remedy"]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs that differ in their seed alone, on the same test samples."""

    seeds: tuple[Predictions, ...]

    @property
    def subjects(self) -> NDArray[np.str_]:
        """Of the test samples, (n,)."""
        return self.seeds[0].subjects

    def rows(self, times: int = 0) -> NDArray[np.float64]:
        """Return (n, seeds x (1 + k)): the seeds' rows side by side; one seed is repeated.

        Args:
            times: how many seeds at most, and how often a single one stands there.
        """
        seeds = self.seeds * max(1, times) if len(self.seeds) == 1 else self.seeds[: times or None]
        return np.concatenate([seed.rows for seed in seeds], axis=1)

    def ensemble_is_right(self) -> NDArray[np.float64]:
        """Return (n,), 1 where the mean of the seeds' probabilities is highest for the truth."""
        mean = np.mean([seed.probabilities for seed in self.seeds], axis=0)
        rows = as_rows(self.seeds[0].truth, mean)
        return (predicted_of(rows) == truth_of(rows)).astype(float)

    def each(self, metric: Callable[[Rows], float]) -> NDArray[np.float64]:
        """Return the metric of each seed."""
        return np.array([metric(seed.rows) for seed in self.seeds])

    def interval(self, metric: Callable[[Rows], float]) -> Interval:
        """Return the mean over the seeds with its interval over subjects."""
        statistic = mean_over_seeds(metric, self._width)
        return bootstrap_interval(
            self.rows(), statistic, subjects=self.subjects, num_resamples=_RESAMPLES
        )

    def difference(self, other: "Group", metric: Callable[[Rows], float]) -> Interval:
        """Return this less the other, on the same resamples of subjects.

        A single run is compared with each of the other's; else the first seeds of both are.
        """
        times = max(len(self.seeds), len(other.seeds))
        if min(len(self.seeds), len(other.seeds)) > 1:
            times = min(len(self.seeds), len(other.seeds))
        statistic = mean_over_seeds(metric, self._width)
        return paired_bootstrap(
            self.rows(times),
            other.rows(times),
            statistic,
            subjects=self.subjects,
            num_resamples=_RESAMPLES,
        )

    @property
    def _width(self) -> int:
        return 1 + len(self.seeds[0].classes)


def mean_over_seeds(
    metric: Callable[[Rows], float], width: int
) -> Callable[[NDArray[np.float64]], float]:
    """Return a statistic of (n, seeds x width): the mean of the metric over blocks of columns."""

    def statistic(rows: NDArray[np.float64]) -> float:
        blocks = np.split(rows, rows.shape[1] // width, axis=1)
        return float(np.mean([metric(block) for block in blocks]))

    return statistic


def report(work: Path) -> None:
    """Write results.csv, comparison.md, rare.md and comparison.png of all runs in WORK/runs."""
    table, groups = read_groups(work / "runs")
    if not groups:
        return
    _write_results(work / RESULTS_NAME, table, work / "runs")
    compared = {key: group for key, group in groups.items() if key[0] != "rare"}
    if compared:
        text = comparison_table(compared)
        (work / "comparison.md").write_text(text, encoding="utf-8")
        draw(work / "comparison.png", compared)
        print(text)
    rare = {key[-1]: group for key, group in groups.items() if key[0] == "rare"}
    if rare:
        text = rare_table(rare)
        (work / "rare.md").write_text(text, encoding="utf-8")
        print(text)


def read_groups(folder: Path) -> tuple[pd.DataFrame, dict[tuple[str, ...], Group]]:
    """Return a row a finished run, and the runs by all but their seed."""
    names = sorted(path.parent.name for path in folder.glob(f"*/{PREDICTIONS_NAME}"))
    table = pd.DataFrame([name.split("__") for name in names], columns=[*_GROUP, "seed"])
    table["name"] = names
    groups = {
        tuple(map(str, key)): Group(
            seeds=tuple(read_predictions(folder / name) for name in rows["name"])
        )
        for key, rows in table.groupby(_GROUP, sort=False)
    }
    return table, groups


def comparison_table(groups: dict[tuple[str, ...], Group]) -> str:
    """Return a Markdown table: each group's metrics, and its difference from scratch."""
    lines = []
    for key in sorted(groups, key=_order):
        group, reference = groups[key], groups.get((*key[:3], "scratch", key[4]))
        values = [_in_words(group.interval(metric)) for metric in METRICS.values()]
        spread = group.each(accuracy)
        seeds = f"± {spread.std(ddof=1):.2f}" if len(spread) > 1 else "one"
        line = [*key[:4], values[0], seeds, *values[1:], "", ""]
        p_value = float("nan")
        if key[3] != "scratch" and reference is not None:
            line[-2] = _in_words(group.difference(reference, accuracy), sign="+")
            p_value = mcnemar(group.ensemble_is_right(), reference.ensemble_is_right())
        lines.append((line, p_value))
    corrected = holm([p_value for _, p_value in lines])
    rows = [
        "| task | encoder | mode | initialisation | accuracy | seeds | macro F1 | AUC "
        "| accuracy - scratch | McNemar's p (Holm) |",
        "|" + "---|" * 10,
    ]
    for (line, p_value), p_holm in zip(lines, corrected, strict=True):
        if not np.isnan(p_value):
            line[-1] = f"{p_value:.2g} ({p_holm:.2g})"
        rows.append(f"| {' | '.join(line)} |")
    return "\n".join(rows) + "\n"


def rare_table(groups: dict[str, Group]) -> str:
    """Return a Markdown table: recall of each class and balanced accuracy by remedy."""
    classes = next(iter(groups.values())).seeds[0].classes
    rows = [
        f"| | {' | '.join(f'recall {name}' for name in classes)} | balanced accuracy | - plain |",
        "|" + "---|" * (len(classes) + 3),
    ]
    plain = groups.get("plain")
    for remedy in sorted(groups, key=lambda name: (name != "plain", name)):
        group = groups[remedy]
        each = np.array([recalls(seed.rows) for seed in group.seeds])
        spread = each.std(axis=0, ddof=min(1, len(each) - 1))
        cells = [f"{m:.2f} ± {s:.2f}" for m, s in zip(each.mean(axis=0), spread, strict=True)]
        cells.append(_in_words(group.interval(balanced_accuracy)))
        if plain is None or plain is group or len(plain.seeds) != len(group.seeds):
            cells.append("")
        else:
            cells.append(_in_words(group.difference(plain, balanced_accuracy), sign="+"))
        rows.append(f"| {remedy.replace('-', ' ')} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def draw(path: Path, groups: dict[tuple[str, ...], Group]) -> Path:
    """Draw the accuracy of each group with its interval and its seeds, a panel a task."""
    tasks = sorted({key[0] for key in groups})
    figure = Figure(figsize=(3.9 * len(tasks), 4.0), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(tasks), sharey=True))
    for axis, task in zip(axes, tasks, strict=True):
        _draw_task(axis, task, {key[1:4]: group for key, group in groups.items() if key[0] == task})
    axes[0].set_ylabel("accuracy, 95 % interval over subjects")
    axes[0].set_ylim(0, 1.02)
    handles, labels = axes[0].get_legend_handles_labels()
    unique = {label: handles[labels.index(label)] for label in _COLOURS if label in labels}
    title = "large: mean of the seeds\nsmall: each seed"
    axes[0].legend(unique.values(), unique.keys(), fontsize=8, title=title, title_fontsize=7)
    return save_figure(figure, path)


def _draw_task(axis: Axes, task: str, groups: dict[tuple[str, ...], Group]) -> None:
    """Draw the groups of a task by encoder, mode and initialisation."""
    places = sorted({key[:2] for key in groups}, key=lambda place: (place[1], place[0]))
    for (encoder, mode, initialization), group in groups.items():
        shift = (list(_COLOURS).index(initialization) - 1.5) * 0.2
        x, interval = places.index((encoder, mode)) + shift, group.interval(accuracy)
        colour, seeds = _COLOURS[initialization], group.each(accuracy)
        axis.plot([x, x], [interval.low, interval.high], color=colour, linewidth=2)
        axis.plot(x, interval.estimate, "o", color=colour, label=initialization)
        if len(seeds) > 1:
            axis.plot([x + 0.08] * len(seeds), seeds, ".", color=colour, alpha=0.6, markersize=4)
    any_group = next(iter(groups.values()))
    chance = 1 / len(any_group.seeds[0].classes)
    axis.axhline(chance, color="grey", linestyle=":", linewidth=1)
    axis.set_xticks(range(len(places)), ["\n".join(place) for place in places], fontsize=8)
    axis.set_xlim(-0.5, len(places) - 0.5)
    axis.set_title(f"{task} ({len(any_group.subjects)} test subjects)", fontsize=10)
    axis.grid(alpha=0.3, axis="y")


def _write_results(path: Path, table: pd.DataFrame, folder: Path) -> None:
    """Write the tidy table, whose initialisation names mode and remedy, too."""
    results: list[Result] = []
    for row in table.to_dict("records"):
        extras = [e for e in (row["mode"], row["remedy"]) if e not in ("finetune", "plain")]
        name = RunName(
            dataset=f"phantom-{row['task']}",
            architecture=row["encoder"],
            initialization="-".join([row["initialization"], *extras]),
            seed=int(row["seed"]),
        )
        results += tidy_rows(read_predictions(folder / row["name"]), name)
    path.unlink(missing_ok=True)
    append_results(path, results)


def _order(key: tuple[str, ...]) -> tuple[str, int, str, int]:
    return key[0], key[2] == "finetune", key[1], list(_COLOURS).index(key[3])


def _in_words(interval: Interval, *, sign: str = "") -> str:
    low, high = (f"{value:{sign}.2f}" for value in (interval.low, interval.high))
    return f"{interval.estimate:{sign}.2f} ({low} to {high})"
