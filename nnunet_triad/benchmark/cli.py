"""`triad-benchmark`: plan, run and report the paper's comparison."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nnunet_triad.benchmark.settings import ReportSettings, SelectionSettings, SlurmSettings
from nnunet_triad.cli import VersionOption, make_app, run_app, takes_settings
from nnunet_triad.errors import UserError, require
from nnunet_triad.training.settings import DEVICES, join_words

if TYPE_CHECKING:
    from nnunet_triad.benchmark.environment import Environment
    from nnunet_triad.benchmark.runs import Run

_DEFAULT_FOLDER = Path("triad_benchmark")

app = make_app(
    "The paper's whole comparison: 25 datasets, each architecture, each initialisation, fold 0. "
    "plan lists the runs, run executes what is missing, status says how far it is, and report "
    "makes one HTML page of it."
)

Folder = Annotated[
    Path, typer.Argument(help="The benchmark's folder: models, logs, results, report.")
]
Device = Annotated[str, typer.Option(help="cpu, cuda or mps.")]


@app.callback()
def _options(version: VersionOption = False) -> None:
    pass


@app.command()
@takes_settings()
def plan(
    folder: Folder = _DEFAULT_FOLDER,
    *,
    selection: SelectionSettings,
    device: Device = "cuda",
    csv_file: Annotated[
        Path | None, typer.Option("--csv", help="Write the plan as a table, too.")
    ] = None,
) -> None:
    """List the runs: what each needs and its exact commands. Nothing is executed or changed."""
    from nnunet_triad.benchmark.listing import print_plan, write_plan
    from nnunet_triad.files import check_outputs

    if csv_file is not None and csv_file.is_dir():
        raise UserError(f"{csv_file}: expected a file, got a folder; choose another --csv")
    check_outputs([csv_file], [selection.runs_file])
    runs = _runs(selection)
    environment = _environment(folder, device)
    print_plan(runs, environment)
    if csv_file is not None:
        write_plan(csv_file, runs, environment)


@app.command()
@takes_settings()
def run(
    folder: Folder = _DEFAULT_FOLDER,
    *,
    selection: SelectionSettings,
    device: Device = "cuda",
    launcher: Annotated[
        str, typer.Option(help='Put in front of each command: "apptainer exec --nv IMAGE".')
    ] = "",
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed/--skip-failed", help="Try runs that failed again.")
    ] = True,
    slurm: Annotated[
        bool, typer.Option("--slurm", help="Submit an array of Slurm jobs instead of waiting.")
    ] = False,
    cluster: SlurmSettings,
) -> None:
    """Execute what is missing; killed, it goes on at the next call."""
    from nnunet_triad.benchmark.progress import run_missing, submit_missing

    runs = _runs(selection)
    environment = _environment(folder, device, launcher)
    if slurm:
        submit_missing(runs, environment, cluster, retry_failed=retry_failed)
    else:
        run_missing(runs, environment, retry_failed=retry_failed)


@app.command()
@takes_settings()
def status(
    folder: Folder = _DEFAULT_FOLDER,
    *,
    selection: SelectionSettings,
) -> None:
    """Say which runs are finished, running, failed (and why), and which wait."""
    from nnunet_triad.benchmark.listing import print_status

    runs = _runs(selection)
    print_status(runs, _environment(folder, "cuda"))


@app.command()
@takes_settings()
def report(
    folder: Folder = _DEFAULT_FOLDER,
    *,
    settings: ReportSettings,
) -> None:
    """Make one self-contained HTML page, and its CSV, from the results that are there."""
    from nnunet_triad.benchmark.report.make import make_report

    is_planned = settings.runs_file or not settings.results
    page = make_report(
        environment=_environment(folder, "cuda"),
        planned=_runs(SelectionSettings(runs_file=settings.runs_file)) if is_planned else (),
        results=settings.results,
        output=settings.output,
        title=settings.title,
        figures=list(zip(settings.figure, settings.captions, strict=True)),
        paragraphs=settings.note,
        num_resamples=settings.resamples,
    )
    typer.echo(f"{page}\n{page.with_suffix('.csv')}")


def _runs(selection: SelectionSettings) -> "tuple[Run, ...]":
    from nnunet_triad.benchmark.runs import paper_runs, read_runs, select_runs

    return select_runs(
        read_runs(selection.runs_file) if selection.runs_file else paper_runs(),
        tasks=selection.task,
        datasets=selection.dataset,
        architectures=selection.architecture,
        initializations=selection.initialization,
    )


def _environment(folder: Path, device: str, launcher: str = "") -> "Environment":
    from nnunet_triad.benchmark.environment import Environment
    from nnunet_triad.files import check_folder

    require("device", device, join_words(DEVICES), device in DEVICES)
    check_folder(folder)
    try:
        words = tuple(shlex.split(launcher))
    except ValueError as error:
        raise UserError(f"launcher: expected a command, got {launcher!r} ({error})") from None
    return Environment.current(folder, device=device, launcher=words)


def main() -> None:
    """Run the command."""
    run_app(app)
