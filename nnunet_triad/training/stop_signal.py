"""Signals: the training process stops at the end of a step, and its workers leave that to it."""

import signal
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from nnunet_triad.files import write_atomically

EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h: run the same command again
STOPPED_NAME = "stopped.txt"  # for scripts: torchrun and srun have exit codes of their own

KILLED_WORKER = (
    "workers: expected processes that read data to the end, got one that was killed, as by a "
    "system without memory left; use fewer --workers and run the same command again: the last "
    "checkpoint is whole"
)

# Slurm's --signal sends whichever one asks for, submitit asks for SIGUSR2; Windows has none.
OF_SCHEDULERS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGUSR2") if hasattr(signal, name)
)
_SIGNALS = (*OF_SCHEDULERS, signal.SIGINT)


def mark_stopped(folder: Path, message: str) -> None:
    """Say in a run's folder that its state is saved and the same command goes on."""
    with write_atomically(folder / STOPPED_NAME) as temporary:
        temporary.write_text(f"{message}\n", encoding="utf-8")


def unmark_stopped(folder: Path) -> None:
    """Take that back, when the run goes on."""
    (folder / STOPPED_NAME).unlink(missing_ok=True)


def leave_signals_to_parent() -> None:
    """Ignore these signals in a worker process: schedulers send them to all processes."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class TrainingStopped(Exception):  # noqa: N818  # a wish, not an error
    """A signal or Ctrl-C came; the state is saved, and the same command continues."""


class StopSignal:
    """Remember SIGTERM, SIGUSR2 and Ctrl-C, not die of them; a second Ctrl-C does interrupt."""

    def __init__(self) -> None:
        """Start without a request; nothing is installed before the `with` block."""
        self.is_requested = False
        self._was_interrupted = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        """Install the handlers."""
        self._previous = {number: signal.signal(number, self._request) for number in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Restore the handlers that were there."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self._was_interrupted and number == signal.SIGINT:
            raise KeyboardInterrupt
        # Linux sends one to processes whose parent is gone, as one of SIGTERM: that is the first.
        self._was_interrupted = number == signal.SIGINT
        self.is_requested = True
