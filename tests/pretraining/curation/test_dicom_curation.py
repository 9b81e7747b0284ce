"""DICOM in every form ends as the same voxels as the phantom's own; what is wrong is named."""

import locale
import re
import shutil
from dataclasses import replace

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813 (its own documentation's name)
from pydicom.fileset import FileSet
from pydicom.uid import JPEGBaseline8Bit

from nnunet_triad.phantom import SCANNERS
from nnunet_triad.phantom.dicom import DicomOptions, write_dicom_series
from pretraining.curation.dicom_scan import Unusable, scan_file


@pytest.fixture
def expected(brain, write_nifti, curate_tree, tmp_path):
    """What the phantom's NIfTI becomes."""
    write_nifti(tmp_path / "nifti" / "sub-007" / "brain_T1w.nii.gz")
    store, _ = curate_tree(tmp_path / "nifti", tmp_path / "nifti_store")
    return store.read_volume(0), store.read_sidecar(store.records["series_id"][0])


def only_volume(store):
    assert len(store) == 1
    return store.read_volume(0), store.read_sidecar(store.records["series_id"][0])


@pytest.mark.parametrize(
    ("kind", "scanner"),
    [
        *(("classic", scanner) for scanner in SCANNERS[:3]),
        *(("enhanced", scanner) for scanner in SCANNERS[:3]),
        ("mosaic", SCANNERS[0]),
    ],
    ids=lambda value: getattr(value, "manufacturer", value),
)
def test_dicom_of_each_kind_and_vendor_curates_to_the_voxels_of_its_nifti(
    brain, tmp_path, curate_tree, expected, kind, scanner
):
    volume = replace(brain, scanner=scanner)
    write_dicom_series(volume, tmp_path / "dicom", options=DicomOptions(kind=kind))
    store, _ = curate_tree(tmp_path / "dicom")
    voxels, sidecar = only_volume(store)
    np.testing.assert_array_equal(voxels, expected[0])
    np.testing.assert_allclose(sidecar["affine"], expected[1]["affine"], atol=1e-4)
    assert f"{scanner.field_strength_t:g} T" in sidecar["description"]
    assert sidecar["original_shape"] == list(brain.image.shape)


@pytest.fixture
def _same_locale():
    """GDCM's writer sets the process's locale to C, in which later tests could not read UTF-8."""
    before = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, before)


@pytest.mark.usefixtures("_same_locale")
def test_dicom_of_another_writer_curates_to_the_voxels_of_its_nifti(
    brain, tmp_path, curate_tree, expected
):
    """GDCM, through SimpleITK, writes what the NIfTI holds."""
    image = sitk.ReadImage(str(tmp_path / "nifti" / "sub-007" / "brain_T1w.nii.gz"))
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    direction = image.GetDirection()
    orientation = [direction[index] for index in (0, 3, 6, 1, 4, 7)]
    (tmp_path / "gdcm").mkdir()
    for k in range(image.GetDepth()):
        frame = image[:, :, k]
        position = image.TransformIndexToPhysicalPoint((0, 0, k))
        tags = {
            "0008|0060": "MR",
            "0020|000e": "1.2.826.0.1.3680043.2.1125.1",
            "0020|000d": "1.2.826.0.1.3680043.2.1125.2",
            "0020|0013": str(k + 1),
            "0020|0032": "\\".join(f"{value:.6f}" for value in position),
            "0020|0037": "\\".join(f"{value:.6f}" for value in orientation),
            "0018|0050": str(image.GetSpacing()[2]),
        }
        for tag, value in tags.items():
            frame.SetMetaData(tag, value)
        writer.SetFileName(str(tmp_path / "gdcm" / f"{k}.dcm"))
        writer.Execute(frame)
    store, _ = curate_tree(tmp_path / "gdcm")
    np.testing.assert_array_equal(only_volume(store)[0], expected[0])


@pytest.mark.parametrize("kind", ["classic", "enhanced", "mosaic"])
def test_dynamic_series_becomes_its_middle_time_point(
    time_points, tmp_path, curate_tree, write_nifti, kind
):
    write_dicom_series(time_points, tmp_path / "dicom", options=DicomOptions(kind=kind))
    store, _ = curate_tree(tmp_path / "dicom")
    write_nifti(tmp_path / "middle" / "a.nii.gz", image=time_points[2].image)
    middle, _ = curate_tree(tmp_path / "middle", tmp_path / "middle_store")
    voxels, sidecar = only_volume(store)
    np.testing.assert_array_equal(voxels, middle.read_volume(0))
    assert sidecar["time_point"] == 2
    assert sidecar["original_shape"] == [*time_points[0].image.shape, 6]


