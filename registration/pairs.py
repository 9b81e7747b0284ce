"""From two images anywhere in space to two arrays on one grid, on which a network can work."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nnunet_triad.errors import UserError
from nnunet_triad.images.volume import Grid, Image, at_spacing, normalize_intensity, resample

Spacing = tuple[float, float, float]

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


def working_grid(fixed: Image, spacing_mm: Spacing | None) -> Grid:
    """Return the fixed image's grid in RAS order, at `spacing_mm` where it differs by over 5 %."""
    grid = fixed.to_ras().grid
    if spacing_mm is None:
        return grid
    wanted = np.array(spacing_mm)
    if np.allclose(grid.spacing_mm, wanted, rtol=_SPACING_TOLERANCE, atol=0):
        return grid
    return at_spacing(grid, wanted)


def prepare_pair(
    moving: Image,
    fixed: Image,
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


def prepare_labels(labels: Image, grid: Grid, *, matrix: np.ndarray | None = None) -> np.ndarray:
    """Put a label map on the working grid by nearest neighbour: (x, y, z) int32."""
    if matrix is not None and np.array_equal(matrix, np.eye(4)):
        matrix = None
    return resample(labels.to_ras(), grid, matrix=matrix, order=0)


def overlap_share(moving: Image, grid: Grid, matrix: np.ndarray) -> float:
    """Return the share of the grid that lies within the moving image, 0 to 1."""
    places = [np.unique(np.r_[0:size:_LATTICE, size - 1]) for size in grid.shape]
    index = np.stack(np.meshgrid(*places, indexing="ij")).reshape(3, -1)
    index = np.vstack([index, np.ones(index.shape[1])])
    target = (np.linalg.inv(moving.affine) @ matrix @ grid.affine @ index)[:3]
    limits = np.array(moving.data.shape)[:, None] - 0.5
    return float(((target >= -0.5) & (target <= limits)).all(axis=0).mean())


def _as_input(data: np.ndarray, percentile: float) -> Tensor:
    scaled = normalize_intensity(np.ascontiguousarray(data), percentile=percentile)
    return torch.from_numpy(scaled)[None, None]
