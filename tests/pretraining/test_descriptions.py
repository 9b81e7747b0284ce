"""Descriptions: what a sidecar may say, in one wording, and nothing else."""

from dataclasses import replace

import pytest

from pretraining.curation.nifti_fields import NiftiFacts, fields_from_nifti
from pretraining.curation.terms import SEQUENCES
from pretraining.descriptions import (
    ImagingFields,
    describe,
    manufacturer_name,
    model_name,
    sequence_from_times,
)

METADATA = {
    "MagneticFieldStrength": 3,
    "Manufacturer": "Siemens Healthineers",
    "ManufacturersModelName": "MAGNETOM Prisma fit",
    "RepetitionTime": 2.3,
    "EchoTime": 0.00298,
    "InversionTime": 0.9,
    "FlipAngle": 9,
    "SliceThickness": 1,
    "MRAcquisitionType": "3D",
    "ScanningSequence": "GR\\IR",
}


def fields_of(metadata, name):
    return fields_from_nifti(NiftiFacts(stem=name, metadata=metadata))[0]


def test_description_says_all_fields_in_one_order():
    fields = fields_of(METADATA, "T1w")
    assert describe(replace(fields, spacing_mm=(1.0, 0.97656, 0.97656))) == (
        "MRI, T1-weighted. Technique: gradient echo, inversion recovery. Acquisition: 3D. "
        "Manufacturer: Siemens. Model: MAGNETOM Prisma fit. Field strength: 3 T. "
        "Repetition time: 2300 ms. Echo time: 2.98 ms. Inversion time: 900 ms. "
        "Flip angle: 9 degrees. Slice thickness: 1 mm. Voxel spacing: 1 x 0.977 x 0.977 mm."
    )


def test_long_times_are_written_out():
    text = describe(ImagingFields(repetition_time_ms=10_734.2, echo_time_ms=111.25))
    assert "Repetition time: 10730 ms. Echo time: 111.2 ms" in text


def test_description_of_nothing_known_is_one_sentence():
    assert describe(ImagingFields()) == "MRI, unknown weighting."


def test_settings_that_differ_by_rounding_alone_give_the_same_text():
    texts = {
        describe(fields_of({**METADATA, "EchoTime": echo}, "T1w"))
        for echo in (0.00298, 0.0029800001, 0.00297999)
    }
    assert len(texts) == 1


@pytest.mark.parametrize(
    "value", [None, "", "3 T", True, float("nan"), float("inf"), -3, 0, [3], {"a": 1}]
)
def test_value_of_another_kind_is_left_out(value):
    fields = fields_of({"MagneticFieldStrength": value}, "T1w")
    assert fields.field_strength_t is None


def test_no_other_key_of_a_sidecar_is_read():
    personal = dict.fromkeys(
        ("PatientName", "InstitutionName", "SeriesDescription", "ProtocolName"), "MARKER"
    )
    personal |= {"Manufacturer": "MARKER", "ManufacturersModelName": "MARKER Prisma MARKER"}
    personal |= {"ScanningSequence": "MARKER", "MRAcquisitionType": "MARKER"}
    text = describe(fields_of(personal, "MARKER"))
    assert "MARKER" not in text
    assert text == "MRI, unknown weighting. Model: Prisma."


@pytest.mark.parametrize(
    ("suffix", "words"),
    [("T1w", "T1-weighted"), ("FLAIR", "FLAIR"), ("dwi", "DWI"), ("ADC", "ADC"), ("bold", "fMRI")],
)
def test_suffix_decides_the_sequence(suffix, words):
    assert words in fields_of({}, suffix).sequence


@pytest.mark.parametrize(
    ("repetition_ms", "echo_ms", "inversion_ms", "expected"),
    [
        (500, 10, None, "t1w"),
        (4000, 100, None, "t2w"),
        (3000, 15, None, "pd"),
        (9000, 100, 2500, "flair"),
        (2300, 3, 900, "t1w"),
        (1500, 40, None, None),
        (None, None, None, None),
    ],
)
def test_times_decide_when_no_name_does(repetition_ms, echo_ms, inversion_ms, expected):
    found = sequence_from_times(repetition_ms, echo_ms, inversion_ms)
    assert found == (SEQUENCES[expected] if expected else "unknown weighting")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SIEMENS", "Siemens"),
        ("GE MEDICAL SYSTEMS", "GE"),
        ("GE", "GE"),
        ("Philips Medical Systems", "Philips"),
        ("Koenigsberger", None),  # has "ge" in it
        ("", None),
        (None, None),
    ],
)
def test_manufacturer_has_one_name(text, expected):
    assert manufacturer_name(text) == expected


def test_model_keeps_known_words_only():
    assert model_name("Signa HDxt of Dr. Miller") == "Signa HDxt"
    assert model_name("Miller") is None
