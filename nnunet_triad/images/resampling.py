"""Linear resampling to a spacing and to a size, as one product of three banded matrices.

Linear interpolation of a line of voxels is a matrix with at most two non-zeros a row. One after the
other are their product, and the axes do not disturb one another: spacing and size together cost one
product an axis. Nothing is approximated. The result comes plane by plane, so that the
work stays in the processor's cache and no intermediate volume is ever held.
"""

from collections.abc import Iterator

import numpy as np
from scipy import sparse

# MONAI leaves an axis alone whose spacing differs by less than this from the wanted one, in mm.
SPACING_TOLERANCE_MM = 1e-3

_PLANES_AT_ONCE = 8  # few calls, and all of it still in the cache
_BAND = 16  # columns of a dense product that skips most of the zeros

AxisMatrices = tuple[sparse.csr_array, sparse.csr_array, sparse.csr_array]


def interpolation_matrix(positions: np.ndarray, num_voxels: int) -> sparse.csr_array:
    """Return the matrix that samples a line of voxels linearly; the border value goes on outside.

    Args:
        positions: (n,), in voxels of the input.
        num_voxels: length of the input.

    Returns:
        (n, num_voxels) float64, each row sums to one.
    """
    positions = np.clip(positions, 0, num_voxels - 1)
    lower = np.minimum(np.floor(positions).astype(int), max(num_voxels - 2, 0))
    upper = np.minimum(lower + 1, num_voxels - 1)
    weight = positions - lower
    rows = np.arange(len(positions))
    matrix = sparse.coo_array(
        (np.r_[1 - weight, weight], (np.r_[rows, rows], np.r_[lower, upper])),
        shape=(len(positions), num_voxels),
    ).tocsr()
    matrix.eliminate_zeros()
    return matrix


def spacing_matrix(
    num_voxels: int, spacing_mm: float, target_spacing_mm: float
) -> sparse.csr_array:
    """Return the matrix that resamples a line from one spacing to another.

    Source: the convention of MONAI's `Spacing`: the first voxel stays where it is and the number
    of voxels is the rounded distance between the outer voxel centres, plus one.
    """
    if abs(spacing_mm - target_spacing_mm) <= SPACING_TOLERANCE_MM:
        return sparse.eye_array(num_voxels, format="csr")
    num_resampled = resampled_length(num_voxels, spacing_mm, target_spacing_mm)
    return interpolation_matrix(
        np.arange(num_resampled) * (target_spacing_mm / spacing_mm), num_voxels
    )


def resampled_length(num_voxels: int, spacing_mm: float, target_spacing_mm: float) -> int:
    """Return the number of voxels of a line after `spacing_matrix`."""
    if abs(spacing_mm - target_spacing_mm) <= SPACING_TOLERANCE_MM:
        return num_voxels
    return int(np.round((num_voxels - 1) * spacing_mm / target_spacing_mm + 1))


def resize_matrix(num_voxels: int, num_resized: int) -> sparse.csr_array:
    """Return the matrix that resizes a line to another number of voxels.

    Source: the convention of MONAI's `Resize` and of torch's `interpolate` with
    `align_corners=False`: voxels have an extent, and the extent of the line is kept.
    """
    scale = num_voxels / num_resized
    return interpolation_matrix((np.arange(num_resized) + 0.5) * scale - 0.5, num_voxels)


