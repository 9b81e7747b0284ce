"""Reading one image file: NIfTI or MetaImage, a single 3D volume of numbers, or a clear refusal."""

import gzip
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from nnunet_triad.errors import UserError
from nnunet_triad.files import write_atomically
from nnunet_triad.images import spacing_of
from nnunet_triad.images.unreadable import UNREADABLE_NIFTI, reason_of

METAIMAGE_SUFFIXES = (".mhd", ".mha")
_MINIMUM_LENGTH = 2  # voxels along an axis; fewer is a slice
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, kw_only=True)
class Image:
    """A volume in the file's own space."""

    values: NDArray  # (x, y, z)
    affine: NDArray[np.float64]  # (4, 4), voxel to world, RAS mm
    num_filled: int = 0  # voxels that were not finite and got the smallest finite value

    @property
    def orientation(self) -> str:
        """The directions that the axes run to, as "RAS"."""
        return "".join(nib.orientations.aff2axcodes(self.affine))

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """The distance between voxels along each axis."""
        x, y, z = spacing_of(self.affine)
        return float(x), float(y), float(z)


def read_image(path: Path) -> Image:
    """Read a volume.

    NaN and infinity (SPM writes NaN outside the brain) become the smallest finite value; the number
    of such voxels is kept, so that it can be said.

    Raises:
        UserError: the file cannot be read, or is RGB, 2D, 4D, empty of finite values or constant.
    """
    is_metaimage = path.name.lower().endswith(METAIMAGE_SUFFIXES)
    values, affine = _read_metaimage(path) if is_metaimage else _read_nifti(path)
    values = _as_volume(values, path)
    if abs(np.linalg.det(affine[:3, :3])) < 1e-12 or not np.isfinite(affine).all():
        raise UserError(f"{path}: expected an affine with three directions, got {affine.tolist()}")
    return _with_finite_values(values, affine, path)


def _read_nifti(path: Path) -> tuple[NDArray, NDArray[np.float64]]:
    try:
        image = nib.load(path)
        values = np.asanyarray(image.dataobj)  # type: ignore[attr-defined]
        return values, np.asarray(image.affine, dtype=np.float64)  # type: ignore[attr-defined]
    except UNREADABLE_NIFTI as error:
        raise UserError(
            f"{path}: expected a NIfTI or MetaImage volume, got a file that cannot be read "
            f"({reason_of(error)})"
        ) from None


def _read_metaimage(path: Path) -> tuple[NDArray, NDArray[np.float64]]:
    import SimpleITK  # noqa: N813, RUF100  # slow to import

    try:
        image = SimpleITK.ReadImage(str(path))
    except RuntimeError:
        raise UserError(
            f"{path}: expected a MetaImage with its .raw or .zraw beside it, got one that cannot "
            f"be read"
        ) from None
    values = SimpleITK.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1 or image.GetDimension() != 3:
        return values, np.eye(4)  # refused by its shape
    return values.transpose(2, 1, 0), itk_affine(
        image.GetOrigin(), image.GetSpacing(), image.GetDirection()
    )


def itk_affine(
    origin: tuple[float, ...], spacing: tuple[float, ...], direction: tuple[float, ...]
) -> NDArray[np.float64]:
    """Return the affine, voxel to RAS mm, of ITK's origin, spacing and direction (LPS mm)."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(direction, (3, 3)) * np.asarray(spacing)
    affine[:3, 3] = origin
    return _LPS_TO_RAS @ affine


def _as_volume(values: NDArray, path: Path) -> NDArray:
    if values.dtype.names is not None or values.dtype.kind not in "iufb":
        raise UserError(
            f"{path}: expected one number a voxel, got colours (RGB) or other records "
            f"({values.dtype}); convert it to grey values"
        )
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim > 3:
        raise UserError(
            f"{path}: expected a 3D volume, got {values.ndim}D of shape {values.shape}; split it "
            f"into "
            "volumes, and join their paths by | in the manifest if they are channels"
        )
    if values.ndim < 3 or min(values.shape) < _MINIMUM_LENGTH:
        raise UserError(f"{path}: expected a 3D volume, got 2D or less, of shape {values.shape}")
    return values


def _with_finite_values(values: NDArray, affine: NDArray[np.float64], path: Path) -> Image:
    is_finite = np.isfinite(values)
    num_filled = int(values.size - is_finite.sum())
    finite = values[is_finite] if num_filled else values
    if not finite.size or finite.min() == finite.max():
        found = "NaN or infinity only" if not finite.size else f"{finite.min():g} everywhere"
        raise UserError(f"{path}: expected an image with contrast, got {found}; leave it out")
    if num_filled:
        values = np.where(is_finite, values, finite.min())
    return Image(values=values, affine=affine, num_filled=num_filled)


def write_volume(path: Path, values: NDArray, affine: NDArray) -> Path:
    """Write a volume as NIfTI (.nii.gz) of float32, atomically; equal volumes give equal bytes."""
    content = nib.Nifti1Image(values.astype(np.float32), affine).to_bytes()
    with write_atomically(path) as temporary:
        temporary.write_bytes(gzip.compress(content, compresslevel=1, mtime=0))
    return path
