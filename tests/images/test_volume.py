import numpy as np
import pytest

from nnunet_triad.errors import UserError
from nnunet_triad.images import Grid, Volume
from nnunet_triad.images.orientation import is_singular
from tests.registration.heads import head, turned


def grid(shape=(4, 5, 6), spacing=(1.0, 2.0, 3.0), shift_mm=0.0):
    affine = np.diag([*spacing, 1.0])
    affine[0, 3] = shift_mm
    return Grid(shape=shape, affine=affine)


def test_grids_are_the_same_up_to_a_tolerance_at_their_corners():
    assert grid().is_same(grid(shift_mm=9e-4))
    assert not grid().is_same(grid(shift_mm=1.1e-3))
    assert grid().is_same(grid(shift_mm=0.2), tolerance_mm=0.25)
    # 3 voxels of 1 mm from the first corner to the last: 1e-3 more each is 3e-3 mm there
    assert not grid().is_same(grid(spacing=(1.001, 2.0, 3.0)), tolerance_mm=2.9e-3)
    assert grid().is_same(grid(spacing=(1.001, 2.0, 3.0)), tolerance_mm=3.1e-3)


def test_difference_of_grids_is_said():
    assert grid().difference(grid()) == ""
    assert grid().difference(grid(shape=(4, 5, 7))) == "size 4x5x7 instead of 4x5x6"
    assert grid().difference(grid(shift_mm=3.0)) == (
        "corners up to 3 mm apart (origin (3, 0, 0) instead of (0, 0, 0))"
    )
    assert str(grid()) == "4 x 5 x 6 voxels of (1, 2, 3) mm"


def test_labels_may_be_off_by_the_rounding_of_headers():
    """A hundredth of the smallest voxel, 1 mm here."""
    words = {"name": "labels.nii", "of": "image.nii", "advice": "resample"}
    grid().check_covers(grid(shift_mm=9e-3), **words)
    text = r"labels.nii: expected the grid of image.nii, got .* \(origin \(0.011, 0, 0\) instead"
    with pytest.raises(UserError, match=text):
        grid().check_covers(grid(shift_mm=1.1e-2), **words)


def test_turned_image_is_the_same_in_ras():
    image, _ = head()
    for order, flips in (((2, 0, 1), (1, 2)), ((1, 0, 2), ()), ((0, 1, 2), (0,))):
        again = turned(image, order=order, flips=flips).to_ras()
        assert again.grid.is_same(image.grid)
        assert again.grid.orientation == "RAS"
        np.testing.assert_array_equal(again.voxels, image.voxels)


def test_volume_keeps_what_it_is_called_when_it_is_turned():
    volume = Volume(voxels=np.zeros((2, 3, 4)), affine=np.diag([-1.0, 1, 1, 1]), name="a.nii")
    assert (volume.grid.orientation, volume.to_ras().grid.orientation) == ("LAS", "RAS")
    assert volume.to_ras().name == "a.nii"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, False),
        ({(0, 0): 1e-5, (1, 1): 1e-5, (2, 2): 1e-5}, False),  # small voxels
        ({(0, 0): 0.0}, True),
        ({(0, 0): 0.0, (1, 0): 2.0}, True),  # two axes along y
        ({(2, 3): np.nan}, True),
    ],
)
def test_affine_without_three_directions_is_singular(change, expected):
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    for place, value in change.items():
        affine[place] = value
    assert is_singular(affine) is expected
