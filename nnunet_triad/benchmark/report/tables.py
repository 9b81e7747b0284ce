"""The report's tables: which rows they have, how their cells read, and the CSV beside the page."""

import csv
import io
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from nnunet_triad.benchmark.paper import (
    GROUPS,
    Published,
    comparisons,
    initializations,
    members,
    published,
)
from nnunet_triad.benchmark.report.data import (
    Model,
    Sample,
    architecture_name,
    initialization_name,
    ordered,
    sort_models,
)
from nnunet_triad.benchmark.report.scores import Category, Difference, Number, Score, Scores, sides
from nnunet_triad.evaluation.bootstrap import Interval
from nnunet_triad.tables import quote_formula

_DASH, _MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
_CSV_COLUMNS = (
    *("table", "task", "scope", "label", "architecture", "initialization"),
    *("minus_architecture", "minus_initialization", "ours", "low", "high", "num_cases"),
    *("paper", "paper_section", "ours_minus_paper", "p_value", "p_holm", "test", "note"),
    *("minus_scratch", "minus_scratch_low", "minus_scratch_high"),
)


@dataclass(frozen=True, kw_only=True)
class SizeCount:
    """In how many experiments (dataset and initialisation) a larger model was not always better."""

    ours: int
    total: int
    paper: Published


@dataclass(frozen=True, kw_only=True)
class TaskTables:
    """All numbers of one task."""

    task: str
    datasets: list[Score]  # each dataset and model that was run
    category_tables: list[list[Category]]  # one a dataset of several labels and architecture
    averages: list[Score]  # each group and model of which a dataset was run
    tests: list[Difference]  # pairs of initialisations on each dataset
    differences: list[Difference]  # those that the paper prints, and of which we have both sides
    sizes: SizeCount | None  # whether larger models are better; None: not all of them were run

    @property
    def initializations(self) -> list[str]:
        """What was run of this task, in the paper's order: the charts have a colour for each."""
        names = {score.model.initialization for score in self.datasets}
        return ordered(names, list(initializations()))

    @property
    def whole_averages(self) -> list[Score]:
        """Averages over groups of which every dataset was run."""
        return [score for score in self.averages if score.ours is not None]

    @property
    def part_averages(self) -> list[str]:
        """Averages that cannot be given, and why; the initialisations together."""
        texts = [
            f"{show_scope(s.scope)}, {architecture_name(s.model.architecture)} "
            f"({s.num_run} of {s.num_datasets})"
            for s in self.averages
            if s.ours is None
        ]
        return list(dict.fromkeys(texts))

    @property
    def has_few_cases(self) -> bool:
        """Whether a test compares fewer cases than could ever give p < 0.05."""
        return any(test.has_few_cases for test in self.tests)

    @property
    def verdicts(self) -> list[Difference]:
        """The pairs of which something can be said, or that there are too few cases to say it."""
        return [test for test in self.tests if test.verdict]

    @property
    def has_paper(self) -> bool:
        """Whether the paper prints a number for anything here."""
        return any(score.paper for score in (*self.datasets, *self.whole_averages))


def make_tables(task: str, scores: Scores) -> TaskTables:
    """Collect the numbers of one task."""
    samples = [sample for sample in scores.samples if sample.task == task]
    models = sort_models(sample.model for sample in samples)
    pairs = list(dict.fromkeys(_pair(s) for s in samples))
    averages = [
        score
        for group in GROUPS
        for model in models
        if members(task, group) and (score := scores.score(task, group, model)).num_run
    ]
    return TaskTables(
        task=task,
        datasets=[scores.score(task, s.dataset, s.model) for s in samples],
        category_tables=[
            table
            for pair in pairs
            if (table := _category_table(scores, [s for s in samples if _pair(s) == pair]))
        ],
        averages=averages,
        tests=[test for dataset, arch in pairs for test in scores.tests(task, dataset, arch)],
        differences=_published_differences(task, scores),
        sizes=_count_sizes(task, scores),
    )


def _pair(sample: Sample) -> tuple[str, str]:
    return sample.dataset, sample.model.architecture


def _category_table(scores: Scores, samples: Sequence[Sample]) -> list[Category]:
    """Return the categories of one dataset and architecture by label, then initialisation."""
    if all(len(sample.labels) < 2 for sample in samples):
        return []
    found = [c for s in samples for c in scores.categories(s.task, s.dataset, s.model)]
    labels = list(dict.fromkeys(category.score.label for category in found))
    return sorted(found, key=lambda category: labels.index(category.score.label))


def _count_sizes(task: str, scores: Scores) -> SizeCount | None:
    """Count the experiments in which Dice does not rise from Swin-B to Swin-L to Swin-H."""
    numbers = [n for n in published() if (n.task, n.kind) == (task, "count")]
    if not numbers:
        return None
    (paper,) = numbers
    compared = [
        c.initializations for c in comparisons() if (c.task, c.architecture) == (task, "swin_h")
    ]
    experiments = list(itertools.product(members(task, paper.scope), *compared))
    ours = 0
    for dataset, initialization in experiments:
        sizes = [
            scores.score(
                task, dataset, Model(architecture=size, initialization=initialization)
            ).ours
            for size in ("swin_b", "swin_l", "swin_h")
        ]
        if any(size is None for size in sizes):
            return None
        base, large, huge = (size.estimate for size in sizes if size is not None)
        ours += not base < large < huge
    return SizeCount(ours=ours, total=len(experiments), paper=paper)


