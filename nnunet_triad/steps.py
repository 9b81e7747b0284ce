"""Commands that a user could type, run one after another: the demo's and the quickstart's."""

import importlib.util
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nnunet_triad.errors import UserError
from nnunet_triad.files import write_atomically
from nnunet_triad.texts import read_short_text
from nnunet_triad.training.stop_signal import EXIT_STOPPED, TrainingStopped

# SIGINT and SIGTERM, as a shell tells them or as Python does
_STOPPED = (EXIT_STOPPED, 128 + 2, 128 + 15, -2, -15)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command.

    Attributes:
        name: of the mark that it leaves when it is finished.
        title: what it does, in a line.
        command: the program and its arguments.
        result: a file that is whole or not there; the step is finished where it is there.
    """

    name: str
    title: str
    command: tuple[str, ...]
    result: Path | None = None


def make_step(name: str, title: str, *command: str, result: Path | None = None) -> Step:
    """Return a step whose command is given word by word."""
    return Step(name=name, title=title, command=command, result=result)


def environment(folder: Path, *, weights: str = "", device: str = "cpu") -> dict[str, str]:
    """Return the variables that the commands need, as a user would export them.

    Args:
        folder: holds nnU-Net's three folders.
        weights: what TRIAD_WEIGHTS names; empty: it is not among them.
        device: of nnU-Net's trainings.
    """
    variables = {
        "nnUNet_raw": str(folder / "nnUNet_raw"),
        "nnUNet_preprocessed": str(folder / "nnUNet_preprocessed"),
        "nnUNet_results": str(folder / "nnUNet_results"),
        **({"TRIAD_WEIGHTS": weights} if weights else {}),
        # nnU-Net starts eight processes elsewhere, whatever the machine has.
        "nnUNet_def_n_proc": str(min(8, os.cpu_count() or 1)),
        # Threads that wait by spinning take the core of those that they wait for.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
    }
    if device == "cpu":
        # On two cores: one process augments while one trains; compiling would cost more than it
        # gains in runs this short.
        variables["nnUNet_n_proc_DA"] = str(max(1, (os.cpu_count() or 1) // 2))
        variables["nnUNet_compile"] = "f"
    if not _is_plugin_installed():
        plugin = Path(__file__).parent / "plugin"
        variables["nnUNet_extTrainer"] = str(plugin)  # an editable install needs it
    return variables


def _is_plugin_installed() -> bool:
    """Say whether nnU-Net's search, which walks its own folder, comes upon the plugin.

    Importing would not tell: an editable install makes the plugin importable from elsewhere.
    """
    package = importlib.util.find_spec("nnunetv2")
    if package is None or package.origin is None:
        raise UserError("nnU-Net: expected the package nnunetv2, got none; pip install nnunetv2")
    folder = Path(package.origin).parent / "training" / "nnUNetTrainer" / "variants" / "triad"
    return any(folder.glob("*.py"))


def run_steps(
    steps: Iterable[Step], finished: Path, variables: dict[str, str], *, num_steps: int
) -> None:
    """Run the steps that are not finished, in order; print each command and its time.

    Args:
        steps: in order; one may be made when those before it are finished.
        finished: folder with a file a finished step, which holds its time in seconds.
        variables: added to the environment.
        num_steps: how many there will be.

    Raises:
        UserError: a step failed; the same call goes on with it.
        TrainingStopped: a signal stopped one, which goes on the next time.
    """
    seconds = {}
    for number, step in enumerate(steps, 1):
        mark = finished / step.name
        show(f"[{number}/{num_steps}] {step.title}", step)
        if mark.exists() or (step.result is not None and step.result.exists()):
            print("done before", flush=True)
        else:
            start = time.monotonic()
            run_step(step, variables)
            with write_atomically(mark) as temporary:
                temporary.write_text(f"{time.monotonic() - start:.0f}", encoding="utf-8")
            print(f"took {read_short_text(mark)} s", flush=True)
        if mark.exists():
            seconds[step.name] = read_short_text(mark)
    total = sum(int(value) for value in seconds.values())
    say(f"Seconds: {total} = " + " + ".join(f"{s} ({name})" for name, s in seconds.items()))


def show(title: str, step: Step) -> None:
    """Print a step's title and its command."""
    say(title)
    print(f"$ {shlex.join(step.command)}", flush=True)


def show_variables(variables: dict[str, str]) -> None:
    """Print the variables as they are exported."""
    say("The commands below need these variables:")
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}", flush=True)


def say(text: str) -> None:
    """Print a paragraph."""
    print(f"\n{text}", flush=True)


def run_step(step: Step, variables: dict[str, str]) -> None:
    """Run a step's command; SIGTERM goes on to it.

    Raises:
        UserError: there is no such program, or it fails.
        TrainingStopped: a signal stopped it, and it has saved what it did.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    variables = {**os.environ, **variables, "PATH": path}
    program = shutil.which(step.command[0], path=path)
    if program is None:
        raise UserError(
            f"step {step.name}: expected the command {step.command[0]}, got none; "
            "install this package again"
        )
    process = subprocess.Popen([program, *step.command[1:]], env=variables)
    with _ending_with_this(process):
        code = process.wait()
    if code in _STOPPED:
        raise TrainingStopped(f"step {step.name} was stopped")
    if code:
        raise UserError(
            f"step {step.name}: expected exit code 0, got {code}; "
            "see the output above, then run the same command again"
        )


@contextmanager
def _ending_with_this(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Let a command that this process waits for be stopped with it."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())
    try:
        yield
    except KeyboardInterrupt:  # the terminal has sent it to the command, too
        process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
