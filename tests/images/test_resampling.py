import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Orientation, Resize, Spacing
from scipy import sparse
from scipy.spatial.transform import Rotation

from benchmarks.volumes import resample_and_resize
from nnunet_triad.images import spacing_of, to_ras
from nnunet_triad.images.resampling import (
    apply_along_axes,
    interpolation_matrix,
    resize_matrix,
    spacing_matrix,
)

TARGET_SHAPE = (40, 37, 22)
OBLIQUE = Rotation.from_euler("xyz", [11, -17, 8], degrees=True).as_matrix()


def affine_of(axes: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = axes @ np.diag(spacing_mm)
    affine[:3, 3] = (-31.0, 12.5, 7.0)
    return affine


def random_volume(shape: tuple[int, int, int]) -> np.ndarray:
    return np.random.default_rng(0).normal(200, 70, shape).astype(np.float32)


def with_monai(volume: np.ndarray, affine: np.ndarray, spacing_mm: float) -> MetaTensor:
    image = MetaTensor(torch.from_numpy(volume.copy())[None], affine=torch.from_numpy(affine))
    transform = Compose(
        [
            Orientation("RAS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
            Spacing(spacing_mm, mode="bilinear", padding_mode="border"),
            Resize(TARGET_SHAPE, mode="trilinear", dtype=torch.float64),
        ]
    )
    return transform(image)


@pytest.mark.parametrize(
    ("axes", "spacing_mm", "target_mm"),
    [
        (np.eye(3), (0.7, 1.3, 3.1), 1.0),
        (np.eye(3), (2.5, 0.4, 0.9), 2.0),
        (np.eye(3), (1.0, 1.0004, 1.2), 1.0),
        (np.diag([-1, -1, 1]), (0.94, 0.94, 5.5), 1.0),
        (np.array([[0, 0, 1], [-1, 0, 0], [0, 1, 0]]), (0.5, 0.6, 1.7), 1.0),
        (OBLIQUE, (0.8, 1.1, 2.2), 1.0),
        (OBLIQUE @ np.diag([-1, 1, 1]), (0.8, 1.1, 2.2), 1.0),
    ],
)
def test_resample_and_resize_equals_monai(axes, spacing_mm, target_mm):
    volume, affine = random_volume((23, 31, 17)), affine_of(axes, spacing_mm)
    expected = with_monai(volume, affine, target_mm)
    turned, turned_affine = to_ras(volume, affine)
    result, result_affine = resample_and_resize(
        turned,
        turned_affine,
        target_spacing_mm=(target_mm,) * 3,
        target_shape=TARGET_SHAPE,
    )
    np.testing.assert_allclose(result, expected[0].numpy(), rtol=2e-6, atol=1e-3)
    np.testing.assert_allclose(result_affine, expected.affine.numpy(), atol=1e-6)


def test_resample_and_resize_equals_two_steps():
    volume, affine = random_volume((14, 19, 11)), affine_of(np.eye(3), (1.7, 0.6, 2.3))
    at_one_mm = apply_along_axes(
        volume,
        tuple(map(spacing_matrix, volume.shape, (1.7, 0.6, 2.3), (1.0, 1.0, 1.0))),
    )
    expected = apply_along_axes(at_one_mm, tuple(map(resize_matrix, at_one_mm.shape, TARGET_SHAPE)))
    result, _ = resample_and_resize(
        volume, affine, target_spacing_mm=(1.0, 1.0, 1.0), target_shape=TARGET_SHAPE
    )
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-3)


def test_resample_and_resize_keeps_a_linear_ramp_where_the_affine_says():
    """World coordinates are linear, so that they survive away from the border."""
    affine = affine_of(OBLIQUE, (0.8, 1.1, 2.2))
    indices = np.stack(np.meshgrid(*map(np.arange, (23, 31, 17)), indexing="ij"), -1)
    ramp = nib.affines.apply_affine(affine, indices)[..., 2]
    result, new_affine = resample_and_resize(
        ramp, affine, target_spacing_mm=(1.0, 1.0, 1.0), target_shape=TARGET_SHAPE
    )
    inner = np.stack(np.meshgrid(*[np.arange(4, n - 4) for n in TARGET_SHAPE], indexing="ij"), -1)
    expected = nib.affines.apply_affine(new_affine, inner)[..., 2]
    np.testing.assert_allclose(result[4:-4, 4:-4, 4:-4], expected, atol=1e-4)


def test_resample_and_resize_of_same_grid_is_identity():
    volume = random_volume((6, 7, 5))
    result, affine = resample_and_resize(
        volume, np.eye(4), target_spacing_mm=(1.0, 1.0, 1.0), target_shape=(6, 7, 5)
    )
    np.testing.assert_array_equal(result, volume)
    np.testing.assert_array_equal(affine, np.eye(4))


def test_interpolation_matrix_rows_sum_to_one_and_repeat_the_border():
    matrix = interpolation_matrix(np.array([-3.0, 0.25, 1.0, 3.999, 9.0]), 5).toarray()
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    np.testing.assert_allclose(matrix @ np.arange(5.0), [0, 0.25, 1, 3.999, 4])


def test_interpolation_matrix_of_one_voxel_repeats_it():
    np.testing.assert_array_equal(interpolation_matrix(np.arange(3.0), 1).toarray(), [[1]] * 3)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "ASL", "IPR"])
