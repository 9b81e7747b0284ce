"""One run from its first step to its results table, going on where an earlier attempt stopped."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from nnunet_triad.benchmark.environment import Environment
from nnunet_triad.benchmark.manifest_tasks import CLASSIFICATION, REGISTRATION
from nnunet_triad.benchmark.runs import Run
from nnunet_triad.benchmark.segmentation import SEGMENTATION
from nnunet_triad.benchmark.state import hold, read_state, results_path, write_state
from nnunet_triad.benchmark.steps import Requirement, Step, Task
from nnunet_triad.errors import UserError
from nnunet_triad.files import write_table
from nnunet_triad.training.stop_signal import EXIT_STOPPED, TrainingStopped

TASKS: dict[str, Task] = {
    "segmentation": SEGMENTATION,
    "classification": CLASSIFICATION,
    "registration": REGISTRATION,
}
_PATIENCE_S = 30  # between asking a command to stop and stopping it


def requirements(run: Run, environment: Environment) -> list[Requirement]:
    """Return what a run requires, there or not."""
    return TASKS[run.task].requirements(run, environment)


def unmet_requirements(run: Run, environment: Environment) -> list[str]:
    """Return what a run still requires, as sentences."""
    return [one.problem for one in requirements(run, environment) if not one.is_met]


def steps(run: Run, environment: Environment) -> list[Step]:
    """Return the commands that a run would execute now."""
    return TASKS[run.task].steps(run, environment)


def execute(run: Run, environment: Environment) -> None:
    """Execute a run's missing steps and write its results table; its log tells the rest.

    Raises:
        UserError: a requirement is not met, a step fails, or it leaves no results.
        RunIsBusyError: another process works on it.
        TrainingStopped: a signal stopped a step, which goes on the next time.
    """
    folder = environment.run_folder(run.name)
    with hold(folder / "lock", wait=False) as lock:
        if results_path(run, environment).is_file():
            return
        try:
            if problems := unmet_requirements(run, environment):
                raise UserError("; ".join(problems))
            for step in _missing_steps(run, environment):
                write_state(run, environment, "running", step=step.name)
                _execute_step(step, run, environment, lock)
            write_state(run, environment, "running", step="gather")
            table = TASKS[run.task].gather(run, environment)
            write_table(results_path(run, environment), table)
        except UserError as error:
            step_name = read_state(run, environment).step
            write_state(run, environment, "failed", step=step_name, message=str(error))
            raise
        write_state(run, environment, "finished")


def _missing_steps(run: Run, environment: Environment) -> Iterator[Step]:
    """Yield each step that is not done; they are asked for anew, since one changes the next."""
    done: set[str] = set()
    finished = environment.run_folder(run.name) / "finished_steps"
    while True:
        todo = [
            step
            for step in steps(run, environment)
            if step.name not in done and not (finished / step.name).exists()
        ]
        if not todo:
            return
        yield todo[0]
        done.add(todo[0].name)
        if todo[0].lock is None:  # what several runs share is looked at each time
            finished.mkdir(exist_ok=True)
            (finished / todo[0].name).touch()


def _execute_step(step: Step, run: Run, environment: Environment, lock: int) -> None:
    folder = environment.run_folder(run.name)
    if step.lock is None:
        _run_command(step, environment, folder, lock)
        return
    with hold(step.lock, wait=True):
        if step.name in {other.name for other in steps(run, environment)}:
            _run_command(step, environment, folder, lock)  # nobody did it while we waited


def _run_command(step: Step, environment: Environment, folder: Path, lock: int) -> None:
    """Run a command with its output in the run's log.

    Raises:
        UserError: it cannot be started, or fails.
        TrainingStopped: a signal stopped it, and it has saved what it did.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    variables = {**os.environ, **environment.variables, **step.variables, "PATH": path}
    log = folder / "log.txt"
    with log.open("ab") as output:
        output.write(f"\n{time.strftime('%Y-%m-%d %H:%M:%S')}  $ {step}\n".encode())
        output.flush()
        try:
            process = subprocess.Popen(
                [*environment.launcher, *step.command],
                env=variables,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                pass_fds=(lock,),
                start_new_session=True,  # so that it can be stopped with its own processes
            )
        except FileNotFoundError:
            command = [*environment.launcher, *step.command][0]
            raise UserError(f"{command}: expected a command, got none; install it") from None
        code = _wait(process)
    if code == EXIT_STOPPED:
        raise TrainingStopped(f"step {step.name}: {last_line(log)}")
    if code:
        raise UserError(
            f"step {step.name}: expected exit code 0, got {code}; {last_line(log)} (see {log})"
        )


def _wait(process: subprocess.Popen) -> int:
    """Wait for a command; when we are stopped, so are it and the processes that it started."""
    try:
        return process.wait()
    except BaseException:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):  # the first lets it save
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE_S)
                break
        raise


def last_line(log: Path) -> str:
    """Return the last line of a log that says something; progress bars count as lines."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return "no output"
    spoken = [line.strip() for line in re.split(r"[\r\n]", text) if line.strip()]
    return spoken[-1][:300] if spoken else "no output"
