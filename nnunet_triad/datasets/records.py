"""What a conversion has done: a journal while it runs, a table once it has finished."""

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from nnunet_triad.datasets.case import Case
from nnunet_triad.datasets.convert_case import ConvertedCase
from nnunet_triad.errors import UserError
from nnunet_triad.files import write_atomically, write_table
from nnunet_triad.tables import read_table
from nnunet_triad.texts import MOST_OF_A_LIST, read_json, read_short_text

CASES_FILE = "cases.csv"
_JOURNAL = ".conversion.jsonl"
COLUMNS = (
    *("case", "patient", "split", "is_training", "sha256"),
    *("is_itk", "is_copied", "sources", "version"),
)


class Journal:
    """The finished cases of a dataset's folder, one line each; a torn last line is ignored."""

    def __init__(self, folder: Path) -> None:
        """Look into a dataset's folder in nnUNet_raw, which need not exist yet."""
        self.path = folder / _JOURNAL
        self._table = folder / CASES_FILE

    @property
    def is_open(self) -> bool:
        """Whether a conversion was begun and did not finish."""
        return self.path.exists()

    def read(self) -> dict[str, dict[str, str]]:
        """Return the rows of the finished cases by name, of the table and of the journal.

        A table that cannot be used counts as none: its cases are converted again.
        """
        rows = {}
        with contextlib.suppress(UserError):
            rows = {row["case"]: row for row in read_cases(self._table)}
        if self.path.exists():
            for line in self._lines():
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    row = json.loads(line)
                    rows[row["case"]] = row
        return rows

    def start(self) -> None:
        """Make the journal, and cut what a kill has left of a last line."""
        lines = self._lines() if self.path.exists() else []
        with write_atomically(self.path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def _lines(self) -> list[str]:
        """Return the whole lines of the journal."""
        text = read_short_text(self.path, most_bytes=MOST_OF_A_LIST, encoding="utf-8")
        return text.split("\n")[:-1]

    def add(self, row: dict[str, str]) -> None:
        """Note that a case has been finished."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def finish(self, rows: Iterable[dict[str, str]]) -> None:
        """Write the table, and remove the journal."""
        table = pd.DataFrame(rows, columns=list(COLUMNS)).sort_values("case")
        write_table(self._table, table)
        self.path.unlink(missing_ok=True)


def row_of(converted: ConvertedCase, source: Path, *, is_copied: bool) -> dict[str, str]:
    """Return the table's row for a case; sources are relative to the source folder."""
    case = converted.case
    return {
        "case": case.name,
        "patient": case.patient,
        "split": case.split,
        "is_training": str(int(case.has_label)),
        "sha256": converted.sha256,
        "is_itk": str(int(converted.is_readable_by_itk)),
        "is_copied": str(int(is_copied)),
        "sources": sources_of(case, source),
        "version": version_of(case),
    }


def sources_of(case: Case, source: Path) -> str:
    """Return a case's files relative to the source folder, for the table."""
    return ";".join(str(path.relative_to(source)) for path in case.files)


def version_of(case: Case) -> str:
    """Return something that changes when a file of the case is replaced: bytes and last change."""
    stats = [path.stat() for path in case.files]
    return f"{sum(s.st_size for s in stats)}-{max(s.st_mtime_ns for s in stats)}"


def read_cases(path: Path) -> list[dict[str, str]]:
    """Return the rows of a dataset's `cases.csv`.

    Raises:
        UserError: the table is missing or is another one.
    """
    if not path.exists():
        raise UserError(
            f"{path}: expected the table that triad-dataset convert writes, got none; "
            "convert the dataset first"
        )
    table = read_table(path, "the table that triad-dataset convert writes", columns=COLUMNS)
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise UserError(
            f"{path}: expected columns {', '.join(COLUMNS)}, got none of {', '.join(missing)}; "
            "convert the dataset again"
        )
    return [dict(zip(table.columns, row, strict=True)) for row in table.itertuples(index=False)]


def read_undescribed_cases(folder: Path) -> list[dict[str, str]]:
    """Return the training cases of a dataset in nnUNet_raw that somebody made by hand.

    Args:
        folder: of the dataset, as nnU-Net reads it: imagesTr, or the list in dataset.json.

    Returns:
        A row a case, of the columns case, patient (the case itself) and sources.

    Raises:
        UserError: nnU-Net finds no cases there.
    """
    from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

    try:
        description = read_json(folder / "dataset.json")
        found = get_filenames_of_train_images_and_targets(str(folder), description)
    except (OSError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{folder}: expected a dataset as nnU-Net reads it, got {error!r}; write its "
            "dataset.json and imagesTr first"
        ) from error
    if not found:
        raise UserError(f"{folder / 'imagesTr'}: expected images NAME_0000, got none")
    return [
        {"case": case, "patient": case, "sources": ";".join(map(str, files["images"]))}
        for case, files in sorted(found.items())
    ]
