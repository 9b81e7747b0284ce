"""`triad-demo`: run the demo's commands one after another, then compare."""

from pathlib import Path
from typing import Annotated

import typer

from nnunet_triad.cli import VersionOption, make_app, run_app
from nnunet_triad.demo.comparison import compare
from nnunet_triad.demo.material import hippocampi as real_hippocampi
from nnunet_triad.demo.material import phantoms
from nnunet_triad.demo.steps import WEIGHTS, dataset_steps, report_step, steps, training_steps
from nnunet_triad.errors import UserError
from nnunet_triad.files import write_atomically
from nnunet_triad.steps import environment, run_step, run_steps, say, show, show_variables
from nnunet_triad.texts import read_short_text

_HELP = """Show on a CPU what a pre-trained encoder is worth inside nnU-Net, and how one is made.

On simulated brains, or with --hippocampi on real ones, where the gain was found.

Prints every command before it runs it. Steps that an earlier call finished are skipped.
"""

app = make_app(_HELP)


@app.command(help=_HELP)
def demo(
    folder: Annotated[Path, typer.Argument(help="Where everything goes; made when missing.")],
    hippocampi: Annotated[
        Path | None,
        typer.Option(help="Task04_Hippocampus of the Medical Segmentation Decathlon."),
    ] = None,
    version: VersionOption = False,
) -> None:
    """Run the demo."""
    folder = folder.resolve()
    finished = folder / ".finished"
    if folder.exists() and not finished.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder}: expected a new or an earlier demo's folder, got other files")
    material = real_hippocampi(folder, hippocampi.resolve()) if hippocampi else phantoms(folder)
    finished.mkdir(parents=True, exist_ok=True)
    _check_same(finished / "images", material.title)
    variables = environment(folder, weights=WEIGHTS)
    show_variables(variables)
    num_steps = len(dataset_steps(folder, material) + training_steps(folder, material))
    run_steps(steps(folder, material), finished, variables, num_steps=num_steps)
    compare(folder, material)
    report = report_step(folder, material)
    show(report.title, report)
    run_step(report, variables)
    say(
        f"Everything is in {folder}\nThe report:  {folder / 'report.html'}\n"
        f"The picture: {folder / 'demo.png'}"
    )


def _check_same(file: Path, title: str) -> None:
    """Check that an earlier demo in the folder was of the same images; note which they are."""
    if file.is_file() and (earlier := read_short_text(file)) != title:
        raise UserError(
            f"{file.parent.parent}: expected an earlier demo of {title}, got one of {earlier}; "
            "choose another folder"
        )
    with write_atomically(file) as temporary:
        temporary.write_text(title, encoding="utf-8")


def main() -> None:
    """Run the command."""
    run_app(app)
