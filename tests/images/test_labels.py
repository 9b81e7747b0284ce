import nibabel as nib
import numpy as np
import pytest

from nnunet_triad.errors import UserError
from nnunet_triad.images import read_labels, write_labels

AFFINE = np.diag([-1.0, 2.0, 3.0, 1.0])


def labels(shape=(5, 6, 7)):
    return np.random.default_rng(0).integers(0, 5, shape)


def save(path, array):
    nib.save(nib.Nifti1Image(array, AFFINE), path)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.float32, np.float64])
def test_labels_are_whole_numbers_of_any_type(tmp_path, dtype):
    found = read_labels(save(tmp_path / "a.nii.gz", labels().astype(dtype)))
    assert found.voxels.dtype == np.int32
    np.testing.assert_array_equal(found.voxels, labels())
    np.testing.assert_array_equal(found.affine, AFFINE)


def test_rounding_errors_are_no_fractions(tmp_path):
    path = save(tmp_path / "a.nii.gz", labels().astype(np.float32) + 9e-4)
    np.testing.assert_array_equal(read_labels(path).voxels, labels())


def test_large_labels_keep_all_digits(tmp_path):
    large = labels() + 2**30 + 1  # float32 has 24 bits
    path = save(tmp_path / "a.nii.gz", large.astype(np.int32))
    np.testing.assert_array_equal(read_labels(path).voxels, large)


@pytest.mark.parametrize(
    ("value", "message"),
    [(1.5, r"expected labels, whole numbers, got 1\.5"), (np.nan, "got NaN or infinity in 1 of")],
)
def test_fractions_and_nan_are_refused(tmp_path, value, message):
    array = labels().astype(np.float32)
    array[2, 3, 4] = value
    with pytest.raises(UserError, match=message):
        read_labels(save(tmp_path / "a.nii.gz", array))


@pytest.mark.parametrize(("dtype", "value"), [(np.uint32, 2**32 - 1), (np.float64, -(2.0**31) - 1)])
def test_labels_that_32_bits_do_not_hold_are_refused(tmp_path, dtype, value):
    array = labels().astype(dtype)
    array[2, 3, 4] = value
    with pytest.raises(UserError, match=rf"to 2147483647, got .*{abs(value):.0f}.*renumber"):
        read_labels(save(tmp_path / "a.nii.gz", array))


def test_a_slice_may_have_labels(tmp_path):
    path = save(tmp_path / "a.nii.gz", labels((5, 6, 1)).astype(np.uint8))
    assert read_labels(path).voxels.shape == (5, 6, 1)
    with pytest.raises(UserError, match="at least 2 voxels"):
        read_labels(path, min_length=2)


@pytest.mark.parametrize(
    ("shift", "dtype"), [(0, np.uint8), (251, np.uint8), (252, np.int32), (-1, np.int32)]
)
def test_labels_are_written_in_the_smallest_type(tmp_path, shift, dtype):
    path = write_labels(tmp_path / "a.nii.gz", labels() + shift, AFFINE)
    assert nib.load(path).get_data_dtype() == dtype
    np.testing.assert_array_equal(read_labels(path).voxels, labels() + shift)
