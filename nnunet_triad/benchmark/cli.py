"""`triad-benchmark`: plan, run and report the paper's comparison."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nnunet_triad.cli import VersionOption, make_app, run_app
from nnunet_triad.errors import UserError

if TYPE_CHECKING:
    from nnunet_triad.benchmark.environment import Environment
    from nnunet_triad.benchmark.runs import Run

_DEFAULT_FOLDER = Path("triad_benchmark")
_RESAMPLES = (100, 100_000)  # a mistyped number would fill the memory

app = make_app(
    "The paper's whole comparison: 25 datasets, each architecture, each initialisation, fold 0. "
    "plan lists the runs, run executes what is missing, status says how far it is, and report "
    "makes one HTML page of it."
)

Folder = Annotated[
    Path, typer.Argument(help="The benchmark's folder: models, logs, results, report.")
]
RunsFile = Annotated[
    Path | None,
    typer.Option("--runs", help="A CSV of your own runs in place of the paper's (see the docs)."),
]
Tasks = Annotated[
    list[str] | None,
    typer.Option("--task", help="segmentation, classification or registration; repeatable."),
]
Datasets = Annotated[
    list[str] | None, typer.Option("--dataset", help="Only this dataset; repeatable.")
]
Architectures = Annotated[
    list[str] | None, typer.Option("--architecture", help="unet, swin_b, ...; repeatable.")
]
Initializations = Annotated[
    list[str] | None, typer.Option("--initialization", help="scratch, voco, triad; repeatable.")
]
Device = Annotated[str, typer.Option(help="cpu, cuda or mps.")]


@app.callback()
def _options(version: VersionOption = False) -> None:
    pass


@app.command()
def plan(
    folder: Folder = _DEFAULT_FOLDER,
    runs_file: RunsFile = None,
    task: Tasks = None,
    dataset: Datasets = None,
    architecture: Architectures = None,
    initialization: Initializations = None,
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
    check_outputs([csv_file], [runs_file])
    runs = _runs(runs_file, task, dataset, architecture, initialization)
    environment = _environment(folder, device)
    print_plan(runs, environment)
    if csv_file is not None:
        write_plan(csv_file, runs, environment)


@app.command()
def run(
    folder: Folder = _DEFAULT_FOLDER,
    runs_file: RunsFile = None,
    task: Tasks = None,
    dataset: Datasets = None,
    architecture: Architectures = None,
    initialization: Initializations = None,
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
    partition: Annotated[str, typer.Option(help="Slurm: partition.")] = "",
    hours: Annotated[int, typer.Option(help="Slurm: time limit; a run goes on after it.")] = 48,
    gpus: Annotated[int, typer.Option(help="Slurm: GPUs a run.")] = 1,
    cpus: Annotated[int, typer.Option(help="Slurm: cores a run.")] = 12,
    memory_gb: Annotated[int, typer.Option(help="Slurm: main memory a run.")] = 64,
    parallel: Annotated[int, typer.Option(help="Slurm: runs at a time.")] = 16,
    slurm_option: Annotated[
        list[str] | None, typer.Option(help="Slurm: NAME=VALUE for sbatch; repeatable.")
    ] = None,
) -> None:
    """Execute what is missing; killed, it goes on at the next call."""
    from nnunet_triad.benchmark.progress import run_missing, submit_missing
    from nnunet_triad.benchmark.submit import Slurm

    runs = _runs(runs_file, task, dataset, architecture, initialization)
    environment = _environment(folder, device, launcher)
    if slurm:
        wanted = Slurm(
            partition=partition,
            hours=hours,
            gpus=gpus,
            cpus=cpus,
            memory_gb=memory_gb,
            parallel=parallel,
            extra=_sbatch_options(slurm_option or []),
        )
        submit_missing(runs, environment, wanted, retry_failed=retry_failed)
    else:
        run_missing(runs, environment, retry_failed=retry_failed)


@app.command()
def status(
    folder: Folder = _DEFAULT_FOLDER,
    runs_file: RunsFile = None,
    task: Tasks = None,
    dataset: Datasets = None,
    architecture: Architectures = None,
    initialization: Initializations = None,
) -> None:
    """Say which runs are finished, running, failed (and why), and which wait."""
    from nnunet_triad.benchmark.listing import print_status

    runs = _runs(runs_file, task, dataset, architecture, initialization)
    print_status(runs, _environment(folder, "cuda"))


@app.command()
def report(
    folder: Folder = _DEFAULT_FOLDER,
    results: Annotated[
        list[Path] | None,
        typer.Option(help="A results table to report instead of the folder's; repeatable."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="The page; by default FOLDER/report.html.")
    ] = None,
    title: Annotated[str, typer.Option(help="The page's heading.")] = "Triad benchmark",
    figure: Annotated[
        list[Path] | None,
        typer.Option(help="A picture to embed; repeatable."),
    ] = None,
    caption: Annotated[
        list[str] | None,
        typer.Option(help="What the picture shows, one for each --figure, in order."),
    ] = None,
    note: Annotated[
        list[str] | None,
        typer.Option(help="A paragraph above the results, such as what was run; repeatable."),
    ] = None,
    runs_file: RunsFile = None,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples, 100 to 100000.")] = 2000,
) -> None:
    """Make one self-contained HTML page, and its CSV, from the results that are there."""
    from nnunet_triad.benchmark.report.make import make_report

    low, high = _RESAMPLES
    if not low <= resamples <= high:
        raise UserError(f"--resamples: expected {low} to {high}, got {resamples}")
    page = make_report(
        environment=_environment(folder, "cuda"),
        planned=_runs(runs_file) if runs_file or not results else (),
        results=results or [],
        output=output,
        title=title,
        figures=list(zip(figure or [], _captions(figure, caption), strict=True)),
        paragraphs=note or [],
        num_resamples=resamples,
    )
    typer.echo(f"{page}\n{page.with_suffix('.csv')}")


def _runs(
    path: Path | None,
    tasks: list[str] | None = None,
    datasets: list[str] | None = None,
    architectures: list[str] | None = None,
    initializations: list[str] | None = None,
) -> "tuple[Run, ...]":
    from nnunet_triad.benchmark.runs import paper_runs, read_runs, select_runs

    return select_runs(
        read_runs(path) if path else paper_runs(),
        tasks=tasks or (),
        datasets=datasets or (),
        architectures=architectures or (),
        initializations=initializations or (),
    )


def _environment(folder: Path, device: str, launcher: str = "") -> "Environment":
    from nnunet_triad.benchmark.environment import Environment

    if device not in ("cpu", "cuda", "mps"):
        raise UserError(f"device: expected cpu, cuda or mps, got {device}")
    _check_folder(folder)
    try:
        words = tuple(shlex.split(launcher))
    except ValueError as error:
        raise UserError(f"launcher: expected a command, got {launcher!r} ({error})") from None
    return Environment.current(folder, device=device, launcher=words)


def _check_folder(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise UserError(f"{path}: expected a folder, got a file; name another one")


def _sbatch_options(texts: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for text, (name, separator, value) in zip(texts, pairs, strict=True):
        if not (name and separator and value):
            raise UserError(f"slurm-option: expected NAME=VALUE, got {text}")
    return {name.lstrip("-"): value for name, _, value in pairs}


def _captions(figures: list[Path] | None, captions: list[str] | None) -> list[str]:
    num_figures, given = len(figures or []), captions or []
    if len(given) > num_figures:
        raise UserError(f"caption: expected at most one a figure ({num_figures}), got {len(given)}")
    names = [path.stem.replace("_", " ") for path in figures or []]
    return [*given, *names[len(given) :]]


def main() -> None:
    """Run the command."""
    run_app(app)
