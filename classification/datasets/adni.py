"""ADNI1 Complete 3Yr 1.5T: LONI's folders and its CSV; healthy, mildly impaired, Alzheimer.

Layout as LONI unpacks it: `ADNI/SUBJECT/DESCRIPTION/DATE_TIME/IIMAGE/*.nii` (or .nii.gz), and
beside it the collection's CSV with the columns Image Data ID, Subject, Group, Visit, ...
"""

import re
from collections.abc import Iterator
from pathlib import Path

from classification.datasets.skull_strip import strip_all
from classification.datasets.table import Row
from classification.settings import PrepareOptions
from classification.splits import split_subjects
from nnunet_triad.errors import UserError
from nnunet_triad.tables import read_table, rows_of

# Table 2 of the paper.
CLASSES = ("CN", "MCI", "AD")
_GROUPS = {"CN": 0, "NORMAL": 0, "MCI": 1, "LMCI": 1, "EMCI": 1, "AD": 2}
# 1,526 and 326 of 2,182 (section 4.3.1), applied to subjects.
_SHARES = (1526 / 2182, 326 / 2182)
_ID_COLUMNS = ("image data id", "image id")
_COLUMNS = (*_ID_COLUMNS, "group", "subject", "subject id", "split")
_IMAGE_ID = re.compile(r"(?:^|_)I(\d+)(?:_|\.|$)")


def rows(source: Path, output: Path, options: PrepareOptions) -> Iterator[Row]:
    """Yield a row for each image of the CSV that is in the folder.

    Differs: the paper's 1,526/326/330 cannot come from whole subjects with several visits each
    unless ids say so; here subjects are split, stratified by group. `options.split_ids` gives
    another split.
    """
    records = read_collection(find_collection(source))
    files = find_images(source)
    missing = [image for image in records if image not in files]
    if len(missing) == len(records):
        raise UserError(
            f"{source}: expected the images of the CSV as .../I12345/*.nii, got none of "
            f"{len(records)}"
        )
    kept = {image: record for image, record in records.items() if image in files}
    if options.split_ids is None:
        first_label: dict[str, int] = {}
        for subject, label in kept.values():
            first_label.setdefault(subject, label)
        by_subject = split_subjects(first_label, _SHARES, seed=options.seed)
        splits = {image: by_subject[subject] for image, (subject, _) in kept.items()}
    else:
        splits = read_split_ids(options.split_ids)
        kept = {image: record for image, record in kept.items() if image in splits}
    used = strip_all({image: files[image] for image in kept}, output, options)
    for image, (subject, label) in kept.items():
        yield Row(
            images=(used[image],),
            label=label,
            label_name=CLASSES[label],
            split=splits[image],
            subject=subject,
        )


def find_collection(source: Path) -> Path:
    """Return the CSV of the collection."""
    for path in sorted(source.glob("*.csv")):
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            header = file.readline().lower()
        if any(name in header for name in _ID_COLUMNS) and "group" in header:
            return path
    raise UserError(
        f"{source}: expected LONI's CSV of the collection with the columns Image Data ID, Subject "
        "and Group, got none; download it beside the images"
    )


def read_collection(path: Path) -> dict[str, tuple[str, int]]:
    """Return image id -> (subject, class)."""
    records: dict[str, tuple[str, int]] = {}
    for cells in _read_rows(path):
        group = cells.get("group", "").upper()
        if group not in _GROUPS:
            raise UserError(f"{path}: expected a group of {', '.join(_GROUPS)}, got {group!r}")
        subject = cells.get("subject") or cells.get("subject id") or ""
        records[image_number(_cell(cells, _ID_COLUMNS))] = (subject, _GROUPS[group])
    if not records:
        raise UserError(f"{path}: expected images, got only a header")
    return records


def _read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table, the names that are used here in lower case."""
    return [row for _, row in rows_of(read_table(path, "a table (CSV)", columns=_COLUMNS))]


def read_split_ids(path: Path) -> dict[str, str]:
    """Return image id -> split of a table with the columns Image Data ID and split."""
    table = _read_rows(path)
    if not table or "split" not in table[0] or not set(_ID_COLUMNS) & set(table[0]):
        raise UserError(f"{path}: expected the columns Image Data ID and split, got others or none")
    return {image_number(_cell(row, _ID_COLUMNS)): row["split"].lower() for row in table}


def find_images(source: Path) -> dict[str, Path]:
    """Return image id -> file, by the folder or the file name that carries it."""
    found: dict[str, Path] = {}
    for path in sorted([*source.rglob("*.nii"), *source.rglob("*.nii.gz")]):
        match = _IMAGE_ID.search(path.parent.name) or _IMAGE_ID.search(path.name)
        if match:
            found.setdefault(match.group(1), path)
    return found


def image_number(text: str) -> str:
    """Return an image id without its I: LONI writes it with and without."""
    return text.strip().lstrip("Ii")


def _cell(cells: dict[str, str], names: tuple[str, ...]) -> str:
    return next((cells[name] for name in names if name in cells), "")
