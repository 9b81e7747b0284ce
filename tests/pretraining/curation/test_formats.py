"""Each image format, each ending's case, units, names: read, or named; each file is counted."""

import gzip
import os

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # its customary name

from nnunet_triad.phantom.dicom import write_dicom_series
from pretraining.curation.nifti_source import find_series, is_skipped, safe_name
from pretraining.curation.source import find_all
from pretraining.curation.workers import Workers


@pytest.fixture
def expected(write_nifti, curate_tree, tmp_path):
    """What the phantom's NIfTI becomes."""
    write_nifti(tmp_path / "nifti" / "a.nii.gz")
    return curate_tree(tmp_path / "nifti", tmp_path / "nifti_store")[0].read_volume(0)


@pytest.mark.parametrize(
    "name",
    ["a.NII", "a.NII.GZ", "a.img", "a.mgz", "a.mgh", "a.mha", "a.MHA", "a.mhd", "a.nrrd", "a.nhdr"],
)
def test_image_of_each_format_becomes_the_voxels_of_its_nifti(
    brain, write_nifti, tmp_path, curate_tree, expected, name
):
    folder = tmp_path / "source"
    written = folder / name.lower()
    folder.mkdir()
    if name.lower().endswith((".mha", ".mhd", ".nrrd", ".nhdr")):
        image = sitk.ReadImage(str(write_nifti(tmp_path / "other" / "a.nii.gz")))
        sitk.WriteImage(image, str(written))
    else:
        kind = {".img": nib.Nifti1Pair, ".mgz": nib.MGHImage, ".mgh": nib.MGHImage}
        image_type = kind.get(written.suffix, nib.Nifti1Image)
        nib.save(image_type(brain.image.astype(np.int16), brain.affine), written)
    written.rename(folder / name)
    store, summary = curate_tree(folder)
    np.testing.assert_array_equal(store.read_volume(0), expected)
    assert summary.num_files == len(list(folder.iterdir()))
    assert summary.others == {}


def test_analyze_is_named_since_it_does_not_tell_left_from_right(
    brain, tmp_path, curate_tree, reasons
):
    (tmp_path / "source").mkdir()
    image = nib.AnalyzeImage(brain.image.astype(np.int16), np.diag([4.0, 5, 6, 1]))
    nib.save(image, tmp_path / "source" / "a.img")
    (found,) = reasons(curate_tree(tmp_path / "source")[0])
    assert found.startswith("Analyze 7.5, which does not tell left from right")


def test_compressed_dicom_is_read(brain, tmp_path, curate_tree, expected):
    for path in write_dicom_series(brain, tmp_path / "dicom"):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    (tmp_path / "dicom" / "b.dcm.gz").write_bytes(b"no gzip")
    store, summary = curate_tree(tmp_path / "dicom")
    np.testing.assert_array_equal(store.read_volume(0), expected)
    assert summary.num_bad_files == 1


def test_every_file_of_a_tree_is_in_one_of_the_counts(brain, write_nifti, tmp_path):
    root = tmp_path / "source"
    for name in ("a/T1.nii.gz", "a/T2.nii", "a/brain_mask.nii.gz", "derivatives/x.nii.gz"):
        write_nifti(root / name)
    nib.save(nib.Nifti1Pair(brain.image.astype(np.int16), brain.affine), root / "a" / "flair.img")
    sitk.WriteImage(sitk.Image([4, 4, 4], sitk.sitkInt16), str(root / "a" / "pd.mhd"))
    sitk.WriteImage(
        sitk.Image([4, 4, 4], sitk.sitkInt16), str(root / "a" / "Segmentation.seg.nrrd")
    )
    write_dicom_series(brain, root / "dicom")
    for name in (
        *("a/T1.json", "a/notes.txt", "a/alone.hdr", "a/no_extension", "a/Dr.Somebody-Else"),
        *("a/x.par", "a/x.rec", "a/.hidden", "dicom/empty.dcm", "dicom/letter.dcm", "b.PDF"),
    ):
        (root / name).write_text("" if "empty" in name else "text")
    (root / "a" / "nowhere.nii").symlink_to(root / "a" / "missing")
    found = find_all(root, dataset="D", workers=Workers(1))
    num_files = sum(len(names) for _, _, names in os.walk(root))
    num_counted = (
        sum(len(one.files) for one in found.series)
        + len(found.bad_files)
        + len(found.skipped)
        + sum(found.others.values())
    )
    assert num_counted == num_files
    assert found.others["hidden"] == 1 and found.others[".par"] == found.others[".rec"] == 1
    assert found.others["no ending"] == 2  # a name may end in a person's
    assert len(found.skipped) == 3 and len(found.bad_files) == 3


