"""Crops against the shape of a store's volumes."""

import re

import pytest

from nnunet_triad.errors import UserError
from pretraining.crop_fit import check_crop_fits, share_outside
from pretraining.settings import PretrainSettings


def settings(crop_size):
    return PretrainSettings(encoder="swin_t", crop_size=crop_size)


@pytest.mark.parametrize(
    ("shape", "crop_size"),
    [
        ((256, 256, 128), (96, 96, 96)),  # the paper's
        ((64, 80, 32), (64, 64, 32)),
        ((64, 80, 32), (64, 96, 32)),  # the stride is 32
        ((32, 40, 32), (32, 64, 32)),
        ((32, 32, 32), (64, 32, 32)),  # a crop of 32,32,32 would leave a single voxel
        ((20, 30, 25), (32, 32, 64)),
    ],
)
def test_crop_that_the_stride_makes_longer_is_taken(shape, crop_size):
    check_crop_fits(shape, settings(crop_size))


@pytest.mark.parametrize(
    ("shape", "crop_size", "most", "advice"),
    [
        ((64, 80, 32), (96, 96, 96), "64,96,32", "64,64,32"),
        ((256, 256, 60), (96, 96, 96), "256,256,64", "96,96,32"),
        ((20, 256, 256), (64, 96, 96), "32,256,256", "32,96,96"),
        ((32, 32, 32), (64, 64, 32), "32,32,32", "64,32,32"),
        ((32, 32, 32), (32, 32, 96), "32,32,32", "64,32,32"),
        ((40, 48, 36), (96, 96, 96), "64,64,64", "32,64,32"),
    ],
)
def test_crop_longer_than_the_volumes_is_refused_with_one_that_fits(shape, crop_size, most, advice):
    with pytest.raises(UserError, match=f"expected at most {most}, the volumes'.* got") as error:
        check_crop_fits(shape, settings(crop_size))

    found = re.search(r"--crop-size (\d+),(\d+),(\d+)$", str(error.value))
    assert found is not None and found[0] == f"--crop-size {advice}"
    x, y, z = map(int, found.groups())
    check_crop_fits(shape, settings((x, y, z)))


@pytest.mark.parametrize(
    ("shape", "crop_size", "expected"),
    [((64, 80, 32), (96, 96, 96), 1 - 64 * 80 * 32 / 96**3), ((64, 80, 32), (64, 64, 32), 0.0)],
)
def test_share_outside_counts_voxels(shape, crop_size, expected):
    assert share_outside(shape, crop_size) == pytest.approx(expected)
