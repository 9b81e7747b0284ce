"""NIfTI and BIDS trees: what is read, what is skipped, and what is set aside."""

import json

import nibabel as nib
import numpy as np
import pytest

from benchmarks.volumes import resample_and_resize
from nnunet_triad.images import to_ras

from .conftest import SHAPE, SPACING_MM


def singular_affine():
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 1] = affine[:3, 0]
    return affine


BAD_IMAGES = {
    "2D": ({"image": np.arange(900.0).reshape(30, 30)}, "not 3D (shape 30x30)"),
    "flat": ({"image": np.arange(900.0).reshape(30, 30, 1)}, "not 3D (shape 30x30x1)"),
    "5D": ({"image": np.ones((9, 9, 9, 2, 3))}, "more than four dimensions (shape 9x9x9x2x3)"),
    "no voxels": ({"image": np.ones((9, 9, 0))}, "not 3D (shape 9x9x0)"),
    "constant": ({"image": np.full((20, 20, 20), 7)}, "constant: every voxel has the same value"),
    "singular affine": ({"affine": singular_affine()}, "affine is singular"),
    "micrometres": ({"affine": np.diag([1e-4, 1e-4, 1e-4, 1.0])}, "implausible spacing"),
    "kilometres": ({"affine": np.diag([5e3, 5e3, 5e3, 1.0])}, "implausible spacing"),
}


@pytest.mark.parametrize(("changes", "reason"), list(BAD_IMAGES.values()), ids=list(BAD_IMAGES))
def test_bad_image_is_set_aside_with_the_reason(
    write_nifti, tmp_path, curate_tree, reasons, changes, reason
):
    write_nifti(tmp_path / "source" / "good" / "a_T1w.nii.gz")
    write_nifti(tmp_path / "source" / "bad" / "b_T1w.nii.gz", **changes)
    store, summary = curate_tree(tmp_path / "source")
    assert list(store.records["subject"]) == ["good"]
    assert summary.num_rejected == 1
    (found,) = reasons(store)
    assert found.startswith(reason)


def test_image_with_nan_is_set_aside_or_zeroed(brain, write_nifti, tmp_path, curate_tree, reasons):
    image = brain.image.copy()
    image[3:5, 3:5, 3:5] = np.nan
    image[6, 6, 6] = np.inf
    write_nifti(tmp_path / "source" / "a.nii.gz", image=image, dtype=np.float32)
    strict, _ = curate_tree(tmp_path / "source", tmp_path / "strict")
    assert reasons(strict) == ["contains NaN or infinite values"]
    lenient, _ = curate_tree(tmp_path / "source", tmp_path / "lenient", reject_nan=False)
    assert np.isfinite(lenient.read_volume(0)).all()


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("kept", [0, 100, -2000])
def test_truncated_file_is_set_aside(write_nifti, tmp_path, curate_tree, reasons, name, kept):
    path = write_nifti(tmp_path / "source" / name)
    path.write_bytes(path.read_bytes()[:kept])
    store, _ = curate_tree(tmp_path / "source")
    assert len(store) == 0
    (found,) = reasons(store)
    assert found.startswith(("empty file", "not a readable NIfTI", "truncated or damaged"))


def test_text_that_calls_itself_nifti_is_set_aside(tmp_path, curate_tree, reasons):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.nii.gz").write_text("a letter")
    store, _ = curate_tree(tmp_path / "source")
    assert reasons(store)[0].startswith("not a readable NIfTI file")


def test_two_images_of_one_name_are_both_set_aside(write_nifti, tmp_path, curate_tree, reasons):
    for name in ("brain.nii", "brain.nii.gz"):
        write_nifti(tmp_path / "source" / "a" / name)
    store, _ = curate_tree(tmp_path / "source")
    assert len(store) == 0
    assert sorted(reasons(store)) == ["same name as a/brain.nii", "same name as a/brain.nii.gz"]


def test_image_of_another_size_under_a_finished_name_is_set_aside(
    brain, write_nifti, tmp_path, curate_tree, reasons
):
    path = write_nifti(tmp_path / "source" / "a.nii.gz")
    store, _ = curate_tree(tmp_path / "source")
    before = store.read_volume(0)
    write_nifti(path, image=brain.image[::2])
    store, _ = curate_tree(tmp_path / "source")
    assert reasons(store)[0].startswith("not the file that is in the store")
    np.testing.assert_array_equal(store.read_volume(0), before)


