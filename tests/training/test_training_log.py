"""A log that a run continues: whole rows, each step once."""

import csv
from pathlib import Path

import pytest

from nnunet_triad.training.training_log import TrainingLog, drop_rows_after

COLUMNS = ("step", "loss", "rate")


def write_steps(output: Path, steps: range, *, first_step: int) -> None:
    with TrainingLog(output, COLUMNS, first_step=first_step, steps=9, is_quiet=True) as log:
        for step in steps:
            log.write(step, {"loss": 1 / step, "rate": 0.1 * step})
        log.sync()


def read_rows(output: Path) -> list[list[str]]:
    with (output / "log.csv").open(newline="") as file:
        return list(csv.reader(file))


def test_log_keeps_every_digit(tmp_path: Path):
    write_steps(tmp_path, range(1, 4), first_step=0)

    header, *rows = read_rows(tmp_path)

    assert tuple(header) == COLUMNS
    assert [float(row[1]) for row in rows] == [1.0, 1 / 2, 1 / 3]


def test_resumed_log_drops_the_rows_of_lost_steps(tmp_path: Path):
    write_steps(tmp_path, range(1, 6), first_step=0)

    write_steps(tmp_path, range(3, 5), first_step=2)

    assert [row[0] for row in read_rows(tmp_path)[1:]] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("half_row", ["3,0.", "3", "3,0.25,0.1,7", "\n"])
def test_row_that_a_killed_run_left_half_written_is_dropped(tmp_path: Path, half_row: str):
    write_steps(tmp_path, range(1, 3), first_step=0)
    with (tmp_path / "log.csv").open("a") as file:
        file.write(half_row)

    drop_rows_after(tmp_path / "log.csv", 2, COLUMNS)

    assert [row[0] for row in read_rows(tmp_path)] == ["step", "1", "2"]


def test_column_without_a_value_stays_empty(tmp_path: Path):
    with TrainingLog(tmp_path, COLUMNS, first_step=0, steps=1, is_quiet=True) as log:
        log.write(1, {"loss": 2.0})

    assert read_rows(tmp_path)[1] == ["1", "2.0", ""]


def test_rows_of_a_log_with_other_columns_are_kept(tmp_path):
    (tmp_path / "log.csv").write_text("step,old,loss\n1,7,0.5\n2,7,0.4\n3,7,0.3\n", "utf-8")

    drop_rows_after(tmp_path / "log.csv", 2, ("step", "loss", "new"))

    assert (tmp_path / "log.csv").read_text("utf-8") == "step,loss,new\n1,0.5,\n2,0.4,\n"
