"""The tidy results table that every evaluation of every task appends to.

Metrics that the report knows, each in one row a case (and label):

    segmentation    dice, hd95: a row a case and label; shares (0 to 1) and millimetres.
    classification  probability: a row a case and class; `label` is the class, the value softmax;
                    correct: one row a case; `label` is the true class, the value 1 or 0.
    registration    dice, hd95: a row a case (the pair) and label;
                    sdlogj, non_positive_jacobian: one row a case, `label` is empty;
                    dice_before: as dice, of the undeformed moving image.

Any other metric is averaged over cases and shown under its name.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd

from nnunet_triad.errors import UserError
from nnunet_triad.files import only_process, write_table
from nnunet_triad.tables import read_numbers, read_table


@dataclass(frozen=True, kw_only=True)
class Result:
    """One value of one metric on one case."""

    task: str  # segmentation, classification, registration
    dataset: str
    architecture: str
    initialization: str
    fold: int
    case: str
    label: str
    metric: str
    value: float  # NaN where the metric is undefined, e.g. Dice of a label absent in both
    subject: str = ""  # whom the case belongs to, where a subject has several; else empty
    seed: int = 0  # of the training, where a comparison repeats it


COLUMNS = tuple(column.name for column in fields(Result))
# A table made elsewhere may leave these out: they get the defaults of `Result`.
OPTIONAL_COLUMNS = ("subject", "seed")


def append_results(path: Path, results: Iterable[Result]) -> None:
    """Append rows to a results table (CSV); the old rows survive a kill at any moment.

    Several processes may append to one table: each waits for the others, by a lock beside it.

    Raises:
        UserError: `path` is a table of other columns.
    """
    table = pd.DataFrame([asdict(result) for result in results], columns=list(COLUMNS))
    path.parent.mkdir(parents=True, exist_ok=True)
    with only_process(path.with_name(f".{path.name}.lock"), refusal=None):
        if path.exists():
            table = pd.concat([read_results(path), table], ignore_index=True)
        write_table(path, table)


def read_results(path: Path) -> pd.DataFrame:
    """Read a results table.

    Returns:
        The columns `COLUMNS`, in this order.

    Raises:
        UserError: there is no such file, or it is not a table, has other columns, or numbers that
            cannot be read.
    """
    table = read_table(path, "a results table (CSV)", columns=COLUMNS)
    given = set(map(str, table.columns))
    if not set(COLUMNS) - set(OPTIONAL_COLUMNS) <= given <= set(COLUMNS):
        raise UserError(
            f"{path}: expected a results table with the columns {', '.join(COLUMNS)}, "
            f"got {_line(', '.join(map(str, table.columns)))}"
        )
    return _typed(path, table)


def _typed(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    if "subject" not in table:
        table["subject"] = ""
    columns = {"value": read_numbers(path, table, ["value"], empty=math.nan)[:, 0]}
    for name in ("fold", "seed"):
        numbers = read_numbers(path, table, [name])[:, 0] if name in table else np.zeros(len(table))
        if (numbers != np.rint(numbers)).any() or (np.abs(numbers) > 2**53).any():
            raise UserError(f"{path}: expected whole numbers in the column {name}, got others")
        columns[name] = numbers.astype(int)
    table = table.assign(**columns).reset_index(drop=True)
    return table[list(COLUMNS)]


def _line(text: object) -> str:
    """Return a text of any origin as one line of bearable length."""
    flat = " ".join(str(text).split())
    return flat if len(flat) <= 200 else f"{flat[:200]} ..."
