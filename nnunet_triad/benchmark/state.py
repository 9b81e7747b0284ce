"""What a run's folder says about it: the state file, the finished steps, and the lock."""

import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from nnunet_triad.benchmark.environment import Environment
from nnunet_triad.benchmark.runs import Run
from nnunet_triad.errors import UserError
from nnunet_triad.files import write_json
from nnunet_triad.texts import read_json


@dataclass(frozen=True, kw_only=True)
class State:
    """The last thing that happened to a run."""

    # finished: it has a results table; interrupted: it says that it runs, but nobody holds its lock
    state: str  # or failed, running, submitted, not started
    step: str = ""
    message: str = ""
    host: str = ""
    process: int = 0
    job: str = ""  # of the cluster
    time_s: float = 0.0  # when, in seconds since the epoch


class RunIsBusyError(RuntimeError):
    """Another process works on the run."""


def read_state(run: Run, environment: Environment) -> State:
    """Return a run's state. The results table counts, not what was said before it."""
    if results_path(run, environment).is_file():
        return State(state="finished")
    path = _state_path(run, environment)
    try:
        state = State(**read_json(path))
    except (FileNotFoundError, ValueError, TypeError):
        return State(state="not started")
    if state.state == "running" and not is_locked(environment.run_folder(run.name) / "lock"):
        return State(**{**asdict(state), "state": "interrupted"})
    return state


def write_state(run: Run, environment: Environment, state: str, **values: str) -> None:
    """Record what happens to a run now."""
    about = State(
        state=state,
        host=socket.gethostname(),
        process=os.getpid(),
        time_s=round(time.time(), 1),
        **values,
    )
    write_json(_state_path(run, environment), asdict(about))


def results_path(run: Run, environment: Environment) -> Path:
    """Return the results table of a run, which exists when the run is finished."""
    return environment.results / f"{run.name}.csv"


@contextlib.contextmanager
def hold(path: Path, *, wait: bool) -> Iterator[int]:
    """Hold a lock file; the kernel frees it when its holders die.

    Yields:
        The file's descriptor. A command that inherits it holds the lock too, so that the lock lasts
        as long as a training that survives its parent.

    Raises:
        RunIsBusyError: somebody else holds it, and `wait` is false.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        # Whoever looks whether it is locked locks it for an instant: try again before giving up.
        if not _lock(descriptor, attempts=0 if wait else 5):
            raise RunIsBusyError(str(path))
        yield descriptor
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Say whether a process of this file system's machines holds the lock."""
    if not path.exists():
        return False
    descriptor = os.open(path, os.O_RDWR)
    try:
        return not _lock(descriptor, attempts=1)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, *, attempts: int) -> bool:
    """Try to lock a file, `attempts` times; with 0, wait for it."""
    try:
        import fcntl  # not on Windows, where plan and report work
    except ImportError:
        raise UserError(
            "triad-benchmark run: expected Linux or macOS, whose locks last as long as a training, "
            f"got {sys.platform}; type the commands that triad-benchmark plan prints"
        ) from None

    if not attempts:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return True
    for attempt in range(attempts):
        time.sleep(0.1 if attempt else 0)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    return False


def _state_path(run: Run, environment: Environment) -> Path:
    return environment.run_folder(run.name) / "state.json"
