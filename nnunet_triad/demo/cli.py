"""`triad-demo`: run the demo's commands one after another, then compare."""

from pathlib import Path
from typing import Annotated

import typer

from nnunet_triad.cli import VersionOption, make_app, run_app
from nnunet_triad.demo.comparison import compare
from nnunet_triad.demo.steps import report_step, steps
from nnunet_triad.errors import UserError
from nnunet_triad.steps import environment, run_step, run_steps, say, show, show_variables

_HELP = """Pre-train an encoder on simulated brain MRI and fine-tune it inside nnU-Net, on a CPU.

Prints every command before it runs it. Steps that an earlier call finished are skipped.
"""

app = make_app(_HELP)


@app.command(help=_HELP)
def demo(
    folder: Annotated[Path, typer.Argument(help="Where everything goes; made when missing.")],
    version: VersionOption = False,
) -> None:
    """Run the demo."""
    folder = folder.resolve()
    finished = folder / ".finished"
    if folder.exists() and not finished.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder}: expected a new or an earlier demo's folder, got other files")
    finished.mkdir(parents=True, exist_ok=True)
    variables = environment(folder, weights=str(folder / "pretrained"))
    show_variables(variables)
    all_steps = steps(folder)
    run_steps(all_steps, finished, variables, num_steps=len(all_steps))
    compare(folder)
    report = report_step(folder)
    show(report.title, report)
    run_step(report, variables)
    say(
        f"Everything is in {folder}\nThe report:  {folder / 'report.html'}\n"
        f"The picture: {folder / 'demo.png'}"
    )


def main() -> None:
    """Run the command."""
    run_app(app)
