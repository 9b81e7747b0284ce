import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # its customary name

from nnunet_triad.images.itk import affine_of, is_readable_by_itk, ras_matrix, to_sitk
from nnunet_triad.images.writer import write_volume
from tests.registration.heads import head, turned


def test_simpleitk_sees_each_voxel_at_the_same_point():
    image = turned(head()[0])
    converted = to_sitk(image)
    for index in ((0, 0, 0), (3, 7, 2), (10, 1, 5)):
        x, y, z = (image.affine @ np.r_[index, 1])[:3]
        assert converted.TransformIndexToPhysicalPoint(index) == pytest.approx((-x, -y, z))
        assert converted[index] == pytest.approx(image.voxels[index])
    np.testing.assert_allclose(affine_of(converted), image.affine, atol=1e-8)


def test_affine_turns_lps_to_ras():
    image = sitk.Image([2, 3, 4], sitk.sitkUInt8)
    image.SetOrigin((1.0, 2.0, 3.0))
    image.SetSpacing((4.0, 5.0, 6.0))
    np.testing.assert_array_equal(affine_of(image) @ [1, 1, 1, 1], [-5, -7, 9, 1])


def test_transform_moves_the_same_point_in_ras():
    transform = sitk.Euler3DTransform((1.0, 2.0, 3.0), 0.1, 0.2, 0.3, (4.0, 5.0, 6.0))
    point = np.array([7.0, -8.0, 9.0])
    lps = np.array([-1.0, -1.0, 1.0])
    expected = np.array(transform.TransformPoint((point * lps).tolist())) * lps
    np.testing.assert_allclose((ras_matrix(transform) @ [*point, 1])[:3], expected, atol=1e-9)


def test_sheared_file_is_not_for_itk(tmp_path):
    sheared = np.eye(4)
    sheared[0, 1] = 0.3
    voxels = np.zeros((3, 4, 5), np.uint8)
    assert is_readable_by_itk(write_volume(tmp_path / "a.nii.gz", voxels, np.eye(4)))
    assert not is_readable_by_itk(tmp_path / "none.nii.gz")
