"""LUNA16: 888 CT scans in ten subsets (MetaImage), and half a million candidates (CSV).

Layout: `subset0/SERIESUID.mhd` with its .raw or .zraw, ..., `CSVFILES/candidates.csv` (or beside
the subsets) with the columns seriesuid, coordX, coordY, coordZ, class; coordinates are world mm in
ITK's LPS convention.
"""

from collections.abc import Iterator
from pathlib import Path

from classification.datasets.table import Row
from classification.settings import PrepareOptions
from nnunet_triad.errors import UserError
from nnunet_triad.tables import read_numbers, read_table

CLASSES = ("Non-nodule", "Nodule")  # Table 2 of the paper
# Section 4.3.1: subsets 0-5, 6, 7-9.
_SPLITS = ("train",) * 6 + ("val",) + ("test",) * 3
_COLUMNS = ("seriesuid", "coordX", "coordY", "coordZ", "class")
_NAMES = ("candidates.csv", "candidates_V2.csv")


def rows(source: Path, output: Path, options: PrepareOptions) -> Iterator[Row]:
    """Yield a row a candidate, in the file's order.

    Candidates of scans that are not there are skipped, as subsets may be downloaded one by one.
    """
    scans = find_scans(source)
    path = find_candidates(source)
    table = read_table(path, "candidates (CSV)", columns=_COLUMNS)
    if not set(_COLUMNS) <= set(table):
        raise UserError(
            f"{path}: expected the columns {', '.join(_COLUMNS)}, got {', '.join(map(str, table))}"
        )
    numbers = read_numbers(path, table, _COLUMNS[1:])
    others = [label for label in numbers[:, 3] if label not in (0, 1)]
    if others:
        raise UserError(f"{path}: expected 0 or 1 in the column class, got {others[0]:g}")
    for uid, (*point, label) in zip(table["seriesuid"], numbers, strict=True):
        if uid not in scans:
            continue
        image, split = scans[uid]
        x, y, z = lps_to_ras(tuple(map(float, point)))
        yield Row(
            images=(image,),
            label=int(label),
            label_name=CLASSES[int(label)],
            split=split,
            subject=uid,
            center=(x, y, z, options.extent_mm),
        )


def lps_to_ras(point: tuple[float, ...]) -> tuple[float, float, float]:
    """Turn world coordinates of ITK (left, posterior, superior) to RAS, mm."""
    x, y, z = point
    return -x, -y, z


def find_scans(source: Path) -> dict[str, tuple[Path, str]]:
    """Return series uid -> (file, split)."""
    scans = {}
    for number, split in enumerate(_SPLITS):
        for path in sorted((source / f"subset{number}").rglob("*.mhd")):
            scans[path.stem] = (path, split)
    if not scans:
        raise UserError(f"{source}: expected subset0 to subset9 with .mhd files, got none")
    return scans


def find_candidates(source: Path) -> Path:
    """Return the table of candidates; the paper's 551,065 are those of candidates.csv."""
    for folder in (source / "CSVFILES", source):
        for name in _NAMES:
            if (folder / name).is_file():
                return folder / name
    raise UserError(f"{source}: expected CSVFILES/candidates.csv, got no such file")
