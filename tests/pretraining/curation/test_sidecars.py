"""Sidecars decide as headers do: the same words and the same verdict by both ways."""

import json
import os
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from nnunet_triad.phantom import SCANNERS, SEQUENCES
from nnunet_triad.phantom.dicom import DicomOptions, write_dicom_series
from pretraining.curation.nifti_fields import DOUBTFUL_TIMES, NiftiFacts, fields_from_nifti
from pretraining.curation.nifti_source import read_metadata

# What dcm2niix v1.0.20260724 wrote of the phantom's DICOM, of the fields that are read.
SIDECARS = {
    "T1w": {
        "Modality": "MR",
        "MagneticFieldStrength": 1.5,
        "Manufacturer": "Siemens",
        "ManufacturersModelName": "Avanto",
        "MRAcquisitionType": "3D",
        "SeriesDescription": "T1w",
        "ProtocolName": "brain T1w",
        "ScanningSequence": "GR",
        "SequenceName": "*fl3d1",
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MAGNITUDE"],
        "SliceThickness": 6,
        "EchoTime": 0.01,
        "RepetitionTime": 0.018,
        "FlipAngle": 30,
    },
    "FLAIR": {
        "Modality": "MR",
        "MagneticFieldStrength": 1.5,
        "Manufacturer": "GE",
        "ManufacturersModelName": "Signa HDxt",
        "MRAcquisitionType": "2D",
        "SeriesDescription": "FLAIR",
        "ProtocolName": "brain FLAIR",
        "ScanningSequence": "SE\\IR",
        "SequenceName": "FSE-IR",
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MAGNITUDE"],
        "SliceThickness": 6,
        "EchoTime": 0.12,
        "RepetitionTime": 9,
        "InversionTime": 1.7,
        "FlipAngle": 90,
    },
    "T2starw": {
        "Modality": "MR",
        "MagneticFieldStrength": 3,
        "Manufacturer": "Philips",
        "ManufacturersModelName": "Ingenia",
        "MRAcquisitionType": "2D",
        "SeriesDescription": "T2starw",
        "ProtocolName": "brain T2starw",
        "ScanningSequence": "GR",
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MAGNITUDE"],
        "SliceThickness": 6,
        "EchoTime": 0.025,
        "RepetitionTime": 0.7,
        "FlipAngle": 20,
    },
}


@pytest.fixture
def write_series(write_nifti, tmp_path, brain):
    """Write a NIfTI file with a sidecar, as dcm2niix does; each has other voxels."""
    num_written = 0

    def write(stem, metadata, *, b_values="", folder="source"):
        nonlocal num_written
        num_written += 1
        image = brain.image + 3.0 * num_written * (brain.image > 0)
        path = write_nifti(tmp_path / folder / f"{stem}.nii.gz", image=image)
        path.with_name(f"{stem}.json").write_text(json.dumps(metadata))
        if b_values:
            path.with_name(f"{stem}.bval").write_text(b_values)
        return tmp_path / folder

    return write


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_a_series_has_one_description_as_dicom_and_as_converted_by_dcm2niix(
    brain, tmp_path, curate_tree, write_nifti, write_series, kind, number
):
    name = list(SIDECARS)[number]
    series = replace(brain, sequence=SEQUENCES[name], scanner=SCANNERS[number])
    write_dicom_series(series, tmp_path / "dicom", options=DicomOptions(kind=kind))
    # dcm2niix turns sagittal and coronal volumes' axes; the words are to be the same
    turned = nib.Nifti1Image(brain.image, brain.affine).as_reoriented([[2, 1], [0, -1], [1, 1]])
    root = write_series(f"3_{name}", SIDECARS[name])
    write_nifti(root / f"3_{name}.nii.gz", image=turned.get_fdata(), affine=turned.affine)
    by_dicom, _ = curate_tree(tmp_path / "dicom", tmp_path / "a")
    by_sidecar, _ = curate_tree(root, tmp_path / "b")
    (expected,), (found,) = by_dicom.records["description"], by_sidecar.records["description"]
    assert found == expected
    assert "Voxel spacing: 4 x 5 x 6 mm" in found


@pytest.mark.parametrize(
    ("image_type", "stem", "reason"),
    [
        (("ORIGINAL", "PRIMARY", "P", "ND"), "4_gre_ph", "derived: phase image"),
        (("DERIVED", "PRIMARY", "ASL", "RCBF"), "4_asl", "derived: perfusion map"),
        (("DERIVED", "SECONDARY", "MPR"), "4_t1", "derived: reformat"),
    ],
)
def test_a_series_has_one_verdict_by_both_ways(
    brain, tmp_path, curate_tree, write_series, reasons, image_type, stem, reason
):
    options = DicomOptions(image_type=image_type)
    write_dicom_series(brain, tmp_path / "dicom", options=options)
    root = write_series(stem, {"ImageType": list(image_type)})
    for source, store in ((tmp_path / "dicom", "a"), (root, "b")):
        assert reasons(curate_tree(source, tmp_path / store)[0]) == [reason]


