"""The overlay: which case and slice it shows, and what its colours mean."""

import json

import matplotlib.image
import nibabel
import numpy as np
import pytest

from nnunet_triad.benchmark.overlay import _names, draw_segmentation

LABELS = {frozenset({1, 2}): "whole", frozenset({2}): "core"}


def save(array, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)


@pytest.fixture
def folders(tmp_path):
    label = np.zeros((12, 16, 9), np.uint8)
    label[2:8, 3:9, 2:7] = 1
    for case in ("b", "a"):
        save(
            np.random.default_rng(0).normal(size=label.shape),
            tmp_path / f"raw/imagesTr/{case}_0000.nii.gz",
        )
        save(label, tmp_path / f"pre/gt_segmentations/{case}.nii.gz")
        save(label, tmp_path / f"val/{case}.nii.gz")
    return tmp_path


def draw(folders, raw="raw"):
    raw_folder = folders / raw if raw else None
    return draw_segmentation(
        folders / "overlay.png", raw_folder, folders / "pre", folders / "val", LABELS
    )


def test_first_case_by_name_is_drawn(folders):
    assert draw(folders)
    assert json.loads((folders / "overlay.json").read_text())["case"] == "a"
    picture = matplotlib.image.imread(folders / "overlay.png")
    assert picture.shape[1] > 2 * picture.shape[0]
    assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 50


def test_slice_is_axial_however_the_file_lies(folders):
    draw(folders)
    axial = (folders / "overlay.png").read_bytes()
    for path in folders.rglob("*.nii.gz"):
        image = nibabel.load(path)
        sagittal = nibabel.orientations.axcodes2ornt("PSR")
        own = nibabel.orientations.io_orientation(image.affine)
        turned = image.as_reoriented(nibabel.orientations.ornt_transform(own, sagittal))
        nibabel.save(nibabel.Nifti1Image(np.asanyarray(turned.dataobj), turned.affine), path)
    draw(folders)
    assert (folders / "overlay.png").read_bytes() == axial


@pytest.mark.parametrize("raw", [None, "gone"])
def test_without_the_images_nothing_is_drawn(folders, raw):
    assert not draw(folders, raw=raw)
    assert not (folders / "overlay.png").exists()


def test_value_is_named_by_the_smallest_region_that_holds_it():
    assert _names(LABELS) == {1: "whole", 2: "core"}
