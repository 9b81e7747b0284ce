"""What the readers share: arrays to NIfTI files, once each."""

from pathlib import Path

import numpy as np

from nnunet_triad.errors import UserError
from nnunet_triad.images import write_labels, write_volume
from registration.datasets.array_pickle import read_array_pickle

# TransMorph's pickles carry no affine: 1 mm voxels, with axes whose meaning is the array's.
PICKLE_AFFINE = np.eye(4)


def nifti_files(output: Path, name: str) -> tuple[Path, Path]:
    """Return where a converted image goes, and its label map."""
    return output / "images" / f"{name}.nii.gz", output / "labels" / f"{name}.nii.gz"


def convert_pickle(path: Path, targets: tuple[tuple[Path, Path], ...]) -> None:
    """Write a pickle's images and label maps as NIfTI files, unless all are there already.

    Args:
        path: (image, labels) or (moving, fixed, moving labels, fixed labels).
        targets: an (image file, label file) for each image.

    Raises:
        UserError: the pickle is refused or of another form.
    """
    if all(file.is_file() for pair in targets for file in pair):
        return
    arrays = read_array_pickle(path, num_arrays=2 * len(targets))
    images, labels = arrays[: len(targets)], arrays[len(targets) :]
    for image, label, (image_file, label_file) in zip(images, labels, targets, strict=True):
        if image.ndim != 3 or image.shape != label.shape:
            raise UserError(
                f"{path}: expected an image and labels of one 3D shape, "
                f"got {image.shape} and {label.shape}"
            )
        write_volume(image_file, image.astype(np.float32), PICKLE_AFFINE)
        write_labels(label_file, label, PICKLE_AFFINE)
