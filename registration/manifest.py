"""The manifest: a CSV of image pairs that any user can write.

Columns `moving,fixed,moving_labels,fixed_labels,split`; paths are relative to the CSV; label
columns may be empty or missing; `split` is train, val or test. `fixed` may be `*` in a train row: a
partner is drawn among the other train rows' moving images at each epoch, as TransMorph does on
OASIS.
`displacement`, optional, is the true displacement field where it is known. `subject`, optional,
says whose pair it is: pairs of one subject are not independent, and statistics count them as one.
"""

import os.path
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_triad.errors import UserError
from nnunet_triad.files import write_table
from nnunet_triad.tables import read_table, rows_of

SPLITS = ("train", "val", "test")
COLUMNS = ("moving", "fixed", "moving_labels", "fixed_labels", "split")
_OPTIONAL = ("displacement", "subject")
RANDOM_PARTNER = "*"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One row: files of a moving and of a fixed image."""

    moving: Path
    fixed: Path | None  # None: a partner is drawn at each epoch
    moving_labels: Path | None = None
    fixed_labels: Path | None = None
    displacement: Path | None = None  # the true field, fixed to moving
    split: str = "train"
    subject: str = ""

    @property
    def name(self) -> str:
        """Return MOVING_to_FIXED, for tables and messages."""
        fixed = RANDOM_PARTNER if self.fixed is None else _stem(self.fixed)
        return f"{_stem(self.moving)}_to_{fixed}"

    @property
    def has_labels(self) -> bool:
        """Tell whether both images have labels."""
        return self.moving_labels is not None and self.fixed_labels is not None


def _stem(path: Path) -> str:
    """Return a file's name; with its folder where the name alone says nothing (aligned_norm)."""
    name = path.name.removesuffix(".gz").removesuffix(".nii")
    return path.parent.name if name in ("aligned_norm", "image") else name


def read_manifest(path: Path) -> list[Pair]:
    """Read and check a manifest.

    Raises:
        UserError: it is missing, lacks a column, or a row names a file that is not there or an
        unknown split.
    """
    table = read_table(path, "a manifest (CSV)", columns=(*COLUMNS, *_OPTIONAL))
    if not {"moving", "fixed", "split"} <= set(table):
        raise UserError(
            f"{path}: expected the columns {', '.join(COLUMNS)}, got "
            f"{', '.join(map(str, table)) or 'none'}"
        )
    if table.empty:
        raise UserError(f"{path}: expected at least one pair, got none")
    pairs = [_read_row(path, line, row) for line, row in rows_of(table)]
    _check_partners(path, pairs)
    return pairs


def _read_row(path: Path, line: int, row: dict[str, str]) -> Pair:
    where = f"{path}, line {line}"
    split = row["split"]
    if split not in SPLITS:
        raise UserError(f"{where}: expected a split of {', '.join(SPLITS)}, got {split!r}")
    files: dict[str, Any] = {}
    for column in ("moving", "fixed", "moving_labels", "fixed_labels", "displacement"):
        value = row.get(column, "")
        if not value or (column == "fixed" and value == RANDOM_PARTNER):
            files[column] = None
            continue
        files[column] = Path(path).parent / value
        if not files[column].is_file():
            raise UserError(f"{where}: expected a file as {column}, got none at {files[column]}")
    if files["moving"] is None:
        raise UserError(f"{where}: expected a moving image, got an empty cell")
    if files["fixed"] is None and (row["fixed"] != "*" or split != "train"):
        raise UserError(
            f"{where}: expected a fixed image, got {row['fixed']!r}; "
            f"{RANDOM_PARTNER} draws a partner, in train rows only"
        )
    return Pair(split=split, subject=row.get("subject", ""), **files)


def _check_partners(path: Path, pairs: Sequence[Pair]) -> None:
    """Raise where a partner is to be drawn and no train row has another moving image."""
    is_drawn = any(pair.fixed is None for pair in pairs)
    moving = {pair.moving for pair in pairs if pair.split == "train"}
    if is_drawn and len(moving) == 1:
        raise UserError(
            f"{path}: expected train rows of two moving images or more where the fixed image is "
            f"{RANDOM_PARTNER}, got one; add a row, or name the fixed image"
        )


def write_manifest(path: Path, rows: Iterable[Pair]) -> None:
    """Write a manifest, atomically, with paths relative to it."""
    folder = Path(path).resolve().parent

    def relative(file: Path | None) -> str:
        return "" if file is None else os.path.relpath(file.resolve(), folder)

    def texts(pair: Pair) -> dict[str, str]:
        paths = {name: relative(getattr(pair, name)) for name in (*COLUMNS[:4], "displacement")}
        fixed = paths["fixed"] or RANDOM_PARTNER
        return {**paths, "fixed": fixed, "split": pair.split, "subject": pair.subject}

    pairs = list(rows)
    stated = [name for name in _OPTIONAL if any(getattr(pair, name) for pair in pairs)]
    columns = [*COLUMNS, *stated]
    write_table(Path(path), pd.DataFrame([texts(pair) for pair in pairs], columns=columns))
