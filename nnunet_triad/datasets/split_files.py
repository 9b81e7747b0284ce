"""Lists of cases as others publish them: MONAI's and VoCo's JSON data lists, and CSV tables."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_triad.errors import UserError
from nnunet_triad.tables import read_table, rows_of
from nnunet_triad.texts import read_json

_VALIDATION = ("validation", "valid", "val")
_TRAINING = ("training", "train")
_IGNORED_SIDES = ("test", "testing")
_PATH_COLUMNS = ("case", "image", "label", "name", "file", "id")


@dataclass(frozen=True, kw_only=True)
class ListedCase:
    """One entry of a list.

    Attributes:
        paths: the files, or the case's name; as they stand in the list.
        is_validation: its side, where the list has sides.
        fold: its fold, where the list has folds.
        place: where in the list, for messages.
    """

    paths: tuple[str, ...]
    is_validation: bool
    fold: int | None
    place: str

    @property
    def text(self) -> str:
        """The entry for messages."""
        return self.paths[0]


def read_list(path: Path) -> list[ListedCase]:
    """Read a list of cases with their sides or folds.

    A JSON data list has `training` and `validation` (`train`, `val` and `valid` are taken too), or
    a `fold` in each entry of `training`; an entry is a path, or has `image` and `label`, which are
    paths or lists of paths. A CSV table has a column `split` (train, valid) or `fold`, and `case`,
    `image`, `label`, `name`, `file` or `id`. Test cases are skipped.

    Raises:
        UserError: the file cannot be read or is none of these.
    """
    if not path.is_file():
        raise UserError(f"--from: expected a JSON or CSV file, got {path}; name an existing file")
    if path.suffix.lower() == ".json":
        return _read_json(path)
    if path.suffix.lower() == ".csv":
        return _read_csv(path)
    raise UserError(f"--from: expected a .json or .csv file, got {path}; rename or convert it")


def read_patients(path: Path) -> dict[str, str]:
    """Read a CSV table with the columns `case` and `patient`.

    Raises:
        UserError: the file cannot be read, or a case is listed twice with different patients.
    """
    table = read_table(path, "a CSV table for --patients", columns=("case", "patient"))
    missing = {"case", "patient"} - set(table.columns)
    if missing:
        raise UserError(
            f"{path}: expected columns case and patient, got {', '.join(table.columns)}; "
            "rename the columns"
        )
    patients: dict[str, str] = {}
    for case, patient in zip(table["case"], table["patient"], strict=True):
        if patients.setdefault(case, patient) != patient:
            raise UserError(
                f"{path}: expected one patient for {case}, got {patients[case]} and {patient}; "
                "correct the table"
            )
    return patients


def _read_json(path: Path) -> list[ListedCase]:
    content = read_json(path)
    sides = content if isinstance(content, Mapping) else {}
    listed = [
        _entry(entry, f"{side}[{number}]", is_validation=side in _VALIDATION)
        for side, entries in sides.items()
        if side in (*_TRAINING, *_VALIDATION) and isinstance(entries, list)
        for number, entry in enumerate(entries)
    ]
    if not listed:
        raise UserError(
            f"{path}: expected lists named training and validation, got "
            f"{', '.join(sides) or 'none'}; name a MONAI data list"
        )
    return listed


def _entry(entry: Any, place: str, *, is_validation: bool) -> ListedCase:
    if isinstance(entry, str):
        entry = {"image": entry}
    if not isinstance(entry, Mapping):
        raise UserError(f"{place}: expected an entry with image or label, got {entry}; correct it")
    values = [entry[key] for key in ("image", "label") if entry.get(key)] if entry else []
    paths = [path for value in values for path in (value if isinstance(value, list) else [value])]
    if not paths:
        raise UserError(f"{place}: expected an entry with image or label, got {entry}; correct it")
    return ListedCase(
        paths=tuple(str(path) for path in paths),
        is_validation=is_validation,
        fold=None if is_validation else _fold(entry.get("fold"), place),
        place=place,
    )


def _fold(value: Any, place: str) -> int | None:
    if value is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", str(value)):
        raise UserError(f"{place}: expected a fold number, got {value!r:.50}; correct it")
    return int(value)


def _read_csv(path: Path) -> list[ListedCase]:
    table = read_table(path, "a CSV table for --from", columns=(*_PATH_COLUMNS, "split", "fold"))
    columns = [name for name in _PATH_COLUMNS if name in table]
    if not columns or not {"split", "fold"} & set(table.columns):
        raise UserError(
            f"{path}: expected a column split or fold, and one of {', '.join(_PATH_COLUMNS)}, got "
            f"{', '.join(table.columns)}; rename the columns"
        )
    has_folds = "fold" in table
    listed = []
    for number, row in rows_of(table):
        side = "" if has_folds else row["split"].lower()
        if side in _IGNORED_SIDES:
            continue
        if not has_folds and side not in (*_TRAINING, *_VALIDATION):
            raise UserError(
                f"{path}, line {number}: expected split train, valid or test, got {side!r}; "
                "correct it"
            )
        if has_folds and not row["fold"].isdecimal():
            raise UserError(
                f"{path}, line {number}: expected a fold number, got {row['fold']!r}; correct it"
            )
        paths = tuple(row[name] for name in columns if row[name])
        if not paths:
            raise UserError(f"{path}, line {number}: expected a case, got an empty one; correct it")
        listed.append(
            ListedCase(
                paths=paths,
                is_validation=side in _VALIDATION,
                fold=int(row["fold"]) if has_folds else None,
                place=f"line {number}",
            )
        )
    return listed