@pytest.mark.parametrize(
    ("parts", "others"),
    [
        (("患者一",), ("患者二",)),
        (("Иванов",), ("Петров",)),
        (("a.b",), ("a b",)),
        (("a-b",), ("a.b",)),
        (("x", "a_b", "c"), ("x", "a", "b_c")),
        (("n\u0303",), ("\u00f1",)),  # the same letter, composed and not
        (("\udce9",), ("\udcea",)),  # bytes that are no UTF-8
        (("a" * 130,), ("a" * 131,)),
    ],
)
def test_unlike_names_stay_apart(parts, others):
    first, second = safe_name(*parts), safe_name(*others)
    assert first != second
    assert safe_name(first) == first  # a safe name stays as it is
    for name in (first, second):
        assert name.isascii() and len(name) < 150 and not set(name) & set("/. ")


def test_plain_names_are_kept():
    assert safe_name("sub-01_T1w") == "sub-01_T1w"
    assert safe_name("a", "b-c") == "a_b-c"


def test_images_of_subjects_in_other_scripts_are_all_stored(
    brain, write_nifti, tmp_path, curate_tree
):
    subjects = ("患者一", "患者二", "Иванов", "Петров", "a b", "a.b")
    for number, subject in enumerate(subjects):
        image = brain.image + 9.0 * number * (brain.image > 0)
        write_nifti(tmp_path / "source" / subject / "T1.nii.gz", image=image)
    store, summary = curate_tree(tmp_path / "source")
    assert (len(store), summary.num_rejected) == (len(subjects), 0)


def test_sites_with_equal_subjects_in_bids_stay_apart(tmp_path):
    paths = [tmp_path / site / "sub-1" / "anat" / "sub-1_T1w.nii.gz" for site in ("A", "B")]
    paths.append(tmp_path / "sub-1" / "anat" / "sub-1_T1w.nii.gz")
    found = find_series(paths, root=tmp_path, dataset="D")
    subjects = [one.subject for one in found.series]
    assert subjects == ["A_sub-1", "B_sub-1", "sub-1"]


def test_image_in_microns_is_named_by_its_size_in_mm(tmp_path, curate_tree, brain):
    (tmp_path / "source").mkdir()
    image = nib.Nifti1Image(brain.image.astype(np.int16), np.diag([4000.0, 5000, 6000, 1]))
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "source" / "T1w.nii.gz")
    store, _ = curate_tree(tmp_path / "source")
    (series_id,) = store.records["series_id"]
    np.testing.assert_allclose(store.read_sidecar(series_id)["original_spacing_mm"], (4, 5, 6))


def test_image_smaller_than_a_voxel_of_the_store_is_set_aside_with_its_size(
    tmp_path, curate_tree, reasons, brain
):
    (tmp_path / "source").mkdir()
    image = nib.Nifti1Image(brain.image.astype(np.int16), np.diag([5.0, 5, 5, 1]))
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "source" / "T1w.nii.gz")
    (found,) = reasons(curate_tree(tmp_path / "source")[0])
    assert found.startswith("smaller than a voxel of the store: 0.16 mm along an axis, 0.005 x")


def test_sheared_axes_are_set_aside_and_oblique_ones_said(
    write_nifti, tmp_path, curate_tree, reasons
):
    sheared = np.diag([4.0, 5, 6, 1])
    sheared[0, 2] = 6 * np.tan(np.radians(8))  # along z, as of a tilted gantry
    write_nifti(tmp_path / "sheared" / "a.nii.gz", affine=sheared)
    (found,) = reasons(curate_tree(tmp_path / "sheared", tmp_path / "a")[0])
    assert found == "sheared axes (8.0 degrees from a right angle)"
    angle = np.radians(17)
    oblique = np.diag([4.0, 5, 6, 1])
    turn = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    oblique[:2, :2] = np.array(turn) @ oblique[:2, :2]
    write_nifti(tmp_path / "oblique" / "a.nii.gz", affine=oblique)
    store, _ = curate_tree(tmp_path / "oblique", tmp_path / "b")
    notes = store.read_sidecar(store.records["series_id"][0])["notes"]
    assert notes == ["oblique: axes up to 17 degrees from the patient's"]


def test_what_freesurfer_made_is_a_derivative_and_what_it_was_given_is_not(tmp_path):
    made = ("bert/mri/T1.mgz", "bert/mri/aseg.mgz", "bert/mri/brainmask.mgz")
    for name in made:
        assert is_skipped((tmp_path / name).relative_to(tmp_path))
    assert not is_skipped((tmp_path / "bert/mri/orig/001.mgz").relative_to(tmp_path))


def test_one_image_in_two_formats_is_found_twice_and_kept_once(
    write_nifti, tmp_path, curate_tree, reasons
):
    path = write_nifti(tmp_path / "source" / "s" / "t2w.nii.gz")
    sitk.WriteImage(sitk.ReadImage(str(path)), str(path.with_name("t2w.mha")))
    store, _ = curate_tree(tmp_path / "source")
    assert list(store.records["series_id"]) == ["DATA/s/study/t2w"]
    assert reasons(store) == ["same voxels as DATA/s/study/t2w"]
