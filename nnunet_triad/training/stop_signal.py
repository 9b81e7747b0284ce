"""Signals: the training process stops at the end of a step, and its workers leave that to it."""

import signal
from types import FrameType, TracebackType
from typing import Any

EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h: run the same command again

KILLED_WORKER = (
    "workers: expected processes that read data to the end, got one that was killed, as by a "
    "system without memory left; use fewer --workers and run the same command again: the last "
    "checkpoint is whole"
)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def leave_signals_to_parent(worker: int) -> None:
    """Ignore SIGTERM and SIGINT in a worker process: schedulers send them to all processes."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class TrainingStopped(Exception):  # noqa: N818  # a wish, not an error
    """SIGTERM or Ctrl-C came; the state is saved, and the same command continues."""


class StopSignal:
    """Remember SIGTERM and Ctrl-C instead of dying of them; a second Ctrl-C does interrupt."""

    def __init__(self) -> None:
        """Start without a request; nothing is installed before the `with` block."""
        self.is_requested = False
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
        if self.is_requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.is_requested = True
