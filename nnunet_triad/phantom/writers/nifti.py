"""NIfTI files: the same arrays give the same bytes, and a file is whole or not there."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt

from nnunet_triad.files import write_atomically
from nnunet_triad.phantom.acquisition import Volume

_SCANNER_SPACE = 1  # NIfTI's code for scanner-based coordinates
_VECTOR_INTENT = 1007


def write_image(path: Path, volume: Volume) -> None:
    """Write a volume's image as whole numbers, as scanners store it."""
    write_array(path, np.rint(volume.image).astype(np.int16), volume.affine)


def write_labels(path: Path, volume: Volume) -> None:
    """Write a volume's labels."""
    write_array(path, volume.labels, volume.affine)


def write_array(path: Path, array: npt.NDArray[np.generic], affine: npt.NDArray) -> None:
    """Write (x, y, z) with its (4, 4) affine in mm."""
    image = nib.Nifti1Image(array, affine)
    _save(path, image)


def write_displacement(
    path: Path, displacement_mm: npt.NDArray[np.float32], affine: npt.NDArray
) -> None:
    """Write a pull displacement in ITK's convention: SimpleITK and ANTs read it as a transform.

    A point p of the fixed grid lies at p + displacement in the moving image; vectors are in mm and
    LPS, as a NIfTI vector image (x, y, z, 1, 3). They are rounded to 1/1024 mm, which compresses.

    Args:
        path: .nii.gz.
        displacement_mm: (3, x, y, z), mm, RAS.
        affine: (4, 4) of the fixed grid.
    """
    lps = displacement_mm * np.array([-1, -1, 1], np.float32)[:, None, None, None]
    rounded = np.rint(lps * 1024) / np.float32(1024)
    vectors = np.moveaxis(rounded, 0, -1)[..., None, :].astype(np.float32)
    image = nib.Nifti1Image(vectors, affine)
    image.header.set_intent(_VECTOR_INTENT)
    _save(path, image)


def _save(path: Path, image: nib.Nifti1Image) -> None:
    image.set_qform(image.affine, code=_SCANNER_SPACE)
    image.set_sform(image.affine, code=_SCANNER_SPACE)
    image.header.set_xyzt_units("mm")
    with write_atomically(path) as temporary:
        # Without a time in the header, so that the same image gives the same file.
        temporary.write_bytes(gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))