def test_to_ras_returns_ras_and_keeps_world_positions(codes):
    directions = nib.orientations.inv_ornt_aff(
        nib.orientations.axcodes2ornt(tuple(codes)), (4, 5, 6)
    )
    affine = np.linalg.inv(directions)
    volume = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    turned, turned_affine = to_ras(volume, affine)
    assert nib.aff2axcodes(turned_affine) == ("R", "A", "S")
    voxel = np.argwhere(turned == volume[1, 2, 3])[0]
    np.testing.assert_allclose(
        nib.affines.apply_affine(turned_affine, voxel), nib.affines.apply_affine(affine, (1, 2, 3))
    )


def test_spacing_of_oblique_affine_is_length_of_columns():
    np.testing.assert_allclose(spacing_of(affine_of(OBLIQUE, (0.8, 1.1, 2.2))), (0.8, 1.1, 2.2))


@pytest.mark.parametrize("lengths", [(9, 20, 37), (3, 5, 16), (8, 40, 2)])
def test_product_equals_that_of_dense_matrices(lengths):
    shape = (7, 31, 23)
    volume = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    matrices = tuple(resize_matrix(*pair) for pair in zip(shape, lengths, strict=True))
    x, y, z = (matrix.toarray() for matrix in matrices)
    expected = np.einsum("ai,bj,ck,ijk->abc", x, y, z, volume, optimize=True)
    np.testing.assert_allclose(apply_along_axes(volume, matrices), expected, atol=1e-5)


def test_rows_of_zeros_make_zeros():
    """A place outside the volume may have no weights: first, last, and a whole band of them."""
    volume = np.random.default_rng(0).normal(size=(7, 31, 23)).astype(np.float32)
    matrices = []
    for length, zeros in zip(
        volume.shape, (slice(0, 2), slice(30, None), slice(16, 32)), strict=True
    ):
        dense = resize_matrix(length, 40).toarray()
        dense[zeros] = 0
        matrices.append(sparse.csr_array(dense))
    x, y, z = (matrix.toarray() for matrix in matrices)
    expected = np.einsum("ai,bj,ck,ijk->abc", x, y, z, volume, optimize=True)
    result = apply_along_axes(volume, tuple(matrices))
    np.testing.assert_allclose(result, expected, atol=1e-5)
    assert not result[:2].any() and not result[:, 30:].any() and not result[..., 16:32].any()
