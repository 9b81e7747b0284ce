"""Displacement fields as NIfTI files that ITK's programs read as a transform.

ITK's conventions: (x, y, z, 1, 3) with intent code 1007 (vector), each vector in mm and LPS, on the
grid of the fixed image; a point of the fixed image plus its vector is the point of the moving
image. SimpleITK, ANTs and Slicer apply such a file to a moving image as it is.
"""

from pathlib import Path

import numpy as np

from nnunet_triad.errors import UserError
from nnunet_triad.images.reader import open_image
from nnunet_triad.images.writer import write_volume

_TO_LPS = np.array([-1, -1, 1], dtype=np.float32)
_INTENT_VECTOR = 1007


def write_displacement(
    path: Path, displacement_mm: np.ndarray, affine: np.ndarray, *, step_mm: float = 0
) -> None:
    """Write a field.

    Args:
        path: .nii or .nii.gz.
        displacement_mm: (x, y, z, 3), mm, RAS.
        affine: (4, 4) of the fixed grid.
        step_mm: lengths are rounded to multiples of it, which compress; 0: not at all.
    """
    vectors = (displacement_mm * _TO_LPS).astype(np.float32)[:, :, :, None, :]
    if step_mm:
        vectors = np.rint(vectors / np.float32(step_mm)) * np.float32(step_mm)
    write_volume(path, vectors, affine, intent=_INTENT_VECTOR)


def read_displacement(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a field of ITK's conventions; NaN stays.

    Returns:
        (x, y, z, 3) float32, mm, RAS, and the affine.

    Raises:
        UserError: it is missing, cannot be read, or is no displacement field.
    """
    with open_image(path) as file:
        shape = file.shape
        if (len(shape), shape[3:]) not in ((5, (1, 3)), (4, (3,))):
            raise UserError(
                f"{path}: expected a displacement field (x, y, z, 1, 3), "
                f"got {' x '.join(map(str, shape))}; give the file of --displacement"
            )
        vectors = file.read().astype(np.float32)
    return (vectors[:, :, :, 0] if vectors.ndim == 5 else vectors) * _TO_LPS, file.affine
