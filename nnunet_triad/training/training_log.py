"""What a run reports while it runs: a CSV table, TensorBoard, and a progress bar."""

import csv
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from matplotlib.figure import Figure
from torch.utils.tensorboard.writer import SummaryWriter
from tqdm import tqdm

from nnunet_triad.files import disk_full_at, write_atomically

LOG_NAME = "log.csv"


class TrainingLog:
    """Append one row a step; rows that a resumed run will repeat are dropped first."""

    def __init__(
        self,
        output: Path,
        columns: Sequence[str],
        *,
        first_step: int,
        steps: int,
        unit: str = "step",
        is_quiet: bool = False,
    ) -> None:
        """Open the log of a run.

        Args:
            output: the run's folder.
            columns: of the table; the first one counts steps from 1, one of them is "loss".
            first_step: steps done before; later rows come from work that was lost.
            steps: of the whole run, for the progress bar.
            unit: what a step is, for the progress bar.
            is_quiet: show no progress bar.
        """
        path = self._path = output / LOG_NAME
        drop_rows_after(path, first_step, columns)
        self._file = path.open("a", newline="", encoding="utf-8")
        self._step_column = columns[0]
        self._rows = csv.DictWriter(self._file, columns)
        self._board_path = output / "tensorboard"
        with disk_full_at(self._board_path):
            self._board = SummaryWriter(str(self._board_path), purge_step=first_step + 1)
        self._bar = tqdm(total=steps, initial=first_step, unit=unit, disable=is_quiet)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Report one step.

        Args:
            step: counted from 1.
            values: by column name; a column without a value stays empty.
        """
        with disk_full_at(self._path):
            self._rows.writerow({self._step_column: step, **values})
            self._file.flush()
        with disk_full_at(self._board_path):
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
        self._bar.set_postfix(loss=f"{values['loss']:.4f}", refresh=False)
        self._bar.update()

    def write_picture(self, name: str, figure: Figure, step: int) -> None:
        """Show a figure in TensorBoard."""
        with disk_full_at(self._board_path):
            self._board.add_figure(name, figure, step)

    def sync(self) -> None:
        """Make the rows outlive a power cut, as the checkpoint that follows does."""
        with disk_full_at(self._path):
            os.fsync(self._file.fileno())

    def __enter__(self) -> "TrainingLog":
        """Return the log itself; what TensorBoard's thread raises comes with the next `write`."""
        self._excepthook, threading.excepthook = threading.excepthook, _leave_to_writer
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file, TensorBoard and the bar."""
        threading.excepthook = self._excepthook
        self._bar.close()
        for path, opened in ((self._path, self._file), (self._board_path, self._board)):
            try:
                with disk_full_at(path):
                    opened.close()
            except OSError:
                if error is None:  # else what the run failed at is the reason
                    raise


def drop_rows_after(path: Path, step: int, columns: Sequence[str]) -> None:
    """Keep a log's rows up to `step`, whole ones only; make the file with its header if missing.

    Columns that the log lacks, as one of another version may, are empty in the rows that are kept.
    """
    rows: list[list[str]] = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            header, *written = list(csv.reader(file)) or [[]]
            for row in written:
                if _is_kept(row, step, len(header)):
                    values = dict(zip(header, row, strict=True))
                    rows.append([values.get(name, "") for name in columns])
    with (
        write_atomically(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        csv.writer(file).writerows([list(columns), *rows])


def _leave_to_writer(failure: threading.ExceptHookArgs) -> None:
    if not isinstance(failure.exc_value, OSError):
        threading.__excepthook__(failure)


def _is_kept(row: list[str], step: int, num_columns: int) -> bool:
    """Tell whether a row is whole and not after `step`; a killed run may leave half a line."""
    return len(row) == num_columns and row[0].isdigit() and int(row[0]) <= step