def test_stored_volume_is_ras_resampled_and_rounded(brain, write_nifti, tmp_path, curate_tree):
    flipped = brain.affine @ np.diag([-1.0, 1.0, 1.0, 1.0])
    flipped[:3, 3] = (brain.affine @ [brain.image.shape[0] - 1, 0, 0, 1])[:3]
    write_nifti(tmp_path / "source" / "a.nii.gz", image=brain.image[::-1], affine=flipped)
    store, _ = curate_tree(tmp_path / "source")
    expected, affine = resample_and_resize(
        *to_ras(brain.image, brain.affine),
        target_spacing_mm=(SPACING_MM,) * 3,
        target_shape=SHAPE,
    )
    np.testing.assert_array_equal(store.read_volume(0), np.rint(expected))
    sidecar = store.read_sidecar("DATA/a/study/a")
    np.testing.assert_allclose(sidecar["affine"], affine)
    assert nib.aff2axcodes(np.array(sidecar["affine"])) == ("R", "A", "S")
    assert sidecar["mean"] == pytest.approx(store.read_volume(0).mean(dtype=float))
    assert sidecar["std"] == pytest.approx(store.read_volume(0).std(dtype=float))


def test_values_that_uint16_cannot_hold_are_float32_with_the_reason(
    brain, write_nifti, tmp_path, curate_tree
):
    write_nifti(tmp_path / "source" / "a.nii.gz", image=brain.image - 100)
    write_nifti(tmp_path / "source" / "b.nii.gz", image=brain.image / 7, dtype=np.float32)
    write_nifti(tmp_path / "source" / "c.nii.gz", image=brain.image)
    records = curate_tree(tmp_path / "source")[0].records
    assert list(records["dtype"]) == ["float32", "float32", "uint16"]
    assert list(records["dtype_reason"]) == [
        "negative values",
        "values that are not whole numbers",
        "whole numbers in 0..65535",
    ]


@pytest.mark.parametrize(("num_points", "middle"), [(2, 0), (5, 2), (6, 2)])
def test_4d_becomes_its_middle_time_point(
    brain, write_nifti, tmp_path, curate_tree, num_points, middle
):
    points = np.stack([brain.image + 10.0 * k for k in range(num_points)], axis=-1)
    write_nifti(tmp_path / "source" / "a" / "x_bold.nii.gz", image=points)
    write_nifti(tmp_path / "source" / "b" / "x_bold.nii", image=points[..., middle])
    write_nifti(tmp_path / "source" / "c" / "x_bold.nii", image=points[..., 1 - middle])
    store, _ = curate_tree(tmp_path / "source", reject_duplicates=False)
    np.testing.assert_array_equal(store.read_volume(0), store.read_volume(1))
    assert (store.read_volume(0) != store.read_volume(2)).any()
    assert store.read_sidecar("DATA/a/study/x_bold")["time_point"] == middle


def test_bids_names_and_sidecars_of_all_levels_are_used(write_nifti, tmp_path, curate_tree):
    root = tmp_path / "bids"
    write_nifti(root / "sub-01" / "ses-a" / "anat" / "sub-01_ses-a_run-1_FLAIR.nii.gz")
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    (root / "FLAIR.json").write_text(json.dumps({"MagneticFieldStrength": 3, "EchoTime": 0.1}))
    nearest = root / "sub-01" / "ses-a" / "anat" / "sub-01_ses-a_run-1_FLAIR.json"
    nearest.write_text(json.dumps({"EchoTime": 0.12, "PatientName": "Somebody"}))
    store, _ = curate_tree(root)
    assert list(store.records["series_id"]) == ["DATA/sub-01/ses-a/sub-01_ses-a_run-1_FLAIR"]
    (description,) = store.records["description"]
    assert "(FLAIR)" in description and "3 T" in description and "Echo time: 120 ms" in description
    assert "Somebody" not in (store.path / "index.csv").read_text()


def test_labels_derivatives_and_maps_do_not_become_volumes(
    write_nifti, tmp_path, curate_tree, reasons
):
    root = tmp_path / "source"
    for name in ("a/brain_T1w", "a/brain_seg", "labels/x", "derivatives/y", "a/brain_T1map"):
        write_nifti(root / f"{name}.nii.gz")
    write_nifti(root / "sub-1" / "sub-1_part-phase_bold.nii.gz")
    store, summary = curate_tree(root)
    assert list(store.records["series"]) == ["brain_T1w"]
    assert summary.num_skipped == 3
    assert sorted(reasons(store)) == ["derived: T1 map", "derived: phase image"]


def test_sidecar_that_is_no_json_sets_its_image_aside(write_nifti, tmp_path, curate_tree, reasons):
    write_nifti(tmp_path / "source" / "sub-1_T1w.nii.gz")
    (tmp_path / "source" / "sub-1_T1w.json").write_text("{")
    store, _ = curate_tree(tmp_path / "source")
    assert reasons(store) == ["its sidecar is not JSON, or too large"]