def iterate_planes(volume: np.ndarray, matrices: AxisMatrices) -> Iterator[np.ndarray]:
    """Multiply each axis of a volume by its matrix, one plane of the result after the other.

    Args:
        volume: (x, y, z).
        matrices: for each axis (new length, length).

    Yields:
        (new y, new z) float32, for each new x; may be written to.
    """
    along_x, along_y, along_z = (matrix.astype(np.float32).tocsr() for matrix in matrices)
    bands = _dense_bands(along_z)
    blocks = sparse.block_diag([along_y] * _PLANES_AT_ONCE, format="csr")
    source = _contiguous(volume)
    num_x = along_x.shape[0]
    planes: dict[int, np.ndarray] = {}
    mixed = np.zeros((_PLANES_AT_ONCE, *source.shape[1:]), dtype=np.float32)
    weighted = np.empty(source.shape[1:], dtype=np.float32)
    for start in range(0, num_x, _PLANES_AT_ONCE):
        num_planes = min(_PLANES_AT_ONCE, num_x - start)
        for place in range(num_planes):
            row = start + place
            entries = slice(along_x.indptr[row], along_x.indptr[row + 1])
            columns = [int(column) for column in along_x.indices[entries]]
            planes = {
                column: planes[column] if column in planes else source[column].astype(np.float32)
                for column in columns
            }
            if not columns:  # a row of zeros
                mixed[place] = 0
            for number, (column, weight) in enumerate(
                zip(columns, along_x.data[entries], strict=True)
            ):
                np.multiply(planes[column], weight, out=weighted if number else mixed[place])
                if number:
                    mixed[place] += weighted
        lines = blocks @ mixed.reshape(-1, source.shape[2])
        result = np.empty((len(lines), along_z.shape[0]), dtype=np.float32)
        for used, made, dense in bands:
            np.matmul(lines[:, used], dense, out=result[:, made])
        yield from result.reshape(_PLANES_AT_ONCE, along_y.shape[0], -1)[:num_planes]


def _dense_bands(matrix: sparse.csr_array) -> list[tuple[slice, slice, np.ndarray]]:
    """Cut a banded matrix (new length, length) into dense parts, for products from the right.

    Dense, since lines are short and this needs no transposed copy.

    Returns:
        For each part which columns of a line it uses, which it makes, and (used, made) weights.
    """
    bands = []
    for start in range(0, matrix.shape[0], _BAND):
        rows = matrix[start : start + _BAND]
        columns = rows.indices if rows.nnz else [0]  # zeros alone
        used = slice(int(np.min(columns)), int(np.max(columns)) + 1)
        weights = np.ascontiguousarray(rows.toarray()[:, used].T)
        bands.append((used, slice(start, start + rows.shape[0]), weights))
    return bands


def apply_along_axes(volume: np.ndarray, matrices: AxisMatrices) -> np.ndarray:
    """Multiply each axis of a volume by its matrix.

    Args:
        volume: (x, y, z).
        matrices: for each axis (new length, length).

    Returns:
        (new x, new y, new z) float32.
    """
    x, y, z = (matrix.shape[0] for matrix in matrices)
    result = np.empty((x, y, z), dtype=np.float32)
    for row, plane in enumerate(iterate_planes(volume, matrices)):
        result[row] = plane
    return result


def plan_resampling(
    shape: tuple[int, ...],
    affine: np.ndarray,
    *,
    target_spacing_mm: tuple[float, float, float],
    target_shape: tuple[int, int, int],
) -> tuple[AxisMatrices, np.ndarray]:
    """Return the matrices that resample to a spacing, then resize to a shape, both trilinear.

    Source: Triad, section 4.1 (1 mm, then 256 x 256 x 128).
    Differs: works along the axes of the grid, with the length of the affine's columns as spacing;
    MONAI's `Spacing` would straighten a sheared grid besides.

    Args:
        shape: voxels of the volume, x y z.
        affine: (4, 4), voxel to world in mm.
        target_spacing_mm: of the grid between the two steps, x y z.
        target_shape: voxels of the result, x y z.

    Returns:
        A matrix for each axis, and the affine of the result.
    """
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0)
    matrices = []
    index_map = np.eye(4)  # voxel of the result -> voxel of the input
    for axis, (length, spacing, target, resized) in enumerate(
        zip(shape, spacing_mm, target_spacing_mm, target_shape, strict=True)
    ):
        to_spacing = spacing_matrix(length, spacing, target)
        num_resampled = to_spacing.shape[0]
        matrices.append((resize_matrix(num_resampled, resized) @ to_spacing).tocsr())
        step = 1.0 if abs(spacing - target) <= SPACING_TOLERANCE_MM else target / spacing
        index_map[axis, axis] = step * num_resampled / resized
        index_map[axis, 3] = step * (0.5 * num_resampled / resized - 0.5)
    x, y, z = matrices
    return (x, y, z), affine @ index_map


def _contiguous(volume: np.ndarray) -> np.ndarray:
    """Return the volume with z running fastest; a copy that goes by y keeps to the cache."""
    if volume.flags.c_contiguous:
        return volume
    copy = np.empty(volume.shape, dtype=volume.dtype)
    for y in range(volume.shape[1]):
        copy[:, y] = volume[:, y]
    return copy
