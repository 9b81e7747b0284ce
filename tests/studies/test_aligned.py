"""The truth that is left between atlas and an aligned subject."""

import numpy as np
from scipy.spatial.transform import Rotation

from nnunet_triad.images import Grid
from registration.transform_file import TransformField, grid_points
from studies.aligned import aligned_truth


def _affine_map(degrees, scale, shift):
    matrix = np.eye(4)
    matrix[:3, :3] = scale * Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    matrix[:3, 3] = shift
    return matrix


def _moved(matrix, points):
    return np.einsum("ij,jxyz->ixyz", matrix[:3, :3], points) + matrix[:3, 3].reshape(3, 1, 1, 1)


def test_aligned_truth_is_the_true_map_after_the_alignment():
    """Both maps are affine, so that their product is known, and linear sampling exact."""
    raw = Grid(shape=(24, 30, 26), affine=np.diag([5.0, 5.0, 5.0, 1.0]))
    grid = Grid(shape=(7, 9, 8), affine=np.diag([6.0, 6.0, 6.0, 1.0]))
    grid.affine[:3, 3] = (40.0, 45.0, 42.0)
    true_map = _affine_map((4, -3, 6), 1.05, (2.0, -1.0, 3.0))
    alignment = _affine_map((-5, 2, 3), 0.96, (-3.0, 4.0, 1.0))
    points = grid_points(raw)
    vectors = np.moveaxis(_moved(true_map, points) - points, 0, -1)
    truth = TransformField(displacement_mm=vectors.astype(np.float32), affine=raw.affine)
    found = aligned_truth(truth, alignment, grid)
    own = grid_points(grid)
    expected = np.moveaxis(_moved(true_map, _moved(alignment, own)) - own, 0, -1)
    assert np.abs(expected).max() > 5
    np.testing.assert_allclose(found.displacement_mm, expected, atol=1e-3)
    assert found.grid.is_same(grid)


def test_aligned_truth_goes_on_outside_the_raw_image():
    raw = Grid(shape=(10, 10, 10), affine=np.diag([5.0, 5.0, 5.0, 1.0]))
    constant = np.broadcast_to(np.float32([3.0, -2.0, 1.0]), (10, 10, 10, 3))
    grid = Grid(shape=(12, 12, 12), affine=np.diag([6.0, 6.0, 6.0, 1.0]))
    grid.affine[:3, 3] = -12.0
    found = aligned_truth(
        TransformField(displacement_mm=constant, affine=raw.affine), np.eye(4), grid
    )
    np.testing.assert_allclose(
        found.displacement_mm, np.broadcast_to([3.0, -2.0, 1.0], (12, 12, 12, 3)), atol=1e-5
    )
