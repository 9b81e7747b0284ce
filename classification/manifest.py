"""The manifest: a CSV of images, labels and splits that any user can write, checked before use.

Columns: `image`, `label`, `split` (train, val, test), and, where there are several images of one
person, `subject`; other names of these columns can be told. Without `split` the subjects are
divided here. An image of several channels (phases, sequences) is several paths joined by `|`.
`label_name` may name numbered labels. `x_mm`, `y_mm`, `z_mm` and `extent_mm` (RAS) make a sample a
cube around a point instead of the whole image, so that one scan can hold many samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from classification.splits import SEED, SHARES, SPLITS, split_subjects
from nnunet_triad.errors import UserError
from nnunet_triad.files import write_table
from nnunet_triad.image_table import (
    CHANNEL_SEPARATOR,
    image_paths,
    name_cases,
    natural_key,
    read_subjects,
)
from nnunet_triad.tables import read_numbers, read_table

_SPLIT_NAMES = {"training": "train", "validation": "val", "valid": "val", "testing": "test"}
_CENTER = ["x_mm", "y_mm", "z_mm"]
_COLUMNS = ["image", "label", "split", "subject", "label_name", *_CENTER, "extent_mm"]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """How a table calls the columns that it must or may have."""

    image: str = "image"
    label: str = "label"
    subject: str = "subject"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Samples of a manifest as arrays: hundreds of thousands of rows stay small."""

    path: Path
    classes: tuple[str, ...]
    images: tuple[tuple[Path, ...], ...]  # the distinct images, each its channels' files
    image_of: NDArray[np.intp]  # (n,), into `images`
    labels: NDArray[np.intp]  # (n,), into `classes`; -1 where there is none
    splits: NDArray[np.str_]  # (n,), train, val, test, or empty
    subjects: NDArray[np.str_]  # (n,)
    cases: NDArray[np.str_]  # (n,), unique names for tables
    centers_mm: NDArray[np.float64] | None = None  # (n, 3), RAS
    extent_mm: float | None = None  # edge of the cube around a centre
    is_divided_here: bool = False  # the file has no column split

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.image_of)

    @property
    def num_channels(self) -> int:
        """Number of files that make up one image."""
        return len(self.images[0])

    def rows(self, split: str) -> NDArray[np.intp]:
        """Return the numbers of a split's samples."""
        return np.flatnonzero(self.splits == split)

    def counts(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the number of samples of each class among the given ones."""
        return np.bincount(self.labels[rows], minlength=len(self.classes))

    def summary(self) -> str:
        """Return the counts by split and class, a line a split."""
        lines = []
        for split in SPLITS:
            rows = self.rows(split)
            counts = ", ".join(
                f"{name} {count}"
                for name, count in zip(self.classes, self.counts(rows), strict=True)
            )
            num_subjects = len(set(self.subjects[rows]))
            lines.append(f"{split}: {len(rows)} samples of {num_subjects} subjects ({counts})")
        return "\n".join(lines)


def read_manifest(
    path: Path,
    *,
    classes: Sequence[str] | None = None,
    allow_shared_subjects: bool = False,
    columns: Columns | None = None,
) -> Manifest:
    """Read and check a manifest for training.

    Where it has no column split, subjects are divided 70/15/15, each class in these shares, always
    in the same way.

    Args:
        path: the CSV; commas, semicolons or tabs, UTF-8 or Windows-1252; relative paths start at
        it.
        classes: names in the wanted order; by default sorted, numbers as numbers.
        allow_shared_subjects: let a subject be in several splits (its scores are then too good).
        columns: how the table calls its columns.

    Raises:
        UserError: it is empty, or lacks a column, a file, a split or a class; a label occurs only
            outside train; a subject is in several splits.
    """
    manifest = _read(path, classes, is_labelled=True, columns=columns or Columns())
    if manifest.is_divided_here:
        manifest = _divide(manifest)
    _check_splits(manifest)
    _check_labels(manifest)
    if not allow_shared_subjects:
        _check_subjects(manifest)
    return manifest


def read_samples(path: Path, classes: Sequence[str], *, columns: Columns | None = None) -> Manifest:
    """Read a manifest for prediction: `label` and `split` may be missing.

    Args:
        path: the CSV.
        classes: of the model; a label that is none of them is refused.
        columns: how the table calls its columns.

    Raises:
        UserError: it is empty, or lacks a file, or has a label that the model does not know.
    """
    return _read(path, classes, is_labelled=False, columns=columns or Columns())


def manifest_of(images: Sequence[Path], classes: Sequence[str]) -> Manifest:
    """Make a manifest without labels of image files, each a sample.

    Raises:
        UserError: a file is missing.
    """
    groups = [tuple(Path(part) for part in str(i).split(CHANNEL_SEPARATOR)) for i in images]
    table = pd.DataFrame({"image": [CHANNEL_SEPARATOR.join(map(str, group)) for group in groups]})
    return _assemble(Path("INPUTS"), table, tuple(classes), is_labelled=False, base=Path())


def _read(
    path: Path, classes: Sequence[str] | None, *, is_labelled: bool, columns: Columns
) -> Manifest:
    table = _rename(path, _read_table(path), columns)
    needed = ["image", "label"] if is_labelled else ["image"]
    missing = [name for name in needed if name not in table]
    if missing:
        raise UserError(
            f"{path}: expected the columns {', '.join(needed)}, got {', '.join(table.columns)}; "
            f"add {', '.join(missing)}, or name them by "
            f"{', '.join(f'--{name}-column' for name in missing)}"
        )
    if table.empty:
        raise UserError(f"{path}: expected at least one image, got only a header; add rows")
    return _assemble(
        path,
        table,
        None if classes is None else tuple(classes),
        is_labelled=is_labelled,
        base=path.parent,
    )


def _read_table(path: Path) -> pd.DataFrame:
    return read_table(path, "a manifest (CSV) with a header image,label,split", columns=_COLUMNS)


def _rename(path: Path, table: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """Give columns the names that they have here; what had such a name before is left out."""
    chosen = {theirs: ours for ours, theirs in vars(columns).items() if theirs != ours}
    for theirs, ours in chosen.items():
        if theirs not in table:
            raise UserError(
                f"--{ours}-column: expected one of {', '.join(table.columns)} ({path}), got "
                f"{theirs}"
            )
    if len(chosen) < sum(theirs != ours for ours, theirs in vars(columns).items()):
        raise UserError(
            f"{path}: expected a column each for image, label and subject, got one for two of them"
        )
    return table.drop(columns=[ours for ours in chosen.values() if ours in table]).rename(
        columns=chosen
    )


def _assemble(
    path: Path,
    table: pd.DataFrame,
    classes: tuple[str, ...] | None,
    *,
    is_labelled: bool,
    base: Path,
) -> Manifest:
    codes, names = pd.factorize(table["image"])
    images = _resolve_images(path, list(names), base)
    centers, extent = _read_centers(path, table)
    labels, class_names = _read_labels(path, table, classes, is_labelled=is_labelled)
    return Manifest(
        path=path,
        classes=class_names,
        images=images,
        image_of=np.asarray(codes, dtype=np.intp),
        labels=labels,
        splits=_read_splits(path, table, is_labelled=is_labelled),
        subjects=read_subjects(path, table),
        cases=name_cases(table),
        centers_mm=centers,
        extent_mm=extent,
        is_divided_here=is_labelled and "split" not in table,
    )


def _resolve_images(path: Path, names: list[str], base: Path) -> tuple[tuple[Path, ...], ...]:
    images = image_paths(path, names, base)
    missing = [file for image in images for file in image if not file.is_file()]
    if missing:
        raise UserError(
            f"{path}: expected files at all paths, got {len(missing)} that are missing, first "
            f"{', '.join(map(str, missing[:3]))}; paths in a table start at its folder"
        )
    return images


def _read_labels(
    path: Path, table: pd.DataFrame, classes: tuple[str, ...] | None, *, is_labelled: bool
) -> tuple[NDArray[np.intp], tuple[str, ...]]:
    if "label" not in table:
        return np.full(len(table), -1, dtype=np.intp), classes or ()
    given = table["label"]
    names = given
    if "label_name" in table:
        names = table["label_name"].where(table["label_name"] != "", given)
    if is_labelled and (names == "").any():
        line = names.index[names == ""][0]
        raise UserError(f"{path}: expected a label in each row, got none in line {line}")
    if classes is None:
        order = dict(zip(names, given, strict=True))  # a numbered label sorts by its number
        classes = tuple(sorted(set(names), key=lambda name: natural_key(order[name])))
    number_of = {name: number for number, name in enumerate(classes)} | {"": -1}
    unknown = sorted(set(names) - set(number_of), key=natural_key)
    if unknown:
        advice = "the model has no output for it: train a new one"
        raise UserError(
            f"{path}: expected labels of {', '.join(classes)} ({len(classes)} classes), got "
            f"{', '.join(unknown[:5])} besides; {'see --classes' if is_labelled else advice}"
        )
    return np.array([number_of[name] for name in names], dtype=np.intp), classes


def _read_splits(path: Path, table: pd.DataFrame, *, is_labelled: bool) -> NDArray[np.str_]:
    if "split" not in table:
        return np.full(len(table), "", dtype="<U5")
    splits = table["split"].str.lower().replace(_SPLIT_NAMES)
    others = sorted(set(splits) - set(SPLITS))
    if others and is_labelled:
        raise UserError(
            f"{path}: expected train, val or test in the column split, got {others[0]!r}"
        )
    return splits.to_numpy(dtype=str)


def _read_centers(
    path: Path, table: pd.DataFrame
) -> tuple[NDArray[np.float64] | None, float | None]:
    present = [name for name in [*_CENTER, "extent_mm"] if name in table]
    if not present:
        return None, None
    if len(present) < 4:
        raise UserError(
            f"{path}: expected all of x_mm, y_mm, z_mm, extent_mm, got {', '.join(present)}"
        )
    values = read_numbers(path, table, [*_CENTER, "extent_mm"])
    extents = np.unique(values[:, 3])
    if not np.isfinite(values).all() or len(extents) > 1 or extents[0] <= 0:
        raise UserError(
            f"{path}: expected finite centres and one positive extent_mm for all rows, "
            f"got extents {extents[:3].tolist()}"
        )
    return values[:, :3], float(extents[0])


def _divide(manifest: Manifest) -> Manifest:
    """Divide the subjects of a manifest without splits; a subject counts as its commonest class."""
    subjects, numbers = np.unique(manifest.subjects, return_inverse=True)
    counts = np.zeros((len(subjects), len(manifest.classes)), dtype=int)
    np.add.at(counts, (numbers, manifest.labels), 1)
    label_of = {str(name): int(row.argmax()) for name, row in zip(subjects, counts, strict=True)}
    for number, name in enumerate(manifest.classes):
        num_subjects = sum(label == number for label in label_of.values())
        if num_subjects < len(SPLITS):
            raise UserError(
                f"{manifest.path}: expected at least {len(SPLITS)} subjects of each class, to "
                f"divide them, got {num_subjects} of {name}; add some, or a column split"
            )
    split_of = split_subjects(label_of, SHARES, seed=SEED)
    splits = np.array([split_of[str(name)] for name in manifest.subjects], dtype=str)
    return replace(manifest, splits=splits)


def write_split(path: Path, manifest: Manifest) -> None:
    """Write a manifest with its splits as a table that is one itself: absolute paths, names."""
    images = [CHANNEL_SEPARATOR.join(str(f.resolve()) for f in files) for files in manifest.images]
    centers = (
        {}
        if manifest.centers_mm is None
        else dict(zip(_CENTER, manifest.centers_mm.T, strict=True))
    )
    table = pd.DataFrame(
        {
            "image": [images[number] for number in manifest.image_of],
            "label": [manifest.classes[label] for label in manifest.labels],
            "split": manifest.splits,
            "subject": manifest.subjects,
            **centers,
            **({"extent_mm": manifest.extent_mm} if centers else {}),
        }
    )
    write_table(path, table)


def _check_splits(manifest: Manifest) -> None:
    for split in SPLITS:
        if not len(manifest.rows(split)):
            raise UserError(
                f"{manifest.path}: expected samples of train, val and test in the column split, "
                f"got none of {split}; the best epoch is chosen on val and scored once on test"
            )
    if manifest.centers_mm is None and len(manifest.images) < len(manifest):
        doubled = np.bincount(manifest.image_of).argmax()
        raise UserError(
            f"{manifest.path}: expected each image once, got "
            f"{CHANNEL_SEPARATOR.join(map(str, manifest.images[doubled]))} in several rows"
        )


def _check_labels(manifest: Manifest) -> None:
    if len(manifest.classes) < 2:
        raise UserError(
            f"{manifest.path}: expected two classes or more, got only "
            f"{', '.join(manifest.classes)}; there is nothing to tell apart"
        )
    in_train = manifest.counts(manifest.rows("train"))
    for number, name in enumerate(manifest.classes):
        if in_train[number]:
            continue
        elsewhere = [s for s in SPLITS if manifest.counts(manifest.rows(s))[number]]
        raise UserError(
            f"{manifest.path}: expected each label in train, got {name} only in "
            f"{' and '.join(elsewhere) or 'no row at all'}; move samples of it to train, or leave "
            f"it out"
        )


def _check_subjects(manifest: Manifest) -> None:
    first: dict[str, str] = {}
    for subject, split in zip(manifest.subjects, manifest.splits, strict=True):
        if first.setdefault(subject, split) != split:
            raise UserError(
                f"{manifest.path}: expected each subject in one split, got {subject} in "
                f"{first[subject]} and {split}; its test score would count what was learnt by heart"
            )
