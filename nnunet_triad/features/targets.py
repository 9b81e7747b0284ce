"""What is to be told from features: a column of classes or of numbers, and whose it is."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nnunet_triad.errors import UserError
from nnunet_triad.features.settings import ProbeSettings
from nnunet_triad.image_table import natural_key
from nnunet_triad.tables import read_numbers

MOST_CLASSES = 10  # distinct numbers, up to which they are taken for classes


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Targets of cases, all of them known.

    Attributes:
        truth: (n,): numbers of classes, or the numbers themselves.
        classes: their names; empty for a regression.
        cases: (n,).
        subjects: (n,).
    """

    truth: NDArray[np.float64]
    classes: tuple[str, ...]
    cases: NDArray[np.str_]
    subjects: NDArray[np.str_]

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self.truth)

    def take(self, is_taken: NDArray[np.bool_]) -> "Targets":
        """Return the targets of some cases."""
        return Targets(
            truth=self.truth[is_taken],
            classes=self.classes,
            cases=self.cases[is_taken],
            subjects=self.subjects[is_taken],
        )


def read_targets(
    path: Path,
    table: pd.DataFrame,
    settings: ProbeSettings,
    *,
    cases: Sequence[str],
    subjects: Sequence[str],
) -> Targets:
    """Read the targets of a manifest's rows; empty cells, and NaN, are not known and left out.

    Args:
        path: of the manifest.
        table: from `read_manifest`.
        settings: say which column it is, and of what kind.
        cases: the name of each row.
        subjects: of each row.

    Raises:
        UserError: there is no such column, or numbers and texts are mixed.
    """
    if settings.target not in table:
        raise UserError(
            f"target: expected a column of {path} ({', '.join(map(str, table.columns))}), got "
            f"{settings.target}",
            setting="target",
        )
    cells = table[settings.target].astype(str)
    is_known = ~cells.str.lower().isin(("", "nan")).to_numpy()
    if not is_known.any():
        raise UserError(f"{path}: expected values in the column {settings.target}, got none")
    known = table[is_known]
    names: tuple[str, ...] = ()
    numbers = _numbers(path, known, settings)
    if numbers is None:
        texts = list(known[settings.target])
        names = tuple(sorted(set(texts), key=natural_key))
        numbers = np.array([names.index(text) for text in texts], dtype=np.float64)
    return Targets(
        truth=numbers,
        classes=names,
        cases=np.asarray(cases, dtype=str)[is_known],
        subjects=np.asarray(subjects, dtype=str)[is_known],
    )


def check_folds(targets: Targets, settings: ProbeSettings) -> None:
    """Check that there is something to tell, from enough subjects.

    Raises:
        UserError: there is one class or one value, or fewer subjects than folds.
    """
    number = len(set(targets.subjects))
    if number < settings.folds:
        raise UserError(
            f"folds: expected at most as many as subjects, {number}, got {settings.folds}; use "
            "fewer --folds, or more subjects",
            setting="folds",
        )
    if not targets.classes:
        if np.ptp(targets.truth) == 0:
            raise UserError(
                f"target: expected numbers that differ, got {targets.truth[0]:g} in all "
                f"{len(targets)} cases",
                setting="target",
            )
        if number < 4:
            raise UserError(f"target: expected 4 subjects or more, got {number}", setting="target")
        return
    if len(targets.classes) < 2 or len(np.unique(targets.truth)) < 2:
        raise UserError(
            f"target: expected two classes or more, got only {targets.classes[0]}; there is "
            "nothing to tell apart",
            setting="target",
        )
    pairs = set(zip(targets.truth.astype(int), targets.subjects, strict=True))
    counts = Counter(value for value, _ in pairs)
    least = min(range(len(targets.classes)), key=lambda value: counts[value])
    needed = max(settings.folds, 4 if settings.folds == 2 else 3)
    if counts[least] < needed:
        raise UserError(
            f"folds: expected at least {needed} subjects of each class, got {counts[least]} of "
            f"{targets.classes[least]}; use fewer --folds, or leave the cells of that class "
            "empty",
            setting="folds",
        )


def _numbers(
    path: Path, table: pd.DataFrame, settings: ProbeSettings
) -> NDArray[np.float64] | None:
    """Return a column as numbers, None where it is one of classes."""
    if settings.task == "classes":
        return None
    if settings.task == "numbers":
        return _finite(path, table, settings.target)
    is_number = [_is_number(cell) for cell in table[settings.target]]
    if not any(is_number):
        return None
    if not all(is_number):
        line = table.index[is_number.index(False)]
        cell = table[settings.target].loc[line]
        if np.mean(is_number) > 0.5:  # a text among numbers is a mistake
            raise UserError(
                f"{path}, line {line}: expected a number in the column {settings.target}, as in "
                f"most rows, got {cell!r:.80}; leave it empty where it is not known, or use --task "
                "classes"
            )
        return None
    values = _finite(path, table, settings.target)
    is_whole = bool((values == np.rint(values)).all())
    return None if is_whole and len(np.unique(values)) <= MOST_CLASSES else values


def _finite(path: Path, table: pd.DataFrame, column: str) -> NDArray[np.float64]:
    values = read_numbers(path, table, [column])[:, 0]
    if not np.isfinite(values).all():
        line = table.index[~np.isfinite(values)][0]
        raise UserError(
            f"{path}, line {line}: expected a finite number in the column {column}, got "
            f"{values[~np.isfinite(values)][0]}"
        )
    return values


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return False
    return "_" not in cell