def test_output_of_dcm2niix_is_read_by_its_sidecars(write_series, curate_tree, reasons):
    write_series(
        "3_ep2d_diff_mddw",
        {"ScanningSequence": "EP", "ImageType": ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"]},
        b_values="1000\n",
    )
    phase = {"ImageType": ["ORIGINAL", "PRIMARY", "P", "PHASE"], "ScanningSequence": "GR"}
    write_series("9_gre_field_mapping_e2_ph", phase)
    subtraction = {"ImageType": ["DERIVED", "PRIMARY", "ASL", "SUBTRACTION"]}
    write_series("27_Perfusion_Weighted", subtraction)
    root = write_series(
        "2_ep2d_Asc",
        {
            "ScanningSequence": "EP",
            "SequenceName": "_epfid2d1_64",
            "RepetitionTime": 3.2,
            "EchoTime": 0.03,
        },
    )
    store, _ = curate_tree(root)
    first, second = store.records["description"]
    assert "functional MRI" in first
    assert "diffusion-weighted" in second and "b-value: 1000 s/mm2" in second
    assert sorted(reasons(store)) == ["derived: phase image", "derived: subtraction"]


def test_b_value_is_that_of_the_volume_that_is_kept(brain, write_nifti, tmp_path, curate_tree):
    points = np.stack([brain.image * k for k in (1, 2, 3)], axis=-1)
    path = write_nifti(tmp_path / "source" / "sub-1_dwi.nii.gz", image=points)
    path.with_name("sub-1_dwi.bval").write_text("0 700 1000")
    (description,) = curate_tree(tmp_path / "source")[0].records["description"]
    assert "Diffusion b-value: 700 s/mm2" in description


@pytest.mark.parametrize(
    "times",
    [
        {"RepetitionTime": 2300, "EchoTime": 2.98, "InversionTime": 900},
        {"RepetitionTime": 2.3, "EchoTime": 2.98},
        {"RepetitionTime": 9.0, "EchoTime": 0.1, "InversionTime": 2500},
    ],
)
def test_times_in_milliseconds_are_left_out_and_said(write_series, curate_tree, times):
    root = write_series("sub-1_T1w", {"MagneticFieldStrength": 3, **times})
    store, _ = curate_tree(root)
    (description,) = store.records["description"]
    assert "time" not in description and "3 T" in description
    assert store.read_sidecar(store.records["series_id"][0])["notes"] == [DOUBTFUL_TIMES]


def test_longest_times_of_scanners_are_believed():
    # Philips' pCASL counts its whole series, dcm_qa_philips_enh 1903; a fluid's late echo
    times = {"RepetitionTime": 51, "EchoTime": 0.8, "InversionTime": 4}
    fields, notes = fields_from_nifti(NiftiFacts(stem="T2w", metadata=times))
    assert (fields.repetition_time_ms, fields.echo_time_ms) == (51_000, 800)
    assert notes == ()


def test_repetition_time_of_philips_labelling_is_that_of_its_header():
    # dcm_qa_philips_enh 1903, classic: the header says 4250 ms
    times = {"RepetitionTime": 51, "RepetitionTimeExcitation": 4.25}
    philips = NiftiFacts(stem="a", metadata={"Manufacturer": "Philips", **times})
    assert fields_from_nifti(philips)[0].repetition_time_ms == 4250
    siemens = NiftiFacts(stem="a", metadata={"Manufacturer": "Siemens", **times})
    assert fields_from_nifti(siemens)[0].repetition_time_ms == 51_000


def test_field_map_folder_of_bids_is_set_aside_with_the_reason(
    tmp_path, write_series, curate_tree, reasons
):
    write_series("sub-1_dir-AP_epi", {}, folder="source/sub-1/fmap")
    assert reasons(curate_tree(tmp_path / "source")[0]) == ["derived: field-mapping scan"]


def test_contrast_agent_of_a_sidecar_is_told(write_series, curate_tree):
    agent = {"SeriesDescription": "t1_mprage", "ContrastBolusAgent": "Gadovist"}
    root = write_series("7_t1_mprage", agent)
    (description,) = curate_tree(root)[0].records["description"]
    assert "contrast-enhanced T1-weighted" in description
    assert "Contrast agent: gadolinium" in description


def test_no_words_of_a_sidecar_pass(write_series, curate_tree):
    texts = ("SeriesDescription", "ProtocolName", "SequenceName", "ImageComments", "PatientName")
    root = write_series("a", dict.fromkeys(texts, "Somebody t1"))
    store, _ = curate_tree(root)
    assert "T1-weighted" in store.records["description"][0]
    assert "omebody" not in (store.path / "index.csv").read_text()


def test_sidecar_that_was_added_later_is_seen(tmp_path):
    """A cluster's workers outlive a run, after which its user mends the tree."""
    image = tmp_path / "a_T1w.nii.gz"
    assert read_metadata(image, tmp_path) == {}
    (tmp_path / "a_T1w.json").write_text('{"EchoTime": 0.01}')
    os.utime(tmp_path, (1, 1))  # another time, however coarse the file system's is
    assert read_metadata(image, tmp_path) == {"EchoTime": 0.01}
