"""A signal ends a training between two iterations, with its state saved, and --c goes on there."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_triad.errors import require
from nnunet_triad.training.distributed import is_any, wait_for_all
from nnunet_triad.training.stop_signal import (
    EXIT_STOPPED,
    OF_SCHEDULERS,
    StopSignal,
    mark_stopped,
    unmark_stopped,
)

SAVE_EVERY_VARIABLE = "TRIAD_SAVE_EVERY"  # epochs; how often is no part of the method, nor a suffix
_KEY = "triad_unfinished_epoch"  # in init_args, which nnU-Net writes into each checkpoint


def save_every(default: int) -> int:
    """Return how many epochs lie between two checkpoints.

    Raises:
        UserError: the variable is no whole number from 1.
    """
    text = os.environ.get(SAVE_EVERY_VARIABLE, "").strip() or str(default)
    is_good = text.isascii() and text.isdigit() and int(text) > 0
    require(SAVE_EVERY_VARIABLE, text, "a whole number of epochs, 1 or more", is_good)
    return int(text)


class InterruptibleTrainer(nnUNetTrainer):
    """nnU-Net's trainer, which SIGTERM, SIGUSR2 and Ctrl-C do not cost what it did.

    It saves checkpoint_latest.pth before the next iteration, of training or validation, writes
    stopped.txt beside it and exits with code 75. `--c` does the iterations that are left of the
    epoch; of the validation of an epoch it does all. A signal in the validation after the training
    ends the process at once, and `--c` does that validation anew.
    """

    save_every: int  # this and the next are nnU-Net's own
    num_iterations_per_epoch: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.save_every = save_every(self.save_every)
        self.iteration = 0  # done of this epoch
        self._losses: list[float] = []  # of those
        self._unfinished: dict[str, Any] | None = None  # the epoch to go on with
        self.iterations_per_epoch = 0  # of a whole one; nnU-Net's own number is what is left
        self._training: contextlib.ExitStack | None = None
        self._stop = StopSignal()

    def run_training(self) -> None:
        """Train to the end, or to a signal."""
        with contextlib.ExitStack() as self._training:
            try:
                super().run_training()
            except RuntimeError:  # a signal to all processes ends those that augment, too
                if self._stop.is_requested:
                    self._leave_if_asked()
                raise
        if is_any(self._stop.is_requested, self.device):
            self._leave()

    def on_train_start(self) -> None:
        """Start; signals are remembered once the processes that augment, which die of one, run."""
        super().on_train_start()
        if self.local_rank == 0:
            unmark_stopped(Path(self.output_folder))
        if self._training is not None and not self.disable_checkpointing:
            self._training.enter_context(self._stop)

    def on_train_epoch_start(self) -> None:
        """Begin an epoch, or what is left of one."""
        super().on_train_epoch_start()
        done, self._unfinished = self._unfinished or {"iteration": 0, "losses": []}, None
        self.iteration, self._losses = done["iteration"], list(done["losses"])
        self.iterations_per_epoch = self.num_iterations_per_epoch
        self.num_iterations_per_epoch = max(self.iterations_per_epoch - self.iteration, 0)

    def train_step(self, batch: dict) -> dict:
        """Do one iteration, unless the training is to stop before it."""
        self._leave_if_asked()
        output = super().train_step(batch)
        self.iteration += 1
        self._losses.append(float(output["loss"]))
        return output

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        """End an epoch; its loss is the mean over all of its iterations."""
        self.num_iterations_per_epoch = self.iterations_per_epoch
        super().on_train_epoch_end([{"loss": np.array(loss)} for loss in self._losses])

    def validation_step(self, batch: dict) -> dict:
        """Do one iteration of an epoch's validation, unless the training is to stop before it."""
        self._leave_if_asked()
        return super().validation_step(batch)

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Predict the validation cases, or end at a signal."""
        folder = None if self.local_rank else Path(self.output_folder)
        with _leaving_at_once(folder):
            super().perform_actual_validation(save_probabilities)

    def load_checkpoint(self, filename_or_checkpoint: dict | str) -> None:
        """Load what nnU-Net loads, and which iterations of an unfinished epoch are done."""
        super().load_checkpoint(filename_or_checkpoint)
        self._unfinished = self.my_init_kwargs.pop(_KEY, None)

    def _leave_if_asked(self) -> None:
        """Save and leave when any process got a signal; all of them come here equally often."""
        if self._training is None or not is_any(self._stop.is_requested, self.device):
            return
        for values in self.logger.local_logger.my_fantastic_logging.values():
            del values[self.current_epoch :]  # the epoch logs them when it goes on
        self.my_init_kwargs[_KEY] = {"iteration": self.iteration, "losses": self._losses}
        self.current_epoch -= 1  # nnU-Net writes the epoch that comes next
        self.save_checkpoint(str(Path(self.output_folder) / "checkpoint_latest.pth"))
        self.current_epoch += 1
        self._leave()

    def _leave(self) -> None:
        message = f"stopped in epoch {self.current_epoch} after iteration {self.iteration}"
        self.print_to_log_file(f"{message}; --c goes on there")
        if self.local_rank == 0:
            mark_stopped(Path(self.output_folder), message)
        wait_for_all()  # the end of one process may be that of all
        raise SystemExit(EXIT_STOPPED)


@contextlib.contextmanager
def _leaving_at_once(folder: Path | None) -> Iterator[None]:
    """Let SIGTERM and SIGUSR2 end the process as a stopped one; the checkpoints are there."""

    def leave(number: int, frame: FrameType | None) -> None:
        if folder is not None:
            mark_stopped(folder, "stopped in the validation after the training")
        raise SystemExit(EXIT_STOPPED)

    previous = {number: signal.signal(number, leave) for number in OF_SCHEDULERS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
