import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # its customary name

from nnunet_triad.errors import UserError
from nnunet_triad.images.displacement import read_displacement, write_displacement

AFFINE = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -7], [0, 0, 3, 11], [0, 0, 0, 1]])


def field():
    return np.random.default_rng(0).normal(size=(4, 5, 6, 3)).astype(np.float32)


def test_simpleitk_moves_points_by_the_field(tmp_path):
    write_displacement(tmp_path / "a.nii.gz", field(), AFFINE)
    image = sitk.ReadImage(str(tmp_path / "a.nii.gz"), sitk.sitkVectorFloat64)
    transform = sitk.DisplacementFieldTransform(image)
    lps = np.array([-1.0, -1.0, 1.0])
    point = (AFFINE @ [2, 3, 4, 1])[:3]
    moved = np.array(transform.TransformPoint((point * lps).tolist())) * lps
    np.testing.assert_allclose(moved, point + field()[2, 3, 4], atol=1e-5)
    assert nib.load(tmp_path / "a.nii.gz").header.get_intent()[0] == "vector"


def test_field_comes_back(tmp_path):
    write_displacement(tmp_path / "a.nii.gz", field(), AFFINE)
    found, affine = read_displacement(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(found, field())
    np.testing.assert_allclose(affine, AFFINE)


def test_rounded_field_has_multiples_of_the_step(tmp_path):
    write_displacement(tmp_path / "a.nii.gz", field(), AFFINE, step_mm=1 / 64)
    found, _ = read_displacement(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(found, np.rint(field() * 64) / 64)


@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5, 6, 2), (4, 5, 6, 2, 3), (4, 5, 6, 3, 1)])
def test_what_is_no_field_is_refused(tmp_path, shape):
    nib.save(nib.Nifti1Image(np.zeros(shape, np.float32), AFFINE), tmp_path / "a.nii.gz")
    with pytest.raises(UserError, match="expected a displacement field"):
        read_displacement(tmp_path / "a.nii.gz")