def _published_differences(task: str, scores: Scores) -> list[Difference]:
    found = [
        scores.difference(task, number.scope, *sides(number), number.label)
        for number in published()
        if (number.task, number.kind) == (task, "difference")
    ]
    return [difference for difference in found if difference.ours is not None]


def write_csv(tables: Sequence[TaskTables]) -> str:
    """Return all numbers of the page as CSV text, in percent and percentage points.

    What a spreadsheet would compute is quoted as `nnunet_triad.tables.quote_formula` does.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, _CSV_COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    for row in itertools.chain.from_iterable(map(_rows, tables)):
        writer.writerow({name: quote_formula(cell) for name, cell in row.items()})
    return text.getvalue()


def _rows(table: TaskTables) -> Iterator[dict[str, object]]:
    for name, scores in (("dataset", table.datasets), ("average", table.averages)):
        yield from (_score_row(name, score) for score in scores)
    for category in itertools.chain.from_iterable(table.category_tables):
        row = _score_row("category", category.score)
        yield {**row, **_scratch_cells(category.difference)}
    for name, pairs in (("test", table.tests), ("published", table.differences)):
        yield from (_difference_row(name, pair) for pair in pairs)


def _score_row(table: str, score: Score) -> dict[str, object]:
    note = "" if score.ours else f"{score.num_run} of {score.num_datasets} datasets run"
    return {**_row(table, score, score.model), "note": note}


def _difference_row(table: str, pair: Difference) -> dict[str, object]:
    return {
        **_row(table, pair, pair.first),
        "minus_architecture": pair.second.architecture,
        "minus_initialization": pair.second.initialization,
        "p_value": _cell(pair.p_value),
        "p_holm": _cell(pair.p_holm),
        "test": pair.test,
        "note": pair.verdict,
    }


def _row(table: str, number: Number, model: Model) -> dict[str, object]:
    return {
        "table": table,
        "task": number.task,
        "scope": number.scope,
        "label": number.label,
        "architecture": model.architecture,
        "initialization": model.initialization,
        **_interval_cells(number.ours),
        "paper": number.paper.value if number.paper else "",
        "paper_section": number.paper.section if number.paper else "",
        "ours_minus_paper": _cell(number.minus_paper),
    }


def _scratch_cells(interval: Interval | None) -> dict[str, object]:
    cells = _interval_cells(interval)
    names = {"ours": "minus_scratch", "low": "minus_scratch_low", "high": "minus_scratch_high"}
    return {column: cells[name] for name, column in names.items() if cells}


def _interval_cells(interval: Interval | None) -> dict[str, object]:
    if interval is None:
        return {}
    return {
        "ours": _cell(interval.estimate),
        "low": _cell(interval.low),
        "high": _cell(interval.high),
        "num_cases": interval.num_cases,
    }


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


def show_value(interval: Interval | None) -> Markup:
    """Return `79.31 (77.02 to 81.40)`, without the bounds where there are none."""
    if interval is None or math.isnan(interval.estimate):
        return Markup(_DASH)
    return _with_bounds(
        f"{interval.estimate:.2f}", interval, f"{interval.low:.2f}", f"{interval.high:.2f}"
    )


def show_difference(interval: Interval | None) -> Markup:
    """Return `+1.55 (-0.20 to +3.31)`, with true minus signs."""
    if interval is None or math.isnan(interval.estimate):
        return Markup(_DASH)
    bounds = show_signed(interval.low), show_signed(interval.high)
    return _with_bounds(show_signed(interval.estimate), interval, *bounds)


def _with_bounds(text: str, interval: Interval, low: str, high: str) -> Markup:
    """Put the bounds into an element of their own, which narrow windows show below."""
    if math.isnan(interval.low):
        return Markup("{}").format(text)
    return Markup('{} <span class="interval">({} to {})</span>').format(text, low, high)


def show_signed(value: float) -> str:
    """Return a number with its sign, a true minus; a dash where there is none."""
    return _DASH if math.isnan(value) else f"{value:+.2f}".replace("-", _MINUS)


def show_p(value: float) -> str:
    """Return a p value as it is usually printed."""
    if math.isnan(value):
        return _DASH
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def show_scope(scope: str) -> str:
    """Return a group's or a dataset's name as a heading."""
    return GROUPS.get(scope, scope)


def show_pair(pair: Difference) -> str:
    """Return `Triad − Scratch`, with the architectures where they differ."""
    if pair.first.architecture == pair.second.architecture:
        names = [initialization_name(m.initialization) for m in (pair.first, pair.second)]
    else:
        names = [pair.first.name, pair.second.name]
    return f" {_MINUS} ".join(names)
