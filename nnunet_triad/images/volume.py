"""NIfTI images on their grids: reading, checking, resampling, and the bridge to SimpleITK.

World coordinates are NIfTI's: mm, RAS+. SimpleITK's are LPS+: x and y change their sign.
"""

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813  # its customary name
from isal import igzip
from scipy import ndimage

from nnunet_triad.errors import UserError
from nnunet_triad.files import write_atomically
from nnunet_triad.images import spacing_of, to_ras
from nnunet_triad.images.unreadable import UNREADABLE_NIFTI, reason_of

_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MAX_COSINE = 1e-3  # between two axes of a grid, which ITK wants perpendicular
_SAME_GRID_MM = 1e-3
_NUM_DECIMALS = 9  # of mm
_MIN_LENGTH = 4  # voxels along an axis


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A voxel grid in space."""

    shape: tuple[int, int, int]
    affine: np.ndarray  # (4, 4), voxel to world (RAS) in mm

    @property
    def spacing_mm(self) -> np.ndarray:
        """Distance between neighbouring voxels along each axis: (3,)."""
        return spacing_of(self.affine)

    def is_same(self, other: "Grid") -> bool:
        """Tell whether all corners lie within a thousandth of a mm of the other's."""
        corners = np.array(np.meshgrid(*[(0, size - 1) for size in self.shape])).reshape(3, -1)
        corners = np.vstack([corners, np.ones(corners.shape[1])])
        gap = np.abs((self.affine - other.affine) @ corners).max()
        return self.shape == other.shape and bool(gap < _SAME_GRID_MM)

    def __str__(self) -> str:
        spacing = ", ".join(f"{length:.3g}" for length in self.spacing_mm)
        return f"{' x '.join(map(str, self.shape))} voxels of ({spacing}) mm"


@dataclass(frozen=True, kw_only=True)
class Image:
    """A volume on a grid."""

    data: np.ndarray  # (x, y, z): float32 intensities, or whole numbers for labels
    affine: np.ndarray  # (4, 4), voxel to world (RAS) in mm

    @property
    def grid(self) -> Grid:
        """The grid that the data lie on."""
        x, y, z = self.data.shape
        return Grid(shape=(x, y, z), affine=self.affine)

    def to_ras(self) -> "Image":
        """Return the same volume with its axes towards right, anterior, superior."""
        data, affine = to_ras(self.data, self.affine)
        return Image(data=data, affine=affine)


def read_image(path: Path) -> Image:
    """Read a NIfTI image as float32; voxels that are not finite become zero.

    Raises:
        UserError: it is missing, cannot be read, not three-dimensional, or has no usable grid.
    """
    data, affine = _read(path)
    return Image(data=np.nan_to_num(data.astype(np.float32), posinf=0, neginf=0), affine=affine)


def read_labels(path: Path) -> Image:
    """Read a NIfTI label map, stored as whole numbers of any type, as int32.

    Raises:
        UserError: as `read_image`, or values are not whole numbers.
    """
    data, affine = _read(path)
    rounded = np.rint(np.nan_to_num(data))
    if not np.allclose(rounded, data, atol=1e-3):
        worst = data.flat[np.nanargmax(np.abs(np.nan_to_num(data) - rounded))]
        raise UserError(
            f"{path}: expected labels, whole numbers, got {worst:g}; "
            "give the label map itself, resampled with nearest neighbour"
        )
    return Image(data=rounded.astype(np.int32), affine=affine)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    if not Path(path).is_file():
        raise UserError(f"{path}: expected a NIfTI image, got no file")
    try:
        file = nib.load(path)
        data = np.asarray(file.dataobj)  # type: ignore[attr-defined]
        affine = np.asarray(file.affine, dtype=np.float64)  # type: ignore[attr-defined]
    except UNREADABLE_NIFTI as error:
        raise UserError(
            f"{path}: expected a whole NIfTI image (.nii, .nii.gz), got one that cannot be read "
            f"({reason_of(error)}); convert or copy it again"
        ) from error
    return _check_volume(path, data), _check_affine(path, affine)


def _check_volume(path: Path, data: np.ndarray) -> np.ndarray:
    while data.ndim > 3 and data.shape[-1] == 1:
        data = data[..., 0]
    shape = " x ".join(map(str, data.shape))
    if data.ndim != 3:
        raise UserError(
            f"{path}: expected a three-dimensional image, got {shape}; "
            "give one volume (for a series, one of its time points)"
        )
    if min(data.shape) < _MIN_LENGTH:
        raise UserError(
            f"{path}: expected a volume of at least {_MIN_LENGTH} voxels along each axis, "
            f"got {shape}; single slices cannot be registered in three dimensions"
        )
    if not (np.issubdtype(data.dtype, np.number) or data.dtype == bool):
        raise UserError(f"{path}: expected one number a voxel, got {data.dtype}")
    return data


