"""Volumes as they are read and written during a conversion, and their geometry."""

import errno
import gzip
import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from nnunet_triad.errors import UserError
from nnunet_triad.images.unreadable import UNREADABLE_NIFTI

# Corners may differ by this part of a voxel: headers keep float32 and rounded text.
_TOLERANCE_VOXELS = 0.01


@dataclass(frozen=True, kw_only=True)
class Volume:
    """One 3D volume and where it lies.

    Attributes:
        name: the file, or the file and the channel, for messages.
        array: (x, y, z); stored values, without the header's scaling, for images.
        affine: (4, 4), voxel to RAS mm.
        header: of the NIfTI file that it came from, if any.
    """

    name: str
    array: npt.NDArray[Any]
    affine: npt.NDArray[np.float64]
    header: nib.Nifti1Header | None = None

    @property
    def sha256(self) -> str:
        """Hash of the values and their type; the same for the same voxels in another file."""
        digest = hashlib.sha256(f"{self.array.dtype}{self.array.shape}".encode())
        digest.update(np.ascontiguousarray(self.array).data)
        return digest.hexdigest()


def read_nifti(path: Path, *, is_label: bool = False) -> Volume:
    """Read a whole NIfTI file, so that a download that broke off is found.

    Args:
        path: `.nii` or `.nii.gz`, 3D, or 4D with the channels last.
        is_label: apply the header's scaling; images keep the stored values.

    Raises:
        UserError: the file is damaged or incomplete.
    """
    try:
        image, array = _load(path, is_scaled=is_label)
    except UNREADABLE_NIFTI as error:
        if isinstance(error, PermissionError):
            raise
        raise UserError(
            f"{path}: expected a whole NIfTI file, got one that cannot be read ({error}); "
            "download or unpack it again"
        ) from error
    affine = np.asarray(image.affine, dtype=np.float64)
    return Volume(name=str(path), array=array, affine=affine, header=image.header)


def _load(path: Path, *, is_scaled: bool) -> tuple[Any, npt.NDArray[Any]]:
    """Read a file to its last byte, so that gzip compares its checksum, which nibabel does not."""
    kind: Any = type(nib.load(path))
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        image = kind.from_stream(stream)
        data = image.dataobj
        array = np.asanyarray(data) if is_scaled else np.asanyarray(data.get_unscaled())
        while stream.read(1 << 20):
            pass
    return image, array


def write_nifti(path: Path, array: npt.NDArray[Any], like: Volume) -> None:
    """Write `array` with the geometry of `like`; the same bytes for the same input."""
    header = like.header.copy() if like.header is not None else None
    image = nib.Nifti1Image(array, like.affine, header)
    image.set_data_dtype(array.dtype)
    image.header["cal_min"] = image.header["cal_max"] = 0
    if header is None:
        image.set_sform(like.affine, code=1)
        image.set_qform(like.affine, code=1)
    nib.save(image, path)


def place(source: Path, path: Path, *, is_copied: bool) -> None:
    """Bring a `.nii.gz` file to `path` as a link or a copy, and a `.nii` file compressed.

    Raises:
        UserError: links cannot be made there.
    """
    if source.suffix == ".nii":
        nib.save(nib.load(source), path)
    elif is_copied:
        shutil.copyfile(source, path)
    else:
        _link(source, path)


def _link(source: Path, path: Path) -> None:
    try:
        path.symlink_to(source.absolute())
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"{path.parent.parent.parent}: expected a file system with symbolic links, got one "
            f"that makes none ({error.strerror}); pass --copy"
        ) from error


def geometry_difference(one: Volume, other: Volume) -> str:
    """Say how two grids differ beyond rounding, or return an empty string.

    Sizes must be equal; the corners may be apart by 0.01 voxels.
    """
    if one.array.shape != other.array.shape:
        return f"size {_times(other.array.shape)} instead of {_times(one.array.shape)}"
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in one.array.shape])).reshape(3, -1)
    difference_mm = (one.affine - other.affine)[:3] @ np.vstack([corners, np.ones(8)])
    spacing_mm = np.linalg.norm(one.affine[:3, :3], axis=0)
    largest = float(np.linalg.norm(difference_mm, axis=0).max())
    if largest <= _TOLERANCE_VOXELS * spacing_mm.min():
        return ""
    return f"corners up to {largest:.3g} mm apart"


def is_exactly_like(one: Volume, other: Volume) -> bool:
    """Return whether nnU-Net's own, stricter comparison of spacings and origins holds."""
    return np.allclose(one.affine, other.affine, rtol=1e-6, atol=1e-6)


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape)
