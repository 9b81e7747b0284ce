import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from nnunet_triad.errors import UserError
from nnunet_triad.images import Volume
from registration.pairs import at_spacing
from registration.transform_file import (
    TransformField,
    apply_field,
    grid_points,
    pull_points,
    read_field,
    whole_field,
    whole_inverse_field,
    write_field,
)
from tests.registration.heads import SHAPE, SPACING, head, save, turned


def smooth(shape=SHAPE, amplitude=2.0, seed=0):
    """A smooth displacement in voxels: (3, x, y, z)."""
    random = np.random.default_rng(seed)
    axes = np.indices(shape) / np.reshape(shape, (3, 1, 1, 1))
    waves = random.normal(size=(3, 3))
    phases = random.uniform(0, 6, size=3)
    return np.stack(
        [
            amplitude * np.sin(np.tensordot(w, 4 * axes, 1) + p)
            for w, p in zip(waves, phases, strict=True)
        ]
    )


def small_affine():
    angle = 0.1
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, :3] *= 1.05
    matrix[:3, 3] = (3.0, -5.0, 2.0)
    return matrix


def test_simpleitk_applies_the_file_to_the_same_result(tmp_path):
    """All of it by SimpleITK from the files; axes turned, so that no convention goes unnoticed."""
    moving, fixed = turned(head(scale=0.9)[0]), turned(head()[0], order=(1, 2, 0), flips=(0,))
    working = fixed.to_ras().grid
    field = whole_field(fixed.grid, working=working, displacement=smooth(), matrix=small_affine())
    ours = apply_field(moving, field)
    write_field(tmp_path / "field.nii.gz", field)
    save(tmp_path / "moving.nii.gz", moving)
    save(tmp_path / "fixed.nii.gz", fixed)

    vectors = sitk.ReadImage(str(tmp_path / "field.nii.gz"), sitk.sitkVectorFloat64)
    theirs = sitk.Resample(
        sitk.ReadImage(str(tmp_path / "moving.nii.gz"), sitk.sitkFloat32),
        sitk.ReadImage(str(tmp_path / "fixed.nii.gz")),
        sitk.DisplacementFieldTransform(vectors),
        sitk.sitkLinear,
    )
    assert np.abs(ours.voxels).max() > 50
    np.testing.assert_allclose(sitk.GetArrayFromImage(theirs).T, ours.voxels, atol=0.01)


def test_file_has_the_conventions_of_itk(tmp_path):
    fixed = head()[0]
    displacement = np.zeros((3, *SHAPE))
    displacement[0], displacement[2] = 1.0, -2.0  # voxels, RAS
    field = whole_field(fixed.grid, working=fixed.grid, displacement=displacement, matrix=np.eye(4))
    write_field(tmp_path / "field.nii.gz", field)
    file = nib.load(tmp_path / "field.nii.gz")
    assert file.shape == (*SHAPE, 1, 3)
    assert file.header.get_intent()[0] == "vector"
    np.testing.assert_allclose(file.affine, fixed.affine)
    np.testing.assert_allclose(
        np.asarray(file.dataobj)[5, 6, 7, 0], (-SPACING[0], 0.0, -2 * SPACING[2]), atol=1e-5
    )


def test_written_field_comes_back(tmp_path):
    fixed = turned(head()[0])
    field = whole_field(
        fixed.grid, working=fixed.to_ras().grid, displacement=smooth(), matrix=small_affine()
    )
    write_field(tmp_path / "field.nii.gz", field)
    again = read_field(tmp_path / "field.nii.gz")
    assert again.grid.is_same(field.grid)
    np.testing.assert_allclose(again.displacement_mm, field.displacement_mm, atol=1e-4)


def test_field_of_a_translation_moves_points_by_it_in_mm():
    fixed = head()[0]
    matrix = np.eye(4)
    matrix[:3, 3] = (5.0, -2.0, 1.0)
    field = whole_field(
        fixed.grid, working=fixed.grid, displacement=np.zeros((3, *SHAPE)), matrix=matrix
    )
    points = np.array([[0.0, 0, 0], [10, 20, -30]])
    np.testing.assert_allclose(pull_points(points, field), points + matrix[:3, 3], atol=1e-4)
    assert np.isnan(pull_points(np.array([[500.0, 0, 0]]), field)).all()


def test_field_on_a_coarser_working_grid_agrees_in_between():
    fixed = head()[0]
    working = at_spacing(fixed.grid, 2 * fixed.grid.spacing_mm)
    slope = 0.05
    points = grid_points(working)
    voxels = np.zeros((3, *working.shape))
    voxels[1] = slope * points[0] / working.spacing_mm[1]  # a shear: y moves with x
    field = whole_field(fixed.grid, working=working, displacement=voxels, matrix=np.eye(4))
    expected = slope * grid_points(fixed.grid)[0]
    inner = (slice(2, -2),) * 3
    np.testing.assert_allclose(field.displacement_mm[(*inner, 1)], expected[inner], atol=1e-3)


def test_inverse_field_brings_points_back():
    fixed, moving = head()[0], turned(head()[0])
    displacement = smooth(amplitude=1.0)
    inverse = -displacement
    from scipy.ndimage import map_coordinates

    index = np.indices(SHAPE).astype(float)
    for _ in range(30):
        inverse = -np.stack(
            [map_coordinates(c, index + inverse, order=1, mode="nearest") for c in displacement]
        )
    there = whole_field(
        fixed.grid, working=fixed.grid, displacement=displacement, matrix=small_affine()
    )
    back = whole_inverse_field(
        moving.grid, working=fixed.grid, inverse=inverse, matrix=small_affine()
    )
    points = np.random.default_rng(0).uniform(-40, 40, size=(50, 3))
    moved = pull_points(points, there)
    assert np.linalg.norm(moved - points, axis=1).mean() > 3
    np.testing.assert_allclose(pull_points(moved, back), points, atol=0.6)


def test_labels_stay_labels_under_a_field():
    _, labels = head()
    field = whole_field(labels.grid, working=labels.grid, displacement=smooth(), matrix=np.eye(4))
    warped = apply_field(labels, field, is_labels=True)
    assert set(np.unique(warped.voxels)) <= {0, 1, 2, 3, 4}
    assert np.issubdtype(warped.voxels.dtype, np.integer)


def test_files_that_are_no_field_are_refused(tmp_path):
    path = save(tmp_path / "image.nii.gz", head()[0])
    with pytest.raises(UserError, match=r"expected a displacement field \(x, y, z, 1, 3\)"):
        read_field(path)
    with pytest.raises(UserError, match="of one number a voxel, got no file"):
        read_field(tmp_path / "none.nii.gz")
    field = TransformField(displacement_mm=np.zeros((4, 5, 6, 3), np.float32), affine=np.eye(4))
    assert field.grid.shape == (4, 5, 6)
    assert (
        apply_field(
            Volume(voxels=np.ones((4, 5, 6), np.float32), affine=np.eye(4)), field
        ).voxels.min()
        == 1
    )