def test_mixed_series_in_one_folder_with_and_without_dicomdir_are_told_apart(
    brain, tmp_path, curate_tree
):
    darker = replace(brain, image=np.rint(brain.image / 2))
    for number, volume in ((1, brain), (2, darker)):
        options = DicomOptions(series_number=number)
        write_dicom_series(volume, tmp_path / "mixed", options=options)
    # The same once more, nested, under names without an extension, and with a DICOMDIR.
    files = FileSet()
    for path in (tmp_path / "mixed").iterdir():
        files.add(path)
    files.write(tmp_path / "fileset")
    assert (tmp_path / "fileset" / "DICOMDIR").exists()
    mixed, _ = curate_tree(tmp_path / "mixed", tmp_path / "a")
    nested, summary = curate_tree(tmp_path / "fileset", tmp_path / "b")
    assert len(mixed) == len(nested) == 2
    assert summary.num_bad_files == 0
    for index in range(2):
        np.testing.assert_array_equal(mixed.read_volume(index), nested.read_volume(index))
    assert list(mixed.records["series_id"]) == list(nested.records["series_id"])


def test_copies_of_files_and_slices_are_dropped_and_noted(brain, tmp_path, curate_tree, expected):
    paths = write_dicom_series(
        brain, tmp_path / "dicom", options=DicomOptions(duplicated_slices=(3, 4))
    )
    (tmp_path / "dicom" / "copy").mkdir()
    shutil.copy(paths[0], tmp_path / "dicom" / "copy" / "again.dcm")
    store, _ = curate_tree(tmp_path / "dicom")
    voxels, sidecar = only_volume(store)
    np.testing.assert_array_equal(voxels, expected[0])
    assert sidecar["notes"] == ["1 duplicate files dropped", "2 duplicate slices dropped"]


