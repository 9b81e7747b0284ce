import numpy as np
import pytest

from nnunet_triad.phantom.grid import (
    average_to_grid,
    coarser_grid,
    make_affine,
    mean_matrix,
    spline_matrix,
)


def test_coarser_grid_keeps_the_lower_corner() -> None:
    affine = make_affine(1.0, (-10, 5, 0))
    shape, coarse = coarser_grid((30, 20, 12), affine, (3, 2, 4))
    assert shape == (10, 10, 3)
    np.testing.assert_allclose(coarse[:3, 3], (-9, 5.5, 1.5))  # corner -10.5, 4.5, -0.5


def test_average_to_grid_is_the_mean_of_blocks() -> None:
    volume = np.random.default_rng(0).random((6, 8, 12), dtype=np.float32)
    affine = make_affine(1.0, 0.0)
    shape, coarse = coarser_grid(volume.shape, affine, (2, 4, 3))
    expected = volume.reshape(3, 2, 2, 4, 4, 3).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(average_to_grid(volume, affine, shape, coarse), expected, rtol=1e-5)


def test_mean_matrix_weighs_partly_covered_voxels_by_overlap() -> None:
    # Voxels of 2 over voxels of 3, from the same edge: the first takes 2/3 and 1/3.
    matrix = mean_matrix(3, 2, spacing_in_mm=2, spacing_out_mm=3, shift_mm=0)
    np.testing.assert_allclose(matrix, [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]], rtol=1e-6)


def test_mean_matrix_counts_the_outside_as_zero() -> None:
    matrix = mean_matrix(2, 1, spacing_in_mm=1, spacing_out_mm=4, shift_mm=0)
    assert matrix.sum() == pytest.approx(0.5)


def test_spline_matrix_reproduces_cubic_polynomials() -> None:
    coarse, fine = np.linspace(-3, 4, 8), np.linspace(-3, 4, 41)

    def cubic(x: np.ndarray) -> np.ndarray:
        return x**3 - 2 * x**2 + x - 5

    np.testing.assert_allclose(
        spline_matrix(coarse, fine) @ cubic(coarse), cubic(fine), rtol=1e-4, atol=1e-4
    )
