"""`triad-demo`: run the demo's commands one after another, then compare."""

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from nnunet_triad.cli import VersionOption, make_app, run_app
from nnunet_triad.demo.comparison import compare
from nnunet_triad.demo.steps import Step, environment, steps
from nnunet_triad.errors import UserError

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
    _run_steps(steps(folder), finished, variables)
    picture = compare(folder)
    _say(f"Everything is in {folder}\nThe comparison: {picture}")


def _run_steps(all_steps: list[Step], finished: Path, variables: dict[str, str]) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    for number, step in enumerate(all_steps, 1):
        mark = finished / step.name
        _say(f"[{number}/{len(all_steps)}] {step.title}")
        print(f"$ {shlex.join(step.command)}", flush=True)
        if mark.exists():
            print("done before")
            continue
        start = time.monotonic()
        result = subprocess.run(step.command, env={**os.environ, **variables, "PATH": path})
        if result.returncode:
            raise UserError(
                f"step {step.name}: expected exit code 0, got {result.returncode}; "
                "see the output above, then run the same command again"
            )
        mark.touch()
        print(f"took {time.monotonic() - start:.0f} s", flush=True)


def _say(text: str) -> None:
    print(f"\n{text}", flush=True)


def main() -> None:
    """Run the command."""
    run_app(app)
