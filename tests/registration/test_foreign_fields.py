"""Fields as other programs write them are applied as those programs apply them, or refused."""

import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # its customary name

from nnunet_triad.errors import UserError
from nnunet_triad.images import Nan, read_volume
from registration.apply_command import warp_file
from registration.transform_file import read_field

SHAPE = (12, 10, 8)
# axes left, posterior, superior; 2 mm; away from the origin
AFFINE = np.array([[-2.0, 0, 0, 11], [0, -2, 0, 9], [0, 0, 2, -5], [0, 0, 0, 1]])


def save_field(path, vectors, *, intent=1007, name="", p1=0.0, affine=AFFINE, units="mm"):
    image = nib.Nifti1Image(np.asarray(vectors, np.float32), AFFINE)
    image.set_sform(affine, code=1)
    image.header["intent_code"], image.header["intent_name"] = intent, name
    image.header["intent_p1"] = p1
    image.header.set_xyzt_units(units)
    nib.save(image, path)
    return path


def smooth(amplitude=3.0):
    """(x, y, z, 1, 3), mm."""
    index = np.indices(SHAPE) / np.reshape(SHAPE, (3, 1, 1, 1))
    waves = [amplitude * np.sin(4 * index[axis] + axis) for axis in range(3)]
    return np.stack(waves, axis=-1)[:, :, :, None]


def positions():
    index = np.moveaxis(np.indices(SHAPE), 0, -1)
    return (index @ AFFINE[:3, :3].T + AFFINE[:3, 3])[:, :, :, None]


def moving_image(folder):
    voxels = np.random.default_rng(0).uniform(100, 200, SHAPE).astype(np.float32)
    nib.save(nib.Nifti1Image(voxels, AFFINE), folder / "moving.nii.gz")
    return folder / "moving.nii.gz"


def warped_by_simpleitk(moving, field):
    vectors = sitk.ReadImage(str(field), sitk.sitkVectorFloat64)
    image = sitk.ReadImage(str(moving), sitk.sitkFloat32)
    transform = sitk.DisplacementFieldTransform(vectors)
    return sitk.GetArrayFromImage(sitk.Resample(image, image, transform, sitk.sitkLinear)).T


def warped(folder, field):
    moving = folder / "moving.nii.gz"
    warp_file(moving, field, folder / "out.nii.gz", reference=None, is_labels=False)
    return read_volume(folder / "out.nii.gz", nan=Nan.REFUSE).voxels


@pytest.mark.parametrize("intent", [1006, 1007])
def test_warping_by_either_intent_is_that_of_simpleitk(tmp_path, intent):
    moving = moving_image(tmp_path)
    field = save_field(tmp_path / "field.nii.gz", smooth(), intent=intent)
    theirs = warped_by_simpleitk(moving, field)
    ours = warped(tmp_path, field)
    assert np.abs(ours - read_volume(moving, nan=Nan.REFUSE).voxels).mean() > 10
    np.testing.assert_allclose(ours, theirs, atol=0.01)


def test_the_two_intents_of_one_vector_move_to_opposite_sides(tmp_path):
    vectors = np.broadcast_to(np.float32([6, 4, -2]), (*SHAPE, 1, 3))
    ras = read_field(save_field(tmp_path / "a.nii.gz", vectors, intent=1006))
    lps = read_field(save_field(tmp_path / "b.nii.gz", vectors, intent=1007))
    np.testing.assert_array_equal(ras.displacement_mm[0, 0, 0], (6, 4, -2))
    np.testing.assert_array_equal(lps.displacement_mm[0, 0, 0], (-6, -4, -2))


def test_fields_of_niftyreg_are_ras_positions_or_displacements(tmp_path):
    """NiftyReg's `NREG_TRANS`: p1 = 0 a deformation field (positions), 1 a displacement field."""
    shifts = {"deformation": positions() + smooth(), "displacement": smooth()}
    for p1, (kind, vectors) in enumerate(shifts.items()):
        path = save_field(tmp_path / f"{kind}.nii.gz", vectors, name="NREG_TRANS", p1=p1)
        found = read_field(path).displacement_mm
        np.testing.assert_allclose(found, smooth()[:, :, :, 0], atol=1e-4)


@pytest.mark.parametrize(
    ("about", "got"),
    [
        ({"intent": 2006}, "one of FSL with intent code 2006"),
        ({"intent": 2007}, "one of FSL with intent code 2007"),
        ({"intent": 0}, "one with intent code 0"),
        ({"name": "Mapping"}, "one with intent code 1007 'Mapping'"),  # SPM's positions
        ({"name": "NREG_TRANS", "p1": 2}, "a spline or velocity of NiftyReg"),
        ({"units": "micron"}, "one in units of micron"),
        ({"affine": np.diag([2.0, 2, 0, 1])}, "an affine without three directions"),
    ],
)
def test_other_conventions_are_refused(tmp_path, about, got):
    path = save_field(tmp_path / "field.nii.gz", smooth(), **about)
    with pytest.raises(UserError, match=f"intent code 1007 .*, got {got}"):
        read_field(path)


@pytest.mark.parametrize("intent", [0, 1006, 1007, 2006])
def test_four_dimensions_are_refused(tmp_path, intent):
    """VoxelMorph's are voxels, MRtrix' positions, FSL's count from a corner: none is ITK's."""
    path = save_field(tmp_path / "field.nii.gz", smooth()[:, :, :, 0], intent=intent)
    with pytest.raises(UserError, match="got 12 x 10 x 8 x 3;"):
        read_field(path)


def test_vectors_that_are_no_numbers_are_refused(tmp_path):
    vectors = smooth()
    vectors[3, 4, 5] = np.nan
    moving_image(tmp_path)
    field = save_field(tmp_path / "field.nii.gz", vectors)
    with pytest.raises(UserError, match="expected finite vectors, got NaN or infinity in 1 of 960"):
        warped(tmp_path, field)


def test_json_beside_a_field_says_what_it_holds(tmp_path):
    from nnunet_triad.images.displacement import describe_displacement

    describe_displacement(tmp_path / "a.json", grid_of="fixed", points_into="moving")
    said = json.loads((tmp_path / "a.json").read_text())
    assert said["intent_code"] == 1007
    assert said["vectors"].startswith("LPS") and said["units"] == "mm"
    assert said["meaning"] == "point of fixed + vector = point of moving"
