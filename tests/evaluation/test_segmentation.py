"""Dice: closed forms, and folders of label maps."""

import math

import nibabel as nib
import numpy as np
import pytest

from nnunet_triad.errors import UserError
from nnunet_triad.evaluation import dice, score_folder


def box(start, stop, shape=(8, 10, 12)):
    mask = np.zeros(shape, bool)
    mask[start:stop] = True
    return mask


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [((0, 4), (0, 4), 1.0), ((0, 4), (4, 8), 0.0), ((0, 4), (2, 6), 0.5), ((0, 2), (0, 6), 0.5)],
)
def test_dice_of_boxes_is_the_closed_form(one, other, expected):
    assert dice(box(*one), box(*other)) == expected
    assert dice(box(*other), box(*one)) == expected


def test_dice_of_two_empty_masks_is_undefined():
    assert math.isnan(dice(box(0, 0), box(0, 0)))


def test_dice_of_other_shapes_is_refused():
    with pytest.raises(ValueError, match=r"expected shape \(8, 10, 12\), got \(8, 10, 11\)"):
        dice(box(0, 1, (8, 10, 11)), box(0, 1))


def write(path, array, affine=None):
    path.parent.mkdir(exist_ok=True)
    grid = np.eye(4) if affine is None else affine
    nib.save(nib.Nifti1Image(array.astype(np.uint8), grid), path)


def test_folder_is_scored_by_case_label_and_region(tmp_path):
    write(tmp_path / "truth/a.nii.gz", box(0, 4) * 1 + box(4, 8) * 2)
    write(tmp_path / "predicted/a.nii.gz", box(0, 8) * 1)
    scores = score_folder(
        tmp_path / "predicted", tmp_path / "truth", {"one": 1, "two": 2, "both": (1, 2)}
    )
    assert list(scores) == [("a", "one", 2 / 3), ("a", "two", 0.0), ("a", "both", 1.0)]


def test_prediction_without_truth_is_named(tmp_path):
    write(tmp_path / "predicted/b.nii.gz", box(0, 8) * 1)
    with pytest.raises(UserError, match="b: expected its truth at"):
        list(score_folder(tmp_path / "predicted", tmp_path / "truth", {"one": 1}))


def test_prediction_that_lies_elsewhere_is_refused(tmp_path):
    write(tmp_path / "truth/a.nii.gz", box(0, 4))
    # the same voxels, mirrored in space
    write(tmp_path / "predicted/a.nii.gz", box(0, 4), np.diag([-1.0, 1, 1, 1]))
    with pytest.raises(UserError, match="a: expected the grid of its truth, got corners"):
        list(score_folder(tmp_path / "predicted", tmp_path / "truth", {"one": 1}))


def test_empty_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="got none; predict first"):
        list(score_folder(tmp_path, tmp_path, {"one": 1}))
