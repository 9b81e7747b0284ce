"""Files as they were published: read as stored, brought into nnU-Net's folder, compared."""

import errno
from pathlib import Path

from nnunet_triad.errors import UserError
from nnunet_triad.files import copy_atomically
from nnunet_triad.images import Volume, open_image
from nnunet_triad.images.writer import compressed


def read_nifti(path: Path, *, is_label: bool = False) -> Volume:
    """Read a whole NIfTI file, so that a download that broke off is found; NaN stays.

    Args:
        path: `.nii` or `.nii.gz`, 3D, or 4D with the channels last.
        is_label: apply the header's scaling; images keep the stored values.

    Raises:
        UserError: the file is damaged or incomplete, or a label that is not 3D.
    """
    with open_image(path) as file:
        if is_label and len(file.shape) != 3:
            raise UserError(
                f"{path}: expected 3 axes, got {len(file.shape)}; use the published files"
            )
        voxels = file.read(is_scaled=is_label)
        return Volume(name=str(path), voxels=voxels, affine=file.affine, header=file.header)


def place(source: Path, path: Path, *, is_copied: bool) -> None:
    """Bring a `.nii.gz` file to `path` as a link or a copy, and a `.nii` file compressed.

    Raises:
        UserError: links cannot be made there.
    """
    if source.suffix == ".nii":
        path.write_bytes(compressed(source.read_bytes()))
    elif is_copied:
        copy_atomically(source, path)
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
    """Say how two grids differ beyond rounding (0.01 voxels), or return an empty string."""
    return one.grid.difference(other.grid, tolerance_mm=one.grid.rounding_mm)
