"""BreastDM: breast DCE-MRI, benign or malignant, split as for segmentation.

Layout of the published archive: `seg3D/SPLIT/images/BreaDM-Be-1801/VIBRANT.npy` with slices on the
last axis, three sequences (VIBRANT, VIBRANT+C2, SUB2) a case; Be is benign, Ma malignant. `seg3D`
holds the split that the paper describes; `seg` and `cls/img9Se` of the same archive repeat
training cases in their test folders.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from classification.datasets.table import Row
from classification.settings import PrepareOptions
from nnunet_triad.errors import UserError
from nnunet_triad.images import write_volume
from nnunet_triad.numpy_file import read_npy

CLASSES = ("Benign", "Malignant")  # Table 2 of the paper
_KINDS = {"BreaDM-Be": 0, "BreaDM-Ma": 1}
_DEFAULT_SEQUENCES = ("VIBRANT+C2",)  # after contrast; the paper does not say which


def rows(source: Path, output: Path, options: PrepareOptions) -> Iterator[Row]:
    """Yield a row a case; its sequences become NIfTI files under OUTPUT/images.

    A case in several splits counts for the first of train, val and test.
    """
    sequences = options.sequences or _DEFAULT_SEQUENCES
    seen: set[str] = set()
    for split, folder in _cases(_root(source)):
        case = folder.name
        kind = _KINDS.get(case[: len("BreaDM-Be")])
        if kind is None or case in seen:
            continue
        seen.add(case)
        images = tuple(
            _convert(folder / f"{name}.npy", output / "images" / case / f"{name}.nii.gz")
            for name in sequences
        )
        yield Row(images=images, label=kind, label_name=CLASSES[kind], split=split, subject=case)


def _root(source: Path) -> Path:
    for folder in (source / "seg3D", source / "BreaDM" / "seg3D", source):
        if (folder / "train" / "images").is_dir():
            return folder
    raise UserError(f"{source}: expected seg3D/train/images of BreaDM.zip, got no such folder")


def _cases(root: Path) -> Iterator[tuple[str, Path]]:
    for split in ("train", "val", "test"):
        for folder in sorted((root / split / "images").glob("*")):
            if folder.is_dir():
                yield split, folder


def _convert(source: Path, target: Path) -> Path:
    """Write slices (height, width, depth) as a volume; the archive has no spacing: 1 mm."""
    if target.exists():
        return target
    if not source.is_file():
        found = ", ".join(sorted(path.stem for path in source.parent.glob("*.npy")))
        raise UserError(
            f"{source}: expected a volume of that sequence, got {found or 'none'}; see --sequences"
        )
    slices = read_npy(source, num_axes=3)
    # Rows run from front to back and columns from right to left, as in an axial slice.
    volume = np.swapaxes(slices, 0, 1).astype(np.float32)
    return write_volume(target, volume, np.diag([-1.0, -1.0, 1.0, 1.0]))
