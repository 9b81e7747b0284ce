"""From two images anywhere in space to two arrays on one grid, on which a network can work."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from nnunet_triad import images
from nnunet_triad.errors import UserError
from nnunet_triad.images import Grid, Nan, Volume

Spacing = tuple[float, float, float]

_MIN_LENGTH = 4  # voxels along an axis
_MAX_COSINE = 1e-3  # between two axes of a grid, which ITK wants perpendicular

_SPACING_TOLERANCE = 0.05  # relative; the network does not notice less
_LATTICE = 8  # every eighth voxel is looked at for the overlap


class NoOverlapError(UserError):
    """Two images have nothing in common."""


@dataclass(frozen=True, kw_only=True)
class PreparedPair:
    """A moving image, resampled, and a fixed image on the grid that the network works on."""

    moving: Tensor  # (1, 1, x, y, z) float32 in [0, 1]
    fixed: Tensor  # the same shape
    grid: Grid  # in RAS order
    matrix: np.ndarray  # (4, 4), world of the fixed image to world of the moving image


def read_image(path: Path) -> Volume:
    """Read an image as float32; NaN and infinity, which lie outside of what was seen, become zero.

    Raises:
        UserError: as `read_volume`, or the grid is sheared.
    """
    return _check_axes(images.read_volume(path, nan=Nan.ZERO, min_length=_MIN_LENGTH))


def read_labels(path: Path) -> Volume:
    """Read a label map as int32.

    Raises:
        UserError: as `nnunet_triad.images.read_labels`, or the grid is sheared.
    """
    return _check_axes(images.read_labels(path, min_length=_MIN_LENGTH))


def read_labels_on(path: Path, image: Volume) -> Volume:
    """Read the label map of an image; see `read_labels`.

    Raises:
        UserError: it lies on another grid.
    """
    labels = read_labels(path)
    image.grid.check_covers(
        labels.grid,
        name=str(path),
        of=f"its image {image.name}",
        advice="resample it to that image with nearest neighbour",
    )
    return labels


def _check_axes(volume: Volume) -> Volume:
    axes = volume.affine[:3, :3] / volume.grid.spacing_mm
    cosine = np.abs(axes.T @ axes - np.eye(3)).max()
    if cosine > _MAX_COSINE:
        raise UserError(
            f"{volume.name}: expected perpendicular axes, got a sheared grid (cosine {cosine:.3f} "
            "between two axes); resample the image to a grid without shear"
        )
    return volume


def resample(
    volume: Volume, grid: Grid, *, matrix: np.ndarray | None = None, order: int = 1
) -> np.ndarray:
    """Sample a volume on another grid; zeros outside.

    Args:
        volume: to read from.
        grid: where to sample.
        matrix: (4, 4), world of the grid to world of the volume, mm; None: the identity.
        order: 1 linear, 0 nearest.

    Returns:
        `grid.shape`, dtype of the volume.
    """
    if matrix is None and volume.grid.is_same(grid):
        return volume.voxels
    world = np.eye(4) if matrix is None else matrix
    index_map = np.linalg.inv(volume.affine) @ world @ grid.affine
    index_map[np.abs(index_map) < 1e-9] = 0.0
    return ndimage.affine_transform(
        volume.voxels, index_map[:3, :3], index_map[:3, 3], output_shape=grid.shape, order=order
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


def normalize_intensity(voxels: np.ndarray, *, percentile: float) -> np.ndarray:
    """Scale intensities so that the minimum is 0 and a percentile is 1; what is above is cut off.

    Source: TransMorph's inputs lie in [0, 1]. A constant image becomes zeros.

    Args:
        voxels: (x, y, z).
        percentile: 100 takes the maximum; less is proof against single bright voxels.

    Returns:
        (x, y, z) float32 in [0, 1].
    """
    low, high = float(voxels.min()), float(np.percentile(voxels, percentile))
    if not high > low:
        high = float(voxels.max())
    if not high > low:
        return np.zeros(voxels.shape, dtype=np.float32)
    return np.clip((voxels - low) / (high - low), 0, 1).astype(np.float32)


def working_grid(fixed: Volume, spacing_mm: Spacing | None) -> Grid:
    """Return the fixed image's grid in RAS order, at `spacing_mm` where it differs by over 5 %."""
    grid = fixed.to_ras().grid
    if spacing_mm is None:
        return grid
    wanted = np.array(spacing_mm)
    if np.allclose(grid.spacing_mm, wanted, rtol=_SPACING_TOLERANCE, atol=0):
        return grid
    return at_spacing(grid, wanted)


def prepare_pair(
    moving: Volume,
    fixed: Volume,
    *,
    spacing_mm: Spacing | None = None,
    percentile: float = 99.9,
    matrix: np.ndarray | None = None,
) -> PreparedPair:
    """Put both images on one grid with intensities in [0, 1].

    Args:
        moving: any orientation, spacing and size.
        fixed: any orientation, spacing and size; its axes become the grid's.
        spacing_mm: of the grid, in RAS order; None: the fixed image's.
        percentile: see `normalize_intensity`.
        matrix: (4, 4), world of the fixed image to world of the moving image; None: identity.

    Raises:
        NoOverlapError: the images do not overlap.
    """
    moving, fixed = moving.to_ras(), fixed.to_ras()
    grid = working_grid(fixed, spacing_mm)
    matrix = np.eye(4) if matrix is None else matrix
    if overlap_share(moving, grid, matrix) == 0:
        raise NoOverlapError(
            "moving and fixed: expected images that overlap in world coordinates, got none in "
            "common; align them with --affine moments (or rigid, affine)"
        )
    is_shared = np.array_equal(matrix, np.eye(4))
    pulled = resample(moving, grid, matrix=None if is_shared else matrix)
    still = resample(fixed, grid)
    return PreparedPair(
        moving=_as_input(pulled, percentile),
        fixed=_as_input(still, percentile),
        grid=grid,
        matrix=matrix,
    )


def prepare_labels(labels: Volume, grid: Grid, *, matrix: np.ndarray | None = None) -> np.ndarray:
    """Put a label map on the working grid by nearest neighbour: (x, y, z) int32."""
    if matrix is not None and np.array_equal(matrix, np.eye(4)):
        matrix = None
    return resample(labels.to_ras(), grid, matrix=matrix, order=0)


def overlap_share(moving: Volume, grid: Grid, matrix: np.ndarray) -> float:
    """Return the share of the grid that lies within the moving image, 0 to 1."""
    places = [np.unique(np.r_[0:size:_LATTICE, size - 1]) for size in grid.shape]
    index = np.stack(np.meshgrid(*places, indexing="ij")).reshape(3, -1)
    index = np.vstack([index, np.ones(index.shape[1])])
    target = (np.linalg.inv(moving.affine) @ matrix @ grid.affine @ index)[:3]
    limits = np.array(moving.voxels.shape)[:, None] - 0.5
    return float(((target >= -0.5) & (target <= limits)).all(axis=0).mean())


def _as_input(data: np.ndarray, percentile: float) -> Tensor:
    scaled = normalize_intensity(np.ascontiguousarray(data), percentile=percentile)
    return torch.from_numpy(scaled)[None, None]
