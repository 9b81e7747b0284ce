import nibabel as nib
import numpy as np
import pytest

from nnunet_triad.errors import UserError
from nnunet_triad.images.volume import (
    Grid,
    Image,
    at_spacing,
    normalize_intensity,
    read_image,
    read_labels,
    resample,
    to_sitk,
    write_image,
)
from tests.registration.heads import SPACING, head, save, turned


def test_image_is_read_in_any_type_without_a_trailing_axis(tmp_path):
    image, _ = head()
    for dtype in (np.int16, np.uint8, np.float64):
        data = image.data.clip(0, 200).astype(dtype)[..., None]
        path = save(tmp_path / "image.nii.gz", Image(data=data, affine=image.affine))
        found = read_image(path)
        assert found.data.dtype == np.float32
        np.testing.assert_allclose(found.data, data[..., 0], atol=1e-4)


def test_voxels_that_are_not_finite_become_zero(tmp_path):
    image, _ = head()
    data = image.data.copy()
    data[3, 4, 5], data[5, 4, 3] = np.nan, np.inf
    found = read_image(save(tmp_path / "image.nii.gz", Image(data=data, affine=image.affine)))
    assert np.isfinite(found.data).all()
    assert found.data[3, 4, 5] == found.data[5, 4, 3] == 0


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 1), (20, 30, 8, 5)])
def test_slices_and_series_are_refused(tmp_path, shape):
    path = save(tmp_path / "image.nii.gz", Image(data=np.ones(shape, np.float32), affine=np.eye(4)))
    with pytest.raises(UserError, match=r"expected a (three-dimensional image|volume of at least)"):
        read_image(path)


def test_sheared_and_singular_grids_are_refused(tmp_path):
    shear = np.eye(4)
    shear[0, 1] = 0.2
    path = save(tmp_path / "image.nii.gz", Image(data=np.ones((9, 8, 7), np.float32), affine=shear))
    with pytest.raises(UserError, match="expected perpendicular axes, got a sheared grid"):
        read_image(path)


def test_missing_and_damaged_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="expected a NIfTI image, got no file"):
        read_image(tmp_path / "none.nii.gz")
    (tmp_path / "bad.nii.gz").write_bytes(b"\x1f\x8b no image")
    with pytest.raises(UserError, match="expected a whole NIfTI image"):
        read_image(tmp_path / "bad.nii.gz")
    whole = save(tmp_path / "whole.nii.gz", head()[0]).read_bytes()
    (tmp_path / "half.nii.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="expected a whole NIfTI image"):
        read_image(tmp_path / "half.nii.gz")


def test_labels_are_whole_numbers_of_any_type(tmp_path):
    _, labels = head()
    for dtype in (np.uint8, np.int16, np.float32, np.float64):
        path = save(
            tmp_path / "l.nii.gz", Image(data=labels.data.astype(dtype), affine=labels.affine)
        )
        np.testing.assert_array_equal(read_labels(path).data, labels.data)
    half = Image(data=labels.data.astype(np.float32) / 2, affine=labels.affine)
    with pytest.raises(UserError, match=r"expected labels, whole numbers, got [01]\.5"):
        read_labels(save(tmp_path / "l.nii.gz", half))


def test_turned_image_is_the_same_in_ras():
    image, _ = head()
    for order, flips in (((2, 0, 1), (1, 2)), ((1, 0, 2), ()), ((0, 1, 2), (0,))):
        again = turned(image, order=order, flips=flips).to_ras()
        assert again.grid.is_same(image.grid)
        np.testing.assert_array_equal(again.data, image.data)


def test_resampling_a_turned_image_gives_it_back():
    image, labels = head()
    turn = turned(image)
    np.testing.assert_allclose(resample(turn, image.grid), image.data, atol=1e-3)
    np.testing.assert_array_equal(resample(turned(labels), labels.grid, order=0), labels.data)


def test_resampling_follows_the_matrix_in_world_coordinates():
    image, _ = head()
    matrix = np.eye(4)
    matrix[0, 3] = 2 * SPACING[0]  # a point of the grid lies two voxels further in the image
    found = resample(image, image.grid, matrix=matrix)
    np.testing.assert_allclose(found[:-2], image.data[2:], atol=1e-4)
    assert np.abs(found[-1]).max() == 0


def test_grid_at_another_spacing_covers_the_same_extent():
    grid = head()[0].grid
    other = at_spacing(grid, np.array([2.5, 11.0, 7.0]))
    assert other.shape == (60, 13, 21)

    def edges(grid: Grid):
        low, high = np.full(3, -0.5), np.array(grid.shape) - 0.5
        return [(grid.affine @ np.r_[corner, 1])[:3] for corner in (low, high)]

    np.testing.assert_allclose(edges(other), edges(grid))


def test_simpleitk_sees_each_voxel_at_the_same_point():
    image = turned(head()[0])
    converted = to_sitk(image)
    for index in ((0, 0, 0), (3, 7, 2), (10, 1, 5)):
        x, y, z = (image.affine @ np.r_[index, 1])[:3]
        assert converted.TransformIndexToPhysicalPoint(index) == pytest.approx((-x, -y, z))
        assert converted[index] == pytest.approx(image.data[index])


def test_written_image_comes_back(tmp_path):
    image, labels = head()
    write_image(tmp_path / "i.nii.gz", image)
    write_image(tmp_path / "l.nii.gz", labels)
    np.testing.assert_array_equal(read_image(tmp_path / "i.nii.gz").data, image.data)
    np.testing.assert_array_equal(read_labels(tmp_path / "l.nii.gz").data, labels.data)
    assert nib.load(tmp_path / "l.nii.gz").get_data_dtype() == np.uint8


def test_intensities_are_between_zero_and_one_and_constant_images_zero():
    image, _ = head()
    image.data[0, 0, 0] = 1e6  # one bright voxel does not matter
    scaled = normalize_intensity(image.data, percentile=99.9)
    assert (scaled.min(), scaled.max()) == (0, 1)
    assert scaled.mean() > 0.15
    assert normalize_intensity(image.data, percentile=100).mean() < 0.01
    assert not normalize_intensity(np.full((4, 5, 6), 7.0), percentile=99.9).any()
    single = np.zeros((20, 20, 20))
    single[3, 4, 5] = 2
    assert normalize_intensity(single, percentile=99.9).max() == 1
