"""The report: from results tables to one HTML page and its CSV."""

import datetime
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_triad import __version__
from nnunet_triad.benchmark.environment import Environment
from nnunet_triad.benchmark.paper import TASKS, find_dataset
from nnunet_triad.benchmark.report.data import load_results, near_misses, samples
from nnunet_triad.benchmark.report.figures import make_figures
from nnunet_triad.benchmark.report.page import render_page
from nnunet_triad.benchmark.report.pictures import embed, overlays
from nnunet_triad.benchmark.report.scores import Scores
from nnunet_triad.benchmark.report.svg import SvgMaker
from nnunet_triad.benchmark.report.tables import make_tables, write_csv
from nnunet_triad.benchmark.runs import Run
from nnunet_triad.benchmark.state import read_state, results_path
from nnunet_triad.errors import UserError
from nnunet_triad.files import check_outputs, write_atomically


@dataclass(frozen=True, kw_only=True)
class Unfinished:
    """Planned runs of one dataset and architecture that have no result."""

    task: str
    dataset: str
    architecture: str
    initializations: tuple[str, ...]
    states: tuple[str, ...]


def make_report(
    *,
    environment: Environment,
    planned: Sequence[Run],
    results: Sequence[Path],
    output: Path | None,
    title: str,
    figures: Sequence[tuple[Path, str]],
    paragraphs: Sequence[str] = (),
    num_resamples: int,
) -> Path:
    """Write the page and the CSV of the same name beside it.

    Args:
        environment: the benchmark's folder.
        planned: the runs that the page tells to be missing; empty for none.
        results: results tables to report instead of the folder's.
        output: the page.
        title: its heading.
        figures: (picture, caption) to embed.
        paragraphs: told above the results.
        num_resamples: of each bootstrap.

    Returns:
        The page's path.

    Raises:
        UserError: there are no results, a table or a picture is unreadable, `output` is no page, or
            the page or its CSV would replace what is read.
    """
    page = output or environment.folder / "report.html"
    if page.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"output: expected a file that ends in .html, got {page}")
    files = [page, page.with_suffix(".csv")]
    for path in files:
        if path.is_dir():
            raise UserError(f"{path}: expected a file, got a folder; choose another --output")
    sources = [*results] or _finished_tables(environment)
    check_outputs(files, [*sources, *(path for path, _ in figures)])
    pictures = [embed(path, caption) for path, caption in figures]
    table = load_results(sources)
    scores = Scores(samples(table), num_resamples=num_resamples)
    if not scores.samples:
        raise UserError("results: expected rows of the metrics dice or correct, got none")
    notes = near_misses(table)
    for sentence in notes:
        print(f"note: {sentence}", file=sys.stderr)
    tables = [part for task in TASKS if (part := make_tables(task, scores)).datasets]
    svg = SvgMaker()
    for sample in scores.samples:  # colours follow the order of the tables
        svg.colour(sample.model.initialization)
    text = render_page(
        svg,
        title=title,
        tables=tables,
        figures={part.task: make_figures(part, scores, table, svg) for part in tables},
        pictures=pictures,
        overlays=overlays(environment, planned),
        unfinished=_unfinished(planned, environment),
        num_planned=len(planned),
        num_finished=sum(results_path(run, environment).is_file() for run in planned),
        is_paper=any(find_dataset(s.task, s.dataset) for s in scores.samples),
        has_seeds=any(s.num_seeds > 1 for s in scores.samples),
        notes=[*paragraphs, *notes],
        num_resamples=num_resamples,
        version=__version__,
        made=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )
    with write_atomically(page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    with write_atomically(page.with_suffix(".csv")) as temporary:
        temporary.write_text(write_csv(tables), encoding="utf-8")
    return page


def _finished_tables(environment: Environment) -> list[Path]:
    paths = sorted(environment.results.glob("*.csv"))
    if not paths:
        raise UserError(
            f"{environment.results}: expected results tables of finished runs, got none; "
            "triad-benchmark run makes them, or name a table with --results"
        )
    return paths


def _unfinished(planned: Sequence[Run], environment: Environment) -> list[Unfinished]:
    grouped: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    for run in planned:
        state = read_state(run, environment).state
        if state != "finished":
            key = (run.task, run.dataset, run.architecture)
            grouped.setdefault(key, []).append((run.initialization, state))
    return [
        Unfinished(
            task=task,
            dataset=dataset,
            architecture=architecture,
            initializations=tuple(name for name, _ in runs),
            states=tuple(sorted({state for _, state in runs})),
        )
        for (task, dataset, architecture), runs in grouped.items()
    ]
