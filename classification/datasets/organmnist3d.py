"""OrganMNIST3D, 64^3: one file of MedMNIST v2, `organmnist3d_64.npz`, with its own three splits.

Class numbers are MedMNIST's. Table 2 of the paper lists the organs in another order.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classification.datasets.table import Row
from classification.settings import PrepareOptions
from nnunet_triad.errors import UserError
from nnunet_triad.images import write_volume
from nnunet_triad.numpy_file import read_npz

CLASSES = (
    "liver",
    "kidney-right",
    "kidney-left",
    "femur-right",
    "femur-left",
    "bladder",
    "heart",
    "lung-right",
    "lung-left",
    "spleen",
    "pancreas",
)
FILE_NAMES = ("organmnist3d_64.npz", "organmnist3d.npz")


def rows(source: Path, output: Path, options: PrepareOptions) -> Iterator[Row]:
    """Yield a row a volume, written as NIfTI under OUTPUT/images.

    MedMNIST publishes no patients: each volume is its own subject.
    """
    file = _file(source)
    for split in ("train", "val", "test"):
        images, labels = read_npz(file, (f"{split}_images", f"{split}_labels"))
        _check(file, split, images, labels)
        for number, (image, label) in enumerate(zip(images, labels.ravel(), strict=True)):
            name = f"{split}-{number:04d}"
            path = output / "images" / f"{name}.nii.gz"
            if not path.exists():
                write_volume(path, image.astype(np.float32), np.eye(4))
            yield Row(
                images=(path,),
                label=int(label),
                label_name=CLASSES[int(label)],
                split=split,
                subject=name,
            )


def _check(file: Path, split: str, images: NDArray[Any], labels: NDArray[Any]) -> None:
    if images.ndim != 4 or labels.size != len(images):
        raise UserError(
            f"{file}: expected {split}_images (n, x, y, z) with as many labels, got "
            f"{images.shape} and {labels.size}"
        )
    if not np.isin(labels, range(len(CLASSES))).all():
        raise UserError(
            f"{file}: expected {split}_labels from 0 to {len(CLASSES) - 1}, "
            f"got {labels.min()} to {labels.max()}"
        )


def _file(source: Path) -> Path:
    if source.is_file():
        return source
    for name in FILE_NAMES:
        if (source / name).is_file():
            return source / name
    raise UserError(f"{source}: expected {FILE_NAMES[0]} of MedMNIST, got no such file")
