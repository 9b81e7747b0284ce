"""Grids in space, and the separable linear operators between them.

Every grid here is RAS and axis-aligned: its affine holds the spacing and the centre of voxel 0.
"""

import numpy as np
import numpy.typing as npt
from scipy import interpolate

FloatArray = npt.NDArray[np.floating]


def make_affine(spacing_mm: npt.ArrayLike, origin_mm: npt.ArrayLike) -> FloatArray:
    """Return the (4, 4) affine of a RAS grid from its spacing and the centre of voxel 0."""
    affine = np.diag([*np.broadcast_to(spacing_mm, 3), 1.0]).astype(float)
    affine[:3, 3] = origin_mm
    return affine


def coarser_grid(
    shape: tuple[int, ...], affine: FloatArray, spacing_mm: npt.ArrayLike
) -> tuple[tuple[int, int, int], FloatArray]:
    """Return (shape, affine) of a grid over the same field of view with another spacing.

    The fields of view share their lower corner; the last voxels that do not fit wholly are kept.
    """
    old_spacing = np.diag(affine)[:3]
    new_spacing = np.broadcast_to(np.asarray(spacing_mm, float), 3)
    x, y, z = (max(1, int(n)) for n in np.round(np.array(shape) * old_spacing / new_spacing))
    corner = affine[:3, 3] - old_spacing / 2
    return (x, y, z), make_affine(new_spacing, corner + new_spacing / 2)


def axis_coordinates_mm(shape: tuple[int, ...], affine: FloatArray) -> list[FloatArray]:
    """Return the coordinates of the voxel centres along each axis, mm."""
    return [affine[i, 3] + affine[i, i] * np.arange(n) for i, n in enumerate(shape)]


def mean_matrix(
    num_in: int, num_out: int, *, spacing_in_mm: float, spacing_out_mm: float, shift_mm: float
) -> npt.NDArray[np.float32]:
    """Return the (num_out, num_in) matrix that averages a signal over each coarse voxel.

    A voxel of the output is the mean over its width of the input, which is taken as constant within
    each of its voxels: the partial-volume effect of a box-shaped slice profile. What lies outside
    the input counts as zero.

    Args:
        num_in, num_out: voxels along the axis.
        spacing_in_mm, spacing_out_mm: their widths.
        shift_mm: lower edge of the output minus lower edge of the input.
    """
    low = shift_mm + spacing_out_mm * np.arange(num_out)[:, None]
    edges = spacing_in_mm * np.arange(num_in)[None]
    overlap = np.minimum(low + spacing_out_mm, edges + spacing_in_mm) - np.maximum(low, edges)
    return (np.clip(overlap, 0, None) / spacing_out_mm).astype(np.float32)


def average_to_grid(
    volumes: npt.NDArray[np.float32],
    affine: FloatArray,
    new_shape: tuple[int, ...],
    new_affine: FloatArray,
) -> npt.NDArray[np.float32]:
    """Average volumes over the voxels of another grid of the same directions.

    Args:
        volumes: (..., x, y, z).
        affine, new_affine: (4, 4) of the input and of the output.
        new_shape: of the output's last three axes.

    Returns:
        (..., *new_shape) float32.
    """
    matrices = []
    for axis in range(3):
        old, new = affine[axis, axis], new_affine[axis, axis]
        edge, new_edge = affine[axis, 3] - old / 2, new_affine[axis, 3] - new / 2
        matrices.append(
            mean_matrix(
                volumes.shape[axis - 3],
                new_shape[axis],
                spacing_in_mm=old,
                spacing_out_mm=new,
                shift_mm=new_edge - edge,
            )
        )
    return apply_separably(volumes, matrices)


def spline_matrix(coarse_mm: FloatArray, fine_mm: FloatArray) -> npt.NDArray[np.float32]:
    """Return the (fine, coarse) matrix of cubic spline interpolation along one axis."""
    spline = interpolate.make_interp_spline(coarse_mm, np.eye(len(coarse_mm)), k=3)
    return spline(np.clip(fine_mm, coarse_mm[0], coarse_mm[-1])).astype(np.float32)


def apply_separably(
    volumes: npt.NDArray[np.float32], matrices: list[npt.NDArray[np.float32]]
) -> npt.NDArray[np.float32]:
    """Multiply the last three axes of (..., x, y, z) with one (new, old) matrix each."""
    for axis, matrix in zip((-3, -2, -1), matrices, strict=True):
        volumes = np.moveaxis(np.moveaxis(volumes, axis, -1) @ matrix.T, -1, axis)
    return np.ascontiguousarray(volumes, dtype=np.float32)
