"""The tidy results table that every evaluation of every task appends to."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pandas as pd

from nnunet_triad.errors import UserError
from nnunet_triad.files import write_atomically


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


COLUMNS = tuple(column.name for column in fields(Result))


def append_results(path: Path, results: Iterable[Result]) -> None:
    """Append rows to a results table (CSV); the old rows survive a kill at any moment.

    Raises:
        UserError: `path` is a table of other columns.
    """
    table = pd.DataFrame([asdict(result) for result in results], columns=list(COLUMNS))
    if path.exists():
        table = pd.concat([read_results(path), table], ignore_index=True)
    with write_atomically(path) as temporary:
        table.to_csv(temporary, index=False)


def read_results(path: Path) -> pd.DataFrame:
    """Read a results table.

    Raises:
        UserError: it has other columns.
    """
    table = pd.read_csv(path, dtype={"case": str, "label": str})
    if tuple(table.columns) != COLUMNS:
        raise UserError(
            f"{path}: expected a results table with the columns {', '.join(COLUMNS)}, "
            f"got {', '.join(map(str, table.columns))}"
        )
    return table
