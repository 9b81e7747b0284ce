"""Reading one NIfTI file with every check that keeps a bad one out of the store."""

import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from pretraining.curation.series import RejectedSeriesError

MAX_VOXELS = 1 << 30  # of one time point: 4 GiB as float32; above that the header is nonsense
SPACING_RANGE_MM = (1e-3, 1e3)
_MIN_DETERMINANT = 1e-3  # of the unit axes; 1 for a rotation, 0 for axes in one plane
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    zlib.error,
    nib.filebasedimages.ImageFileError,
    nib.spatialimages.HeaderDataError,
)


@dataclass(frozen=True, kw_only=True)
class NiftiVolume:
    """One volume of a file; see `LoadedSeries` for the fields."""

    volume: np.ndarray
    affine: np.ndarray
    original_shape: tuple[int, ...]
    time_point: int | None


def read_nifti(path: Path) -> NiftiVolume:
    """Read a 3D file, or the middle time point of a 4D one.

    Source: Triad, section 4.1 ("the (t-1)/2 th or (t+1)/2 th"): index (t-1)//2, counted from 0.

    Raises:
        RejectedSeriesError: the file is empty, truncated or no NIfTI; it is 2D, or has more than
            four dimensions; its affine is singular; it holds NaN, complex or constant values.
    """
    with nib.imageglobals.LoggingOutputSuppressor():
        image = _open(path)
        shape = tuple(int(length) for length in image.shape)
        _check_shape(shape)
        affine = _checked_affine(image)
        time_point = (shape[3] - 1) // 2 if len(shape) > 3 and shape[3] > 1 else None
        volume = _read_voxels(image, time_point or 0)
    _check_values(volume)
    return NiftiVolume(volume=volume, affine=affine, original_shape=shape, time_point=time_point)


def _open(path: Path) -> nib.Nifti1Image:
    try:
        if path.stat().st_size == 0:
            raise RejectedSeriesError("empty file (0 bytes)")
        image = nib.load(path)
    except _UNREADABLE as error:
        raise RejectedSeriesError(f"not a readable NIfTI file ({type(error).__name__})") from error
    if not isinstance(image, nib.Nifti1Image | nib.Nifti2Image):
        raise RejectedSeriesError(f"not a NIfTI file ({type(image).__name__})")
    dtype = image.get_data_dtype()
    if dtype.kind not in "iuf":
        raise RejectedSeriesError(f"values of type {dtype}, not one number a voxel")
    return image


def _check_shape(shape: tuple[int, ...]) -> None:
    text = "x".join(map(str, shape))
    if len(shape) < 3 or min(shape[:3]) < 2:
        raise RejectedSeriesError(f"not 3D (shape {text})")
    if any(length != 1 for length in shape[4:]) or min(shape) < 1:
        raise RejectedSeriesError(f"more than four dimensions (shape {text})")
    if np.prod(shape[:3], dtype=float) > MAX_VOXELS:
        raise RejectedSeriesError(f"implausibly large (shape {text})")


def _checked_affine(image: nib.Nifti1Image) -> np.ndarray:
    affine = np.asarray(image.affine, dtype=float)
    if not np.isfinite(affine).all():
        raise RejectedSeriesError("affine is not finite")
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    if (spacing_mm == 0).any() or (
        abs(np.linalg.det(affine[:3, :3] / spacing_mm)) < _MIN_DETERMINANT
    ):
        raise RejectedSeriesError("affine is singular")
    lowest, highest = SPACING_RANGE_MM
    if spacing_mm.min() < lowest or spacing_mm.max() > highest:
        text = " x ".join(f"{spacing:.3g}" for spacing in spacing_mm)
        raise RejectedSeriesError(f"implausible spacing ({text} mm)")
    return affine


def _read_voxels(image: nib.Nifti1Image, time_point: int) -> np.ndarray:
    others = (time_point, *[0] * (len(image.shape) - 4)) if len(image.shape) > 3 else ()
    try:
        volume = np.asarray(image.dataobj[(..., *others)])
    except _UNREADABLE as error:
        raise RejectedSeriesError(f"truncated or damaged ({type(error).__name__})") from error
    return volume.astype(volume.dtype.newbyteorder("="), copy=False)


def _check_values(volume: np.ndarray) -> None:
    if not np.isfinite(volume).all():
        raise RejectedSeriesError("contains NaN or infinite values")
    if max(abs(float(volume.min())), abs(float(volume.max()))) > np.finfo(np.float32).max:
        raise RejectedSeriesError("values beyond the range of float32")
    if volume.min() == volume.max():
        raise RejectedSeriesError("constant: every voxel has the same value")
