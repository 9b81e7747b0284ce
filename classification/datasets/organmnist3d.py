"""OrganMNIST3D, 64^3: one file of MedMNIST v2, `organmnist3d_64.npz`, with its own three splits.

Class numbers are MedMNIST's. Table 2 of the paper lists the organs in another order.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from classification.datasets.options import PrepareOptions
from classification.datasets.table import Row
from classification.images import write_volume
from nnunet_triad.errors import UserError

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
    with np.load(_file(source), allow_pickle=False) as content:
        for split in ("train", "val", "test"):
            images, labels = content[f"{split}_images"], content[f"{split}_labels"].ravel()
            if images.ndim != 4 or len(images) != len(labels):
                raise UserError(
                    f"{source}: expected {split}_images (n, x, y, z) with as many labels, got "
                    f"{images.shape} and {len(labels)}"
                )
            for number, (image, label) in enumerate(zip(images, labels, strict=True)):
                name = f"{split}-{number:04d}"
                path = output / "images" / f"{name}.nii.gz"
                if not path.exists():
                    write_volume(path, image, np.eye(4))
                yield Row(
                    images=(path,),
                    label=int(label),
                    label_name=CLASSES[int(label)],
                    split=split,
                    subject=name,
                )


def _file(source: Path) -> Path:
    if source.is_file():
        return source
    for name in FILE_NAMES:
        if (source / name).is_file():
            return source / name
    raise UserError(f"{source}: expected {FILE_NAMES[0]} of MedMNIST, got no such file")
