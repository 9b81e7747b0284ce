import numpy as np
import pytest

from nnunet_triad.errors import UserError
from nnunet_triad.images import Grid, Volume
from registration.pairs import at_spacing, normalize_intensity, read_image, resample
from tests.registration.heads import SPACING, head, save, turned


def test_voxels_that_are_not_finite_become_zero(tmp_path):
    image, _ = head()
    data = image.voxels.copy()
    data[3, 4, 5], data[5, 4, 3] = np.nan, np.inf
    found = read_image(save(tmp_path / "image.nii.gz", Volume(voxels=data, affine=image.affine)))
    assert np.isfinite(found.voxels).all()
    assert found.voxels[3, 4, 5] == found.voxels[5, 4, 3] == 0


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 1), (20, 30, 8, 5)])
def test_slices_and_series_are_refused(tmp_path, shape):
    path = save(
        tmp_path / "image.nii.gz", Volume(voxels=np.ones(shape, np.float32), affine=np.eye(4))
    )
    with pytest.raises(UserError, match="expected a 3D volume"):
        read_image(path)


def test_sheared_and_singular_grids_are_refused(tmp_path):
    shear = np.eye(4)
    shear[0, 1] = 0.2
    path = save(
        tmp_path / "image.nii.gz", Volume(voxels=np.ones((9, 8, 7), np.float32), affine=shear)
    )
    with pytest.raises(UserError, match="expected perpendicular axes, got a sheared grid"):
        read_image(path)


def test_resampling_a_turned_image_gives_it_back():
    image, labels = head()
    turn = turned(image)
    np.testing.assert_allclose(resample(turn, image.grid), image.voxels, atol=1e-3)
    np.testing.assert_array_equal(resample(turned(labels), labels.grid, order=0), labels.voxels)


def test_resampling_follows_the_matrix_in_world_coordinates():
    image, _ = head()
    matrix = np.eye(4)
    matrix[0, 3] = 2 * SPACING[0]  # a point of the grid lies two voxels further in the image
    found = resample(image, image.grid, matrix=matrix)
    np.testing.assert_allclose(found[:-2], image.voxels[2:], atol=1e-4)
    assert np.abs(found[-1]).max() == 0


def test_grid_at_another_spacing_covers_the_same_extent():
    grid = head()[0].grid
    other = at_spacing(grid, np.array([2.5, 11.0, 7.0]))
    assert other.shape == (60, 13, 21)

    def edges(grid: Grid):
        low, high = np.full(3, -0.5), np.array(grid.shape) - 0.5
        return [(grid.affine @ np.r_[corner, 1])[:3] for corner in (low, high)]

    np.testing.assert_allclose(edges(other), edges(grid))


def test_intensities_are_between_zero_and_one_and_constant_images_zero():
    image, _ = head()
    image.voxels[0, 0, 0] = 1e6  # one bright voxel does not matter
    scaled = normalize_intensity(image.voxels, percentile=99.9)
    assert (scaled.min(), scaled.max()) == (0, 1)
    assert scaled.mean() > 0.15
    assert normalize_intensity(image.voxels, percentile=100).mean() < 0.01
    assert not normalize_intensity(np.full((4, 5, 6), 7.0), percentile=99.9).any()
    single = np.zeros((20, 20, 20))
    single[3, 4, 5] = 2
    assert normalize_intensity(single, percentile=99.9).max() == 1
