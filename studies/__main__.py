"""`python -m studies FOLDER`: run what is missing of the studies, and report what is there."""

from pathlib import Path
from typing import Annotated

import typer

from nnunet_triad.cli import make_app, run_app
from nnunet_triad.demo.material import check_hippocampi
from nnunet_triad.demo.steps import sentence_model
from nnunet_triad.errors import UserError
from studies.design import SCALES, TASKS
from studies.report import write_report
from studies.run import run_studies

app = make_app("Does pre-training help? All tasks on phantoms, from scratch and pre-trained.")


@app.command()
def studies(
    folder: Annotated[
        Path, typer.Argument(help="Phantoms, pre-trained encoders and finished trials.")
    ] = Path("triad_studies"),
    output: Annotated[
        Path | None, typer.Option(help="Table and figures; by default FOLDER/report.")
    ] = None,
    scale: Annotated[
        str, typer.Option(help="full: days on two cores; smoke: minutes, and figures of no value.")
    ] = "full",
    workers: Annotated[int, typer.Option(help="Processes with one thread each.")] = 2,
    limit: Annotated[
        int | None,
        typer.Option(help="Run at most so many of the missing trials; 0: report what is there."),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="segmentation, classification or registration; repeatable."),
    ] = None,
    only: Annotated[str, typer.Option(help="Trials whose name (of their file) has this.")] = "",
    hippocampi: Annotated[
        Path | None,
        typer.Option(help="MSD's Task04_Hippocampus; without it no trials on real volumes."),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="Folder of a sentence model; default: the one of the demo extra."),
    ] = None,
) -> None:
    """Does pre-training help? All tasks on phantoms, from scratch and pre-trained, ablations.

    Killed, it goes on at the next call.
    """
    if scale not in SCALES:
        raise UserError(f"--scale: expected {' or '.join(SCALES)}, got {scale!r}")
    if workers < 1:
        raise UserError(f"--workers: expected 1 or more, got {workers}")
    if limit is not None and limit < 0:
        raise UserError(f"--limit: expected 0 or more, got {limit}")
    for name in set(task or ()) - set(TASKS):
        raise UserError(f"--task: expected {', '.join(TASKS[:-1])} or {TASKS[-1]}, got {name!r}")
    for path in (folder, output or folder):
        if path.exists() and not path.is_dir():
            raise UserError(f"{path}: expected a folder, got a file; name another one")
    if hippocampi is not None:
        check_hippocampi(hippocampi)
    missing = run_studies(
        folder,
        SCALES[scale],
        model=model or sentence_model(),
        workers=workers,
        limit=limit,
        tasks=task or TASKS,
        only=only,
        hippocampi=hippocampi,
    )
    for path in write_report(folder, output or folder / "report"):
        typer.echo(path)
    if missing:
        typer.echo(f"{missing} trials are missing; the same command goes on")


if __name__ == "__main__":
    run_app(app)