def test_phase_images_beside_magnitude_are_dropped_and_noted(
    brain, tmp_path, curate_tree, expected
):
    write_dicom_series(brain, tmp_path / "dicom" / "m")
    phase = DicomOptions(
        image_type=("ORIGINAL", "PRIMARY", "P", "ND"), extra={"AcquisitionNumber": 2}
    )
    write_dicom_series(brain, tmp_path / "dicom" / "p", options=phase)
    for path in (tmp_path / "dicom" / "p").iterdir():  # as a scanner does: an instance each
        dataset = pydicom.dcmread(path)
        dataset.SOPInstanceUID = f"{dataset.SOPInstanceUID[:50]}.9"
        dataset.save_as(path)
    store, _ = curate_tree(tmp_path / "dicom")
    voxels, sidecar = only_volume(store)
    np.testing.assert_array_equal(voxels, expected[0])
    assert sidecar["notes"] == [f"{brain.image.shape[2]} derived images dropped"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (DicomOptions(kind="localizer"), "slices in 3 orientations"),
        (
            DicomOptions(image_type=("ORIGINAL", "PRIMARY", "LOCALIZER")),
            "a localizer",
        ),
        (DicomOptions(missing_slices=(7, 8, 20)), "missing slices: 3 of 32, the first after slice"),
        (DicomOptions(tilt_deg=14.0), r"gantry tilt or sheared stack \(14.0 degrees\)"),
        (DicomOptions(modality="CT"), "not MR but modality CT"),
        (
            DicomOptions(image_type=("DERIVED", "SECONDARY", "MIP")),
            "derived: maximum intensity projection",
        ),
        (
            DicomOptions(missing_slices=tuple(range(2, 32))),
            r"too few slices \(2\): a localizer or no volume",
        ),
        (DicomOptions(missing_slices=tuple(range(6, 32))), r"too few slices \(6, wanted 8\)"),
        (DicomOptions(extra={"ImageOrientationPatient": None}), "slices without position"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_volume_is_set_aside_with_the_reason(
    brain, tmp_path, curate_tree, reasons, options, reason
):
    write_dicom_series(brain, tmp_path / "dicom", options=options)
    if options.extra:  # the writer sets orientations itself
        for path in (tmp_path / "dicom").iterdir():
            dataset = pydicom.dcmread(path)
            del dataset.ImageOrientationPatient
            dataset.save_as(path)
    store, summary = curate_tree(tmp_path / "dicom")
    assert summary.num_rejected == 1 and len(store) == 0
    (found,) = reasons(store)
    assert re.match(reason, found), found


def test_missing_slice_of_one_time_point_is_set_aside(time_points, tmp_path, curate_tree, reasons):
    paths = write_dicom_series(time_points, tmp_path / "dicom")
    paths[40].unlink()
    store, _ = curate_tree(tmp_path / "dicom")
    assert reasons(store) == ["missing or duplicate slices: 5 to 6 at one place"]


def test_damaged_files_are_set_aside_and_others_go_on(brain, tmp_path, curate_tree, reasons):
    write_dicom_series(brain, tmp_path / "dicom" / "good")
    other = DicomOptions(series_number=2)
    truncated = write_dicom_series(brain, tmp_path / "dicom" / "truncated", options=other)[4]
    truncated.write_bytes(truncated.read_bytes()[:-500])
    wrong = write_dicom_series(
        brain, tmp_path / "dicom" / "syntax", options=DicomOptions(series_number=3)
    )
    for path in wrong:  # raw pixels that call themselves JPEG
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        dataset["PixelData"].is_undefined_length = True
        dataset.PixelData = pydicom.encaps.encapsulate([dataset.PixelData])
        dataset.save_as(path)
    (tmp_path / "dicom" / "empty.dcm").touch()
    (tmp_path / "dicom" / "letter.dcm").write_text("Dear colleague, thank you for this patient")
    (tmp_path / "dicom" / "notes.txt").write_text("not an image, and not called one")
    store, summary = curate_tree(tmp_path / "dicom")
    assert (summary.num_in_store, summary.num_rejected, summary.num_bad_files) == (1, 2, 2)
    found = "\n".join(reasons(store))
    assert "empty file (0 bytes)" in found
    assert "not DICOM, in spite of its name" in found
    assert "truncated or not Explicit VR Little Endian" in found
    assert "truncated or not JPEG Baseline" in found


def test_damaged_meta_group_is_set_aside(brain, tmp_path):
    path = write_dicom_series(brain, tmp_path)[0]
    content = bytearray(path.read_bytes())
    place = content.index(b"\x02\x00\x02\x00UI")  # MediaStorageSOPClassUID, of VR UI
    content[place + 4 : place + 6] = b"I\x1a"  # no VR; decoded at the first look only
    path.write_bytes(content)

    found = scan_file(path, salt="")

    assert isinstance(found, Unusable)
    assert found.reason == "damaged header (NotImplementedError)"


def test_one_series_uid_of_two_patients_is_a_collision(brain, tmp_path, curate_tree, reasons):
    write_dicom_series(brain, tmp_path / "dicom" / "a")
    other = DicomOptions(extra={"PatientID": "somebody else"})
    write_dicom_series(brain, tmp_path / "dicom" / "b", options=other)
    store, _ = curate_tree(tmp_path / "dicom")
    assert len(store) == 0
    assert reasons(store) == ["one SeriesInstanceUID in 2 patients or studies"]


def test_one_instance_uid_of_two_images_is_a_collision(brain, tmp_path, curate_tree, reasons):
    write_dicom_series(brain, tmp_path / "dicom" / "a")
    brighter = replace(brain, image=brain.image + 100)
    write_dicom_series(brighter, tmp_path / "dicom" / "b")
    store, _ = curate_tree(tmp_path / "dicom")
    assert reasons(store) == ["different images with one SOPInstanceUID"]


def test_ids_that_climb_stay_in_the_store(brain, tmp_path, curate_tree):
    extra = {"PatientID": "../../../escape", "StudyID": "/etc"}
    write_dicom_series(brain, tmp_path / "dicom", options=DicomOptions(extra=extra))
    store, _ = curate_tree(tmp_path / "dicom")
    (series_id,) = store.records["series_id"]
    assert ".." not in series_id
    assert store.volume_path(series_id).resolve().is_relative_to(store.path.resolve())
    assert not list(tmp_path.rglob("*escape*"))


def test_ids_depend_on_the_salt_and_not_on_the_path(brain, tmp_path, curate_tree):
    write_dicom_series(brain, tmp_path / "one" / "a" / "b")
    write_dicom_series(brain, tmp_path / "two")
    ids = [
        curate_tree(tmp_path / tree, tmp_path / store, salt=salt)[0].records["series_id"][0]
        for tree, store, salt in (("one", "1", ""), ("two", "2", ""), ("two", "3", "secret"))
    ]
    assert ids[0] == ids[1]
    assert not set(ids[0].split("/")[1:]) & set(ids[2].split("/")[1:])
