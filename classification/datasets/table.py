"""Manifests as readers write them: rows streamed to a CSV, counts kept."""

import csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_triad.files import write_atomically
from nnunet_triad.tables import quote_formula

MANIFEST_NAME = "manifest.csv"
COLUMNS = ("image", "label", "label_name", "split", "subject")
CENTER_COLUMNS = ("x_mm", "y_mm", "z_mm", "extent_mm")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One sample of a dataset."""

    images: tuple[Path, ...]  # its channels
    label: int
    label_name: str
    split: str
    subject: str
    center: tuple[float, float, float, float] | None = None  # x y z (RAS mm), edge (mm)


@dataclass(kw_only=True)
class Counts:
    """How many samples a manifest got."""

    splits: Counter = field(default_factory=Counter)
    classes: Counter = field(default_factory=Counter)

    def add(self, row: Row) -> None:
        """Count a row."""
        self.splits[row.split] += 1
        self.classes[row.label_name] += 1

    def text(self) -> str:
        """Return the counts as a line."""
        splits = ", ".join(f"{name} {self.splits[name]}" for name in ("train", "val", "test"))
        classes = ", ".join(f"{name} {count}" for name, count in sorted(self.classes.items()))
        return f"{sum(self.splits.values())} samples ({splits}; {classes})"


def write_manifest(path: Path, rows: Iterable[Row], *, has_centers: bool = False) -> Counts:
    """Write rows as they come: hundreds of thousands pass without being held.

    Args:
        path: the CSV; images are written relative to its folder where they lie below it.
        rows: in order.
        has_centers: write the columns of samples inside scans.
    """
    counts = Counts()
    base = path.parent.resolve()
    columns = [*COLUMNS, *(CENTER_COLUMNS if has_centers else ())]
    with (
        write_atomically(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in rows:
            counts.add(row)
            image = "|".join(_relative(image, base) for image in row.images)
            center = [f"{value:.4f}" for value in row.center or ()]
            cells = [image, row.label, row.label_name, row.split, row.subject]
            writer.writerow([*map(quote_formula, cells), *center])
    return counts


def _relative(image: Path, base: Path) -> str:
    image = image.resolve()
    return str(image.relative_to(base)) if image.is_relative_to(base) else str(image)