def _check_affine(path: Path, affine: np.ndarray) -> np.ndarray:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or spacing.min() <= 0:
        raise UserError(
            f"{path}: expected an affine with three axes, got {np.array2string(affine[:3])}; "
            "repair the header (qform or sform)"
        )
    axes = affine[:3, :3] / spacing
    cosine = np.abs(axes.T @ axes - np.eye(3)).max()
    if cosine > _MAX_COSINE:
        raise UserError(
            f"{path}: expected perpendicular axes, got a sheared grid (cosine {cosine:.3f} between "
            "two axes); resample the image to a grid without shear"
        )
    return affine


def write_image(path: Path, image: Image) -> None:
    """Write a NIfTI file, atomically; labels as uint8 or int32, all else as float32."""
    data = image.data
    if np.issubdtype(data.dtype, np.integer):
        small = data.min() >= 0 and data.max() <= np.iinfo(np.uint8).max
        data = data.astype(np.uint8 if small else np.int32)
    else:
        data = data.astype(np.float32)
    write_nifti(path, nib.Nifti1Image(data, image.affine))


def write_nifti(path: Path, file: nib.Nifti1Image) -> None:
    """Write an image of nibabel, atomically; the same image gives the same bytes."""
    file.header.set_xyzt_units("mm")
    content = file.to_bytes()
    if Path(path).name.endswith(".gz"):
        content = igzip.compress(content, mtime=0)
    with write_atomically(Path(path)) as temporary:
        temporary.write_bytes(content)


def resample(
    image: Image, grid: Grid, *, matrix: np.ndarray | None = None, order: int = 1
) -> np.ndarray:
    """Sample an image on another grid; zeros outside.

    Args:
        image: the volume to read from.
        grid: where to sample.
        matrix: (4, 4), world of the grid to world of the image, mm; None: the identity.
        order: 1 linear, 0 nearest.

    Returns:
        `grid.shape`, dtype of the image.
    """
    if matrix is None and image.grid.is_same(grid):
        return image.data
    world = np.eye(4) if matrix is None else matrix
    index_map = np.linalg.inv(image.affine) @ world @ grid.affine
    index_map[np.abs(index_map) < 1e-9] = 0.0
    return ndimage.affine_transform(
        image.data, index_map[:3, :3], index_map[:3, 3], output_shape=grid.shape, order=order
    )


def at_spacing(grid: Grid, spacing_mm: np.ndarray) -> Grid:
    """Return a grid of the same extent and directions with another spacing."""
    old = grid.spacing_mm
    lengths = np.maximum(np.rint(np.array(grid.shape) * old / spacing_mm), _MIN_LENGTH).astype(int)
    scale = np.array(grid.shape) / lengths  # old voxels in a new one
    index_map = np.eye(4)
    index_map[:3, :3] = np.diag(scale)
    index_map[:3, 3] = 0.5 * scale - 0.5
    x, y, z = (int(length) for length in lengths)
    return Grid(shape=(x, y, z), affine=grid.affine @ index_map)


def normalize_intensity(data: np.ndarray, *, percentile: float) -> np.ndarray:
    """Scale intensities so that the minimum is 0 and a percentile is 1; what is above is cut off.

    Source: TransMorph's inputs lie in [0, 1]. A constant image becomes zeros.

    Args:
        data: (x, y, z).
        percentile: 100 takes the maximum; less is proof against single bright voxels.

    Returns:
        (x, y, z) float32 in [0, 1].
    """
    low, high = float(data.min()), float(np.percentile(data, percentile))
    if not high > low:
        high = float(data.max())
    if not high > low:
        return np.zeros(data.shape, dtype=np.float32)
    return np.clip((data - low) / (high - low), 0, 1).astype(np.float32)


def to_sitk(image: Image) -> sitk.Image:
    """Return an image as SimpleITK's, in LPS."""
    converted = sitk.GetImageFromArray(np.ascontiguousarray(image.data.T))
    place_sitk(converted, image.affine)
    return converted


def place_sitk(image: sitk.Image, affine: np.ndarray) -> None:
    """Give a SimpleITK image the grid of an affine (RAS)."""
    lps = np.round(
        _TO_LPS @ affine, _NUM_DECIMALS
    )  # turning an image's axes leaves rounding errors
    spacing = np.round(spacing_of(affine), _NUM_DECIMALS)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())


def ras_matrix(transform: sitk.Transform) -> np.ndarray:
    """Return an affine transform of SimpleITK as a (4, 4) matrix between RAS worlds."""
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    columns = [np.array(transform.TransformPoint(tuple(unit))) - origin for unit in np.eye(3)]
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack(columns, axis=1)
    matrix[:3, 3] = origin
    return _TO_LPS @ matrix @ _TO_LPS
