"""Which images there are: files, folders, or a manifest; and the mask of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nnunet_triad.errors import UserError
from nnunet_triad.image_table import (
    CHANNEL_SEPARATOR,
    image_paths,
    name_cases,
    natural_key,
    read_subjects,
)
from nnunet_triad.tables import read_table

_TABLES = (".csv", ".tsv", ".txt")
_IMAGES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr", ".mgz", ".mgh")
_PLACEHOLDERS = ("name", "stem", "case")
_COLUMNS = ("image", "subject", "mask", "label")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image, of one file a channel, which may not be there."""

    case: str  # unique: its path as it was given, numbered where it is there twice
    subject: str
    images: tuple[Path, ...]
    mask: Path | None = None  # whether it is wanted, and where it would be

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that its features follow from."""
        return self.images if self.mask is None else (*self.images, self.mask)


def read_samples(inputs: Sequence[Path], mask: str | None) -> list[Sample]:
    """Return the samples of images, folders of images, or one manifest.

    Args:
        inputs: files, whose channels are joined by |, and folders; or one table (CSV).
        mask: a column of the table, or a pattern; see `FeatureSettings.mask`.

    Raises:
        UserError: there is no image or mask at all, an image is given twice, or a table cannot be
            read or lacks a column.
    """
    if any(path.suffix.lower() in _TABLES for path in inputs):
        if len(inputs) > 1:
            raise UserError("INPUTS: expected images, or one manifest alone, got both or several")
        samples = samples_of(inputs[0], read_manifest(inputs[0]), mask)
    else:
        table = pd.DataFrame({"image": [str(path) for path in _spread(inputs)]}, dtype=object)
        twice = table["image"][table["image"].duplicated()]
        if len(twice):
            raise UserError(f"INPUTS: expected each image once, got {twice.iloc[0]} twice")
        samples = samples_of(Path("INPUTS"), table, mask, base=Path())
    _check_some_are_there(samples)
    return samples


def read_manifest(path: Path) -> pd.DataFrame:
    """Read a table with a column image; its index holds the line of each row.

    Raises:
        UserError: it is no table, or has no rows or no such column.
    """
    table = read_table(path, "a manifest (CSV) with a column image", columns=_COLUMNS)
    if "image" not in table:
        raise UserError(
            f"{path}: expected a column image, got {', '.join(map(str, table.columns))}; add it"
        )
    if table.empty:
        raise UserError(f"{path}: expected at least one image, got only a header; add rows")
    return table


def samples_of(
    path: Path, table: pd.DataFrame, mask: str | None, *, base: Path | None = None
) -> list[Sample]:
    """Return the samples of a table's rows, in their order.

    Args:
        path: of the table.
        table: from `read_manifest`.
        mask: as for `read_samples`.
        base: the folder that relative paths start at; None: the table's.

    Raises:
        UserError: a path or a subject is missing, or `mask` is neither a column nor a pattern.
    """
    base = path.parent if base is None else base
    images = image_paths(path, list(table["image"]), base)
    return [
        Sample(case=case, subject=subject, images=files, mask=place)
        for case, subject, files, place in zip(
            map(str, name_cases(table)),
            map(str, read_subjects(path, table)),
            images,
            _masks(table, images, mask, base),
            strict=True,
        )
    ]


def _masks(
    table: pd.DataFrame, images: Sequence[tuple[Path, ...]], mask: str | None, base: Path
) -> list[Path | None]:
    if mask is None:
        return [None] * len(images)
    if mask in table:
        return [base / str(cell).replace("\\", "/") for cell in table[mask]]
    if not any(f"{{{name}}}" in mask for name in _PLACEHOLDERS):
        raise UserError(
            f"mask: expected a column of the manifest ({', '.join(map(str, table.columns))}), or a "
            f"path with {{name}}, {{stem}} or {{case}} in it, got {mask}",
            setting="mask",
        )
    return [_fill(mask, files[0]) for files in images]


def _fill(pattern: str, image: Path) -> Path:
    stem = image.name.removesuffix(".gz").rsplit(".", 1)[0]
    words = {"name": image.name, "stem": stem, "case": _without_channel(stem)}
    for name, word in words.items():
        pattern = pattern.replace(f"{{{name}}}", word)
    return image.parent / pattern


def _without_channel(stem: str) -> str:
    """Take away nnU-Net's number of the channel."""
    start, _, number = stem.rpartition("_")
    return start if start and len(number) == 4 and number.isdecimal() else stem


def _spread(inputs: Sequence[Path]) -> list[Path]:
    """Return files, and those of folders in their natural order."""
    found: list[Path] = []
    for path in inputs:
        if not path.is_dir():
            found.append(path)
            continue
        files = [file for file in path.rglob("*") if _is_image(file)]
        if not files:
            raise UserError(
                f"{path}: expected a folder with images ({', '.join(_IMAGES)}), got none"
            )
        found += sorted(files, key=lambda file: natural_key(str(file)))
    return found


def _is_image(path: Path) -> bool:
    is_named = path.name.lower().endswith(_IMAGES) and not path.name.startswith(".")
    return is_named and path.is_file()


def _check_some_are_there(samples: Sequence[Sample]) -> None:
    """Refuse what can only be a wrong path; single ones that are missing are set aside later."""
    first = samples[0]
    if not any(all(map(Path.is_file, sample.images)) for sample in samples):
        raise UserError(
            f"{CHANNEL_SEPARATOR.join(map(str, first.images))}: expected an image, got no file"
            + (f", nor at the {len(samples) - 1} other paths" if len(samples) > 1 else "")
            + "; paths start at the manifest's folder, without one here"
        )
    if first.mask is not None and not any(s.mask and s.mask.is_file() for s in samples):
        raise UserError(
            f"mask: expected a label map of each image, got none at all, first {first.mask}",
            setting="mask",
        )
