"""The whole transform as a displacement field, in memory and in a file that ITK's programs read."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from scipy import ndimage

from nnunet_triad.images import Grid, Volume
from nnunet_triad.images.displacement import read_displacement, write_displacement
from nnunet_triad.images.itk import place_sitk, to_sitk

_TO_LPS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True, kw_only=True)
class TransformField:
    """A pull transform: where in the moving image each voxel of the fixed image comes from."""

    displacement_mm: np.ndarray  # (x, y, z, 3) float32, RAS: moving point - fixed point
    affine: np.ndarray  # (4, 4) of the fixed grid

    @property
    def grid(self) -> Grid:
        """The fixed image's grid."""
        x, y, z = self.displacement_mm.shape[:3]
        return Grid(shape=(x, y, z), affine=self.affine)


def whole_field(
    grid: Grid, *, working: Grid, displacement: np.ndarray, matrix: np.ndarray
) -> TransformField:
    """Compose the network's displacement and the affine map to one field on any grid.

    T(p) = A(p + u(p)): the network saw the moving image through A.

    Args:
        grid: of the result, the fixed image's own.
        working: the grid that the network worked on.
        displacement: (3, x, y, z) on `working`, in its voxels; the border's value goes on outside.
        matrix: A, (4, 4), world of the fixed image to world of the moving image, mm.
    """
    vectors = np.einsum("ij,jxyz->ixyz", working.affine[:3, :3], displacement)
    moved = grid_points(grid)
    moved += _sample_field(vectors, working, grid)
    target = np.einsum("ij,jxyz->ixyz", matrix[:3, :3], moved) + matrix[:3, 3].reshape(3, 1, 1, 1)
    target -= grid_points(grid)
    return TransformField(
        displacement_mm=np.moveaxis(target, 0, -1).astype(np.float32), affine=grid.affine
    )


def whole_inverse_field(
    grid: Grid, *, working: Grid, inverse: np.ndarray, matrix: np.ndarray
) -> TransformField:
    """Compose the inverse of both: from the moving image's grid to the fixed image.

    T^-1(q) = r + w(r) with r = A^-1 q and w the inverse displacement on the working grid.

    Args:
        grid: of the result, the moving image's own.
        working: the grid that the network worked on.
        inverse: (3, x, y, z) on `working`, in its voxels.
        matrix: A, (4, 4), world of the fixed image to world of the moving image, mm.
    """
    pulled = Grid(shape=grid.shape, affine=np.linalg.inv(matrix) @ grid.affine)
    field = whole_field(pulled, working=working, displacement=inverse, matrix=np.eye(4))
    points = np.moveaxis(grid_points(pulled) - grid_points(grid), 0, -1)
    return TransformField(
        displacement_mm=(field.displacement_mm + points).astype(np.float32), affine=grid.affine
    )


def grid_points(grid: Grid) -> np.ndarray:
    """Return the world coordinates of each voxel: (3, x, y, z) float64, mm, RAS."""
    index = np.indices(grid.shape, dtype=np.float64)
    return np.einsum("ij,jxyz->ixyz", grid.affine[:3, :3], index) + grid.affine[:3, 3].reshape(
        3, 1, 1, 1
    )


def _sample_field(vectors: np.ndarray, source: Grid, grid: Grid) -> np.ndarray:
    """Sample a vector field linearly on another grid; exact where voxels coincide."""
    index_map = np.linalg.inv(source.affine) @ grid.affine
    is_near_whole = np.abs(index_map - np.rint(index_map)) < 1e-6
    index_map = np.where(is_near_whole, np.rint(index_map), index_map)
    return np.stack(
        [
            ndimage.affine_transform(
                component,
                index_map[:3, :3],
                index_map[:3, 3],
                output_shape=grid.shape,
                order=1,
                mode="nearest",
            )
            for component in vectors
        ]
    )


def write_field(path: Path, field: TransformField) -> None:
    """Write a field; see `write_displacement`."""
    write_displacement(path, field.displacement_mm, field.affine)


def read_field(path: Path) -> TransformField:
    """Read a field; see `read_displacement`."""
    displacement_mm, affine = read_displacement(path)
    return TransformField(displacement_mm=displacement_mm, affine=affine)


def to_sitk_transform(field: TransformField) -> sitk.DisplacementFieldTransform:
    """Return a field as SimpleITK's transform."""
    vectors = np.ascontiguousarray(
        np.transpose(field.displacement_mm * _TO_LPS, (2, 1, 0, 3)), dtype=np.float64
    )
    image = sitk.GetImageFromArray(vectors, isVector=True)
    place_sitk(image, field.affine)
    return sitk.DisplacementFieldTransform(image)


def apply_field(moving: Volume, field: TransformField, *, is_labels: bool = False) -> Volume:
    """Warp a moving image, or its labels, onto the grid of a field, by SimpleITK.

    One interpolation, whatever the transform is made of: linear, for labels nearest; zero outside.
    """
    reference = sitk.Image(list(field.grid.shape), sitk.sitkUInt8)
    place_sitk(reference, field.affine)
    warped = sitk.Resample(
        to_sitk(moving),
        reference,
        to_sitk_transform(field),
        sitk.sitkNearestNeighbor if is_labels else sitk.sitkLinear,
        0.0,
    )
    return Volume(voxels=sitk.GetArrayFromImage(warped).T, affine=field.affine)


def pull_points(points: np.ndarray, field: TransformField) -> np.ndarray:
    """Carry points of the fixed image to the moving image.

    Args:
        points: (n, 3), mm, RAS.
        field: the transform.

    Returns:
        (n, 3), mm, RAS; NaN for points outside the field's grid.
    """
    index = np.linalg.inv(field.affine) @ np.c_[points, np.ones(len(points))].T
    limits = np.array(field.grid.shape)[:, None] - 0.5
    is_inside = ((index[:3] >= -0.5) & (index[:3] <= limits)).all(axis=0)
    vectors = [
        ndimage.map_coordinates(
            field.displacement_mm[..., axis], index[:3], order=1, mode="nearest"
        )
        for axis in range(3)
    ]
    return np.where(is_inside[:, None], points + np.stack(vectors, axis=1), np.nan)
