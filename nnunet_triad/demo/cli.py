"""`triad-demo`: run the demo's commands one after another, then compare."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from nnunet_triad.cli import VersionOption, make_app, run_app
from nnunet_triad.demo.comparison import compare
from nnunet_triad.demo.steps import Step, environment, report_step, steps
from nnunet_triad.errors import UserError
from nnunet_triad.texts import read_short_text

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
    variables = environment(folder)
    _say("The commands below need these variables:")
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")
    run_steps(steps(folder), finished, variables)
    compare(folder)
    report = report_step(folder)
    _show(report.title, report)
    _run(report, variables)
    _say(
        f"Everything is in {folder}\nThe report:  {folder / 'report.html'}\n"
        f"The picture: {folder / 'demo.png'}"
    )


def run_steps(all_steps: list[Step], finished: Path, variables: dict[str, str]) -> None:
    """Run the steps that are not finished, in order; print each command and its time.

    Args:
        all_steps: in order.
        finished: folder with a file a finished step, which holds its time in seconds.
        variables: added to the environment.

    Raises:
        UserError: a step failed; the same call goes on with it.
    """
    for number, step in enumerate(all_steps, 1):
        mark = finished / step.name
        _show(f"[{number}/{len(all_steps)}] {step.title}", step)
        if mark.exists():
            print("done before")
            continue
        start = time.monotonic()
        _run(step, variables)
        mark.write_text(f"{time.monotonic() - start:.0f}", encoding="utf-8")
        print(f"took {read_short_text(mark)} s", flush=True)
    seconds = {step.name: read_short_text(finished / step.name) for step in all_steps}
    total = sum(int(value) for value in seconds.values())
    _say(f"Seconds: {total} = " + " + ".join(f"{s} ({name})" for name, s in seconds.items()))


def _show(title: str, step: Step) -> None:
    _say(title)
    print(f"$ {shlex.join(step.command)}", flush=True)


def _run(step: Step, variables: dict[str, str]) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    variables = {**os.environ, **variables, "PATH": path}
    program = shutil.which(step.command[0], path=path)
    if program is None:
        raise UserError(
            f"step {step.name}: expected the command {step.command[0]}, got none; "
            "install this package with its demo extra"
        )
    code = subprocess.run([program, *step.command[1:]], env=variables).returncode
    if code:
        raise UserError(
            f"step {step.name}: expected exit code 0, got {code}; "
            "see the output above, then run the same command again"
        )


def _say(text: str) -> None:
    print(f"\n{text}", flush=True)


def main() -> None:
    """Run the command."""
    run_app(app)
