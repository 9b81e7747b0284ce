"""Any orientation, spacing and size to the cube, and back; refusals of what is no volume."""

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import Resize

from classification.preprocess import preprocess, read_image, to_image_space
from classification.settings import PreprocessSettings
from nnunet_triad.errors import UserError
from nnunet_triad.images import Volume
from tests.classification.volumes import draw_volume, write_nifti

AFFINE = np.diag([2.0, 1.5, 3.0, 1.0])
STRETCH, PAD = PreprocessSettings(size=32), PreprocessSettings(size=32, fit="pad")


def image_of(values, affine=AFFINE):
    return Volume(voxels=values, affine=affine)


def test_stretched_cube_is_monais_resize():
    volume = draw_volume(1, 0, (20, 26, 17))  # no axis gets coarser, so nothing is filtered
    cube, _ = preprocess(image_of(volume), STRETCH)
    z = (volume - volume.mean()) / volume.std()
    expected = Resize((32, 32, 32), mode="trilinear", align_corners=False)(z[None])[0]
    np.testing.assert_allclose(cube, np.asarray(expected), atol=2e-5)


@pytest.mark.parametrize("settings", [STRETCH, PAD], ids=["stretch", "pad"])
def test_cube_does_not_depend_on_the_files_orientation(settings):
    volume = draw_volume(2, 1)
    straight, affine = preprocess(image_of(volume), settings)
    turned = nib.Nifti1Image(volume, AFFINE).as_reoriented([[1, -1], [2, 1], [0, -1]])
    other, other_affine = preprocess(image_of(np.asarray(turned.dataobj), turned.affine), settings)
    np.testing.assert_allclose(other, straight, atol=1e-5)
    np.testing.assert_allclose(other_affine, affine, atol=1e-9)


def test_cubes_affine_keeps_world_positions():
    x, _, z = np.meshgrid(*(np.arange(n) for n in (20, 26, 17)), indexing="ij")
    ramp = (2.0 * x + 10 * z).astype(np.float32)  # world x, and 10/3 of world z
    cube, affine = preprocess(image_of(ramp), PAD)
    voxel = np.array([16, 15, 14])
    world = (affine @ [*voxel, 1])[:3]
    expected = (world[0] + 10 / 3 * world[2] - ramp.mean()) / ramp.std()
    assert cube[tuple(voxel)] == pytest.approx(expected, abs=1e-4)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    np.testing.assert_allclose(spacing, max(20 * 2, 26 * 1.5, 17 * 3) / 32)


def test_padding_takes_the_smallest_value():
    volume = draw_volume(1, 0)
    cube, _ = preprocess(image_of(volume), PAD)
    corner = cube[0, 0, :]  # 40 x 39 x 51 mm in 51 mm: outside on x and y
    np.testing.assert_allclose(corner, corner[0])
    assert corner[0] <= cube[16, 16, 16]


def test_coarser_cubes_are_filtered_first():
    checkers = np.indices((64, 64, 64)).sum(axis=0) % 2 * 1.0
    cube, _ = preprocess(image_of(checkers), STRETCH)
    assert cube.std() < 0.2  # 1 before


def test_window_clips_and_scales_to_plus_minus_one():
    volume = np.linspace(-2000, 1000, 32**3).reshape(32, 32, 32)
    settings = PreprocessSettings(size=32, intensity="window", window=(-1000.0, 400.0))
    cube, _ = preprocess(image_of(volume), settings)
    np.testing.assert_allclose(cube, np.clip((volume + 300) / 700, -1, 1), atol=1e-5)


@pytest.mark.parametrize("settings", [STRETCH, PAD], ids=["stretch", "pad"])
def test_map_returns_to_the_images_own_voxels(settings):
    """A linear map over the cube stays the same function of the world on the image's grid."""
    affine = np.diag([-2.0, -1.5, 3.0, 1.0])
    image = image_of(draw_volume(1, 0), affine)
    _, cube_affine = preprocess(image, settings)
    voxels = np.stack([*np.indices((32, 32, 32)), np.ones((32, 32, 32))])
    world = np.tensordot(cube_affine, voxels, 1)
    values = to_image_space((world[0] + 2 * world[1]).astype(np.float32), image, settings)
    assert values.shape == image.voxels.shape
    inside = (10, 13, 8)
    expected = affine @ [*inside, 1]
    assert values[inside] == pytest.approx(expected[0] + 2 * expected[1], abs=1e-3)


def test_nan_is_filled_and_counted(tmp_path):
    volume = draw_volume(1, 0)
    lowest = volume.min()
    volume[:3] = np.nan
    image = read_image(write_nifti(tmp_path / "a.nii.gz", volume))
    assert image.num_filled == 3 * 26 * 17
    assert image.voxels[0, 0, 0] == pytest.approx(lowest, rel=0.2)


REFUSED = {
    "constant": (np.full((4, 5, 6), 7, np.float32), "with contrast, got 7 everywhere"),
    "all nan": (np.full((4, 5, 6), np.nan, np.float32), "got NaN or infinity in 120 of 120 voxels"),
    "4d": (np.ones((4, 5, 6, 3), np.float32), "3D volume, got 4D of"),
    "slice": (np.ones((4, 5, 1), np.float32), "at least 2 voxels along each axis"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_volume_is_refused(tmp_path, kind):
    values, message = REFUSED[kind]
    with pytest.raises(UserError, match=message):
        read_image(write_nifti(tmp_path / "a.nii.gz", values, AFFINE))
