"""Masks on the encoder's grid, beside a naive loop and nibabel."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nnunet_triad.errors import UserError
from nnunet_triad.features.regions import find_regions, read_mask, shares
from nnunet_triad.images import Nan, Volume, read_volume
from tests.features.conftest import AFFINE, SHAPE, write_image, write_mask


def test_share_of_a_feature_is_that_of_its_voxels_in_the_region():
    random = np.random.default_rng(0)
    values, inside = random.integers(0, 3, (8, 12, 4)), (7, 11, 3)
    values[7:], values[:, 11:], values[:, :, 3:] = 0, 0, 0
    strides = ((1, 1, 1), (2, 2, 1), (2, 2, 2))
    found = list(shares(values, 2, strides, start=(0, 0, 0), inside=inside))
    for share, step in zip(found, [(1, 1, 1), (2, 2, 1), (4, 4, 2)], strict=True):
        for x, y, z in np.ndindex(share.shape):
            corner = np.array([x, y, z]) * step
            own = [
                values[tuple(corner + offset)] == 2
                for offset in np.ndindex(*step)
                if all(corner + offset < inside)
            ]
            assert share[x, y, z] == pytest.approx(np.mean(own) if own else 0)


def test_share_in_a_window_is_that_in_the_image():
    values = np.random.default_rng(1).integers(0, 3, (8, 12, 4))
    strides = ((1, 1, 1), (2, 2, 2))
    whole = list(shares(values, 1, strides, start=(0, 0, 0), inside=(8, 9, 4)))
    part = list(shares(values[4:, 4:], 1, strides, start=(4, 4, 0), inside=(8, 9, 4)))
    np.testing.assert_array_equal(part[0], whole[0][4:, 4:])
    np.testing.assert_array_equal(part[1], whole[1][2:, 2:])


def test_label_of_a_voxel_is_that_of_the_nearest_one_of_the_file(tmp_path: Path):
    write_image(tmp_path / "a.nii.gz", 0)
    labels = write_mask(tmp_path / "m.nii.gz")
    image = read_volume(tmp_path / "a.nii.gz", nan=Nan.REFUSE)
    mask = read_mask(tmp_path / "m.nii.gz", image)
    affine = image.to_ras().affine @ np.diag([0.5, 1.25, 0.7, 1])
    shape = (18, 15, 20)
    regions = find_regions(image, mask, affine, shape=shape, padded=(20, 16, 20))
    assert regions.names == {1: "1", 3: "3"}
    for place in np.random.default_rng(0).integers(0, shape, (300, 3)):
        world = affine @ [*place, 1]
        voxel = (np.linalg.inv(AFFINE) @ world)[:3]
        if np.abs(voxel % 1 - 0.5).min() > 1e-6:  # no tie
            expected = labels[tuple(np.clip(np.rint(voxel).astype(int), 0, np.array(SHAPE) - 1))]
            assert regions.seen[tuple(place)] == expected
    assert not regions.seen[18:].any()
    assert not regions.seen[:, 15:].any()


@pytest.mark.parametrize("gap", [0.0, 0.005, 0.02])
def test_mask_may_be_a_hundredth_of_a_voxel_off(tmp_path: Path, gap: float):
    write_image(tmp_path / "a.nii.gz", 0)
    moved = AFFINE.copy()
    moved[0, 3] += gap * 1.2  # the shortest edge
    write_mask(tmp_path / "m.nii.gz", affine=moved)
    image = read_volume(tmp_path / "a.nii.gz", nan=Nan.REFUSE)
    if gap < 0.01:
        assert read_mask(tmp_path / "m.nii.gz", image).voxels.any()
    else:
        with pytest.raises(UserError, match=r"m.nii.gz: expected the grid of .*a.nii.gz, got corn"):
            read_mask(tmp_path / "m.nii.gz", image)


def test_mask_without_labels_or_of_too_many_is_refused(tmp_path: Path):
    write_image(tmp_path / "a.nii.gz", 0)
    image = read_volume(tmp_path / "a.nii.gz", nan=Nan.REFUSE)
    for name, voxels in {
        "0": np.zeros(SHAPE),
        "4488": np.arange(np.prod(SHAPE)).reshape(SHAPE),
    }.items():
        nib.save(nib.Nifti1Image(voxels.astype(np.int32), AFFINE), tmp_path / f"{name}.nii")
    with pytest.raises(UserError, match="expected 1 to 1000 labels besides 0, got 0"):
        read_mask(tmp_path / "0.nii", image)
    with pytest.raises(UserError, match="expected 1 to 1000 labels besides 0, got 4487"):
        read_mask(tmp_path / "4488.nii", image)


def test_label_that_the_coarse_grid_misses_is_told():
    voxels = np.zeros((9, 8, 8), np.int32)
    voxels[1, 1, 1], voxels[4:] = 7, 2
    image = Volume(voxels=voxels.astype(np.float32), affine=np.eye(4))
    mask = Volume(voxels=voxels, affine=np.eye(4))
    affine = np.diag([4.0, 4, 4, 1])
    regions = find_regions(image, mask, affine, shape=(3, 2, 2), padded=(4, 2, 2))
    assert regions.missing() == ["7"]
