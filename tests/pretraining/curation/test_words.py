"""What series are called: one row a combination of tags that somebody's scanner wrote.

`seen` names the public series: neurolabusc/dcm_qa* are the QA repositories of dcm2niix's author.
Where a series is there as DICOM and as a sidecar of dcm2niix, both ways give the same words.
"""

from dataclasses import dataclass, field
from typing import Any

import pydicom
import pytest

from pretraining.curation.dicom_fields import derived_kind, fields_from_dicom
from pretraining.curation.nifti_fields import NiftiFacts, fields_from_nifti, set_aside_kind
from pretraining.curation.sequence_rules import SEQUENCE_RULES, SET_ASIDE
from pretraining.descriptions import model_name

T1, T2STAR, FMRI = "T1-weighted", "T2*-weighted", "functional MRI (fMRI)"
DWI, ADC = "diffusion-weighted imaging (DWI)", "apparent diffusion coefficient (ADC) map"
ASL = "arterial spin labelling (ASL) perfusion"
DSC = "dynamic susceptibility contrast (DSC) perfusion"


@dataclass(frozen=True, kw_only=True)
class Row:
    """Tags of a series, by DICOM's keywords or a sidecar's, and what it is."""

    seen: str
    expected: str  # the sequence, or "set aside: WHY"
    dicom: dict[str, Any] = field(default_factory=dict)
    sidecar: dict[str, Any] = field(default_factory=dict)
    name: str = "12_series"  # of the NIfTI file
    b_values: tuple[float, ...] | None = None
    num_time_points: int = 1
    technique: str | None = None


def image_type(text: str) -> list[str]:
    return text.split("\\")


ROWS = (
    *(
        Row(
            seen=f"Siemens, {name}",
            dicom={
                "Manufacturer": "SIEMENS",
                "ImageType": image_type(r"ORIGINAL\PRIMARY\M\NORM\DIS3D"),
                "SeriesDescription": name,
                "ScanningSequence": "GR",
                "SequenceName": "*fl3d1_ns",
                "RepetitionTime": 3.15,
                "EchoTime": 1.37,
            },
            sidecar={
                "SeriesDescription": name,
                "ImageType": ["ORIGINAL", "PRIMARY", "M", "NORM", "DIS3D"],
                "ScanningSequence": "GR",
                "SequenceName": "*fl3d1_ns",
                "RepetitionTime": 0.00315,
                "EchoTime": 0.00137,
            },
            expected="set aside: localizer",
        )
        for name in ("AAHScout", "AAHead_Scout_64ch-head-coil", "AutoAlign Scout", "localizer_tra")
    ),
    # Philips
    Row(
        seen="Philips Ingenia Elition X, dcm_qa_philips_enh 1903, classic",
        dicom={
            "Manufacturer": "Philips",
            "ImageType": image_type(r"ORIGINAL\PRIMARY\M_SE\M\SE"),
            "SeriesDescription": "WIP SOURCE - 3DpCASL",
            "ScanningSequence": "SE",
            "RepetitionTime": 4250,
            "EchoTime": 9,
        },
        sidecar={
            "SeriesDescription": "WIP SOURCE - 3DpCASL",
            "PulseSequenceName": "GraSE",
            "ScanningSequence": "SE",
            "ImageType": ["ORIGINAL", "PRIMARY", "M", "SE", "M", "SE", "MAGNITUDE"],
            "RepetitionTime": 51,
            "EchoTime": 0.009,
        },
        expected=ASL,
    ),
    Row(
        seen="Philips Ingenia Elition X, dcm_qa_philips_enh 1903, enhanced",
        dicom={
            "ImageType": image_type(r"ORIGINAL\PRIMARY\PERFUSION\NONE"),
            "ComplexImageComponent": "MAGNITUDE",
            "AcquisitionContrast": "PERFUSION",
            "SeriesDescription": "WIP SOURCE - 3DpCASL",
            "PulseSequenceName": "GraSE",
            "EchoPulseSequence": "BOTH",
            "EchoPlanarPulseSequence": "YES",
        },
        sidecar={
            "SeriesDescription": "WIP SOURCE - 3DpCASL",
            "PulseSequenceName": "GraSE",
            "ScanningSequence": "SE",
            "ImageType": ["ORIGINAL", "PRIMARY", "PERFUSION", "NONE", "MAGNITUDE"],
        },
        expected=ASL,
        technique="echo planar, gradient echo, spin echo",
    ),
    Row(
        seen="Philips Ingenia Elition X, dcm_qa_philips_enh 1901, classic",
        dicom={
            "ImageType": image_type(r"ORIGINAL\PRIMARY\PERFUSION_FFE\PERFUSION\FFE"),
            "SeriesDescription": "3DpCASL",
            "ScanningSequence": "GR",
        },
        sidecar={
            "SeriesDescription": "3DpCASL",
            "ImageType": ["ORIGINAL", "PRIMARY", "PERFUSION", "FFE", "PERFUSION", "FFE"],
        },
        expected="set aside: perfusion map",
    ),
    Row(
        seen="Philips Ingenia Elition X, dcm_qa_philips_enh 1901, enhanced",
        dicom={
            "ImageType": image_type(r"ORIGINAL\PRIMARY\PERFUSION\NONE"),
            "ComplexImageComponent": "REAL",
            "SeriesDescription": "3DpCASL",
        },
        sidecar={
            "SeriesDescription": "3DpCASL",
            "ImageType": ["ORIGINAL", "PRIMARY", "PERFUSION", "NONE", "REAL"],
        },
        name="1901_WIP_3DpCASL_enh_real",
        expected="set aside: real part",
    ),
    Row(
        seen="Philips Ingenia Elition X, dcm_qa_philips_enh 2001, classic",
        dicom={
            "ImageType": image_type(r"ORIGINAL\PRIMARY\M_FFE\M\FFE"),
            "SeriesDescription": "fcMRI Field Mapping",
            "ScanningSequence": "GR",
            "RepetitionTime": 20,
            "EchoTime": 2.3,
        },
        sidecar={
            "SeriesDescription": "fcMRI Field Mapping",
            "PulseSequenceName": "T1FFE",
            "ScanningSequence": "GR",
            "ImageType": ["ORIGINAL", "PRIMARY", "M", "FFE", "M", "FFE", "MAGNITUDE"],
            "RepetitionTime": 0.02,
            "EchoTime": 0.0023,
        },
        name="2001_WIP_fcMRI_Field_Mapping_cl_e1",
        expected="set aside: field-mapping scan",
    ),
    Row(
        seen="Philips Ingenia Elition X, dcm_qa_philips_enh 2001, phase",
        dicom={
            "ImageType": image_type(r"ORIGINAL\PRIMARY\PHASE MAP\P\FFE"),
            "SeriesDescription": "fcMRI Field Mapping",
        },
        sidecar={
            "SeriesDescription": "fcMRI Field Mapping",
            "ImageType": ["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE", "PHASE"],
        },
        name="2001_WIP_fcMRI_Field_Mapping_cl_e1_ph",
        expected="set aside: phase image",
    ),
    Row(
        seen="Philips Achieva dStream, dcm_qa_enh Philips_WIP_B0_NS_801_e1",
        sidecar={
            "SeriesDescription": "B0 NS",
            "SequenceName": "FFE",
            "ImageType": ["ORIGINAL", "PRIMARY", "T1", "MIXED"],
            "ScanningSequence": "RM",
            "RepetitionTime": 0.0038045,
            "EchoTime": 0.00152,
        },
        expected=T1,
        technique="gradient echo",
    ),
    Row(
        seen="Philips Achieva dStream, dcm_qa_enh Philips_WIP_B0_NS_801_e2_fieldmaphz",
        sidecar={
            "SeriesDescription": "B0 NS",
            "SequenceName": "FFE",
            "ImageType": ["ORIGINAL", "PRIMARY", "T1", "MIXED", "FIELDMAPHZ"],
        },
        expected="set aside: field map",
    ),
    Row(
        seen="Philips Achieva dStream, dcm_qa_enh Philips_WIP_resting_state_1001_e1",
        sidecar={
            "SeriesDescription": "resting_state",
            "SequenceName": "FEEPI",
            "ScanningSequence": "GR",
            "ImageType": ["ORIGINAL", "PRIMARY", "PROTON", "DENSITY", "NONE"],
            "RepetitionTime": 1.5,
            "EchoTime": 0.008203,
        },
        expected=FMRI,
        technique="echo planar, gradient echo",
    ),
    Row(
        seen="Philips Ingenia Elition X, dcm_qa_philips_enh 2301, classic",
        dicom={
            "ImageType": image_type(r"ORIGINAL\PRIMARY\M_SE\M\SE"),
            "SeriesDescription": "DTIphase_S2MB2",
            "ScanningSequence": "SE",
            "RepetitionTime": 4549.18,
            "EchoTime": 86,
        },
        sidecar={
            "SeriesDescription": "DTIphase_S2MB2",
            "PulseSequenceName": "DwiSE",
            "ScanningSequence": "SE",
            "ImageType": ["ORIGINAL", "PRIMARY", "M", "SE", "M", "SE", "MAGNITUDE"],
            "RepetitionTime": 4.54918,
            "EchoTime": 0.086,
        },
        expected=DWI,
    ),
    Row(
        seen="Philips, DiffusionBValue 0.002 for none",
        dicom={
            "ImageType": image_type(r"ORIGINAL\PRIMARY\M_SE\M\SE"),
            "ScanningSequence": "SE",
            "DiffusionBValue": 0.002,
            "RepetitionTime": 3000,
            "EchoTime": 80,
        },
        expected="T2-weighted",
    ),
    # Siemens
    Row(
        seen="Siemens Prisma Fit XA30, dcm_qa_xa30 28",
        dicom={
            "ImageType": image_type(r"DERIVED\PRIMARY\ASL\RCBF"),
            "ComplexImageComponent": "MAGNITUDE",
            "AcquisitionContrast": "PERFUSION",
            "SeriesDescription": "relCBF",
        },
        sidecar={
            "SeriesDescription": "relCBF",
            "ProtocolName": "asl_2d_tra",
            "ImageType": ["DERIVED", "PRIMARY", "ASL", "RCBF", "MAGNITUDE"],
        },
        name="28_asl_2d_tra",
        expected="set aside: perfusion map",
    ),
    Row(
        seen="Siemens Prisma Fit XA30, dcm_qa_xa30 27",
        dicom={
            "ImageType": image_type(r"DERIVED\PRIMARY\ASL\SUBTRACTION"),
            "SeriesDescription": "Perfusion_Weighted",
        },
        sidecar={
            "SeriesDescription": "Perfusion_Weighted",
            "ProtocolName": "asl_2d_tra",
            "ImageType": ["DERIVED", "PRIMARY", "ASL", "SUBTRACTION", "MAGNITUDE"],
        },
        expected="set aside: subtraction",
    ),
    Row(
        seen="Siemens Prisma Fit XA30, dcm_qa_xa30 25",
        dicom={
            "ImageType": image_type(r"ORIGINAL\PRIMARY\ASL\NONE"),
            "AcquisitionContrast": "PERFUSION",
            "SeriesDescription": "asl_2d_tra",
            "PulseSequenceName": "*epfid2d1_64",
            "EchoPulseSequence": "GRADIENT",
            "EchoPlanarPulseSequence": "YES",
        },
        sidecar={
            "SeriesDescription": "asl_2d_tra",
            "PulseSequenceName": "*epfid2d1_64",
            "ScanningSequence": "EP",
            "ImageType": ["ORIGINAL", "PRIMARY", "ASL", "NONE", "MAGNITUDE"],
        },
        expected=ASL,
        technique="echo planar, gradient echo",
    ),
    Row(
        seen="Siemens Prisma Fit XA30, dcm_qa_xa30 10: GRADIENT, but a spin echo by its name",
        dicom={
            "ImageType": image_type(r"ORIGINAL\PRIMARY\DIFFUSION\NONE"),
            "AcquisitionContrast": "DIFFUSION",
            "SeriesDescription": "DWI_dir80_PA",
            "PulseSequenceName": "epse2d1_72",
            "EchoPulseSequence": "GRADIENT",
            "EchoPlanarPulseSequence": "YES",
        },
        sidecar={
            "SeriesDescription": "DWI_dir80_PA",
            "PulseSequenceName": "epse2d1_72",
            "ScanningSequence": "EP",
            "ImageType": ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE", "MAGNITUDE"],
        },
        expected=DWI,
        technique="echo planar, spin echo",
    ),
    Row(
        seen="Siemens Prisma Fit XA30, dcm_qa_xa30 11",
        dicom={
            "ImageType": image_type(r"DERIVED\PRIMARY\DIFFUSION\ADC"),
            "SeriesDescription": "DWI_dir80_PA_ADC",
        },
        sidecar={
            "SeriesDescription": "DWI_dir80_PA_ADC",
            "ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC", "MAGNITUDE"],
        },
        expected=ADC,
    ),
    Row(
        seen="Siemens Prisma Fit XA30, dcm_qa_xa30 16",
        dicom={"ImageType": image_type(r"DERIVED\PRIMARY\DIFFUSION\TENSOR_B0")},
        sidecar={"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "TENSOR", "B0", "MAGNITUDE"]},
        expected="set aside: diffusion tensor",
    ),
    Row(
        seen="Siemens Prisma Fit XA30, dcm_qa_xa30 8",
        dicom={
            "ImageType": image_type(r"ORIGINAL\PRIMARY\M\NONE"),
            "SeriesDescription": "gre_field_mapping",
            "PulseSequenceName": "*fm2d2r",
            "EchoPulseSequence": "GRADIENT",
            "RepetitionTime": 600,
        },
        sidecar={
            "SeriesDescription": "gre_field_mapping",
            "PulseSequenceName": "*fm2d2r",
            "ScanningSequence": "GR",
            "ImageType": ["ORIGINAL", "PRIMARY", "M", "NONE", "MAGNITUDE"],
            "RepetitionTime": 0.6,
        },
        name="8_gre_field_mapping_e1",
        expected="set aside: field-mapping scan",
    ),
    Row(
        seen="Siemens Prisma Fit XA30, dcm_qa_xa30 9",
        dicom={
            "ImageType": image_type(r"ORIGINAL\PRIMARY\P\NONE"),
            "ComplexImageComponent": "PHASE",
            "SeriesDescription": "gre_field_mapping",
        },
        sidecar={
            "SeriesDescription": "gre_field_mapping",
            "ImageType": ["ORIGINAL", "PRIMARY", "P", "NONE", "PHASE"],
        },
        name="9_gre_field_mapping_e2_ph",
        expected="set aside: phase image",
    ),
    Row(
        seen="Siemens Prisma_fit VE11, dcm_qa_mosaic 2",
        dicom={
            "ImageType": image_type(r"ORIGINAL\PRIMARY\M\ND\MOSAIC"),
            "SeriesDescription": "ep2d_Asc",
            "SequenceName": "*epfid2d1_64",
            "ScanningSequence": "EP",
            "RepetitionTime": 3200,
            "EchoTime": 30,
        },
        sidecar={
            "SeriesDescription": "ep2d_Asc",
            "SequenceName": "*epfid2d1_64",
            "ScanningSequence": "EP",
            "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC", "MAGNITUDE"],
            "RepetitionTime": 3.2,
            "EchoTime": 0.03,
        },
        num_time_points=6,
        expected=FMRI,
        technique="echo planar, gradient echo",
    ),
    Row(
        seen="Siemens Prisma, dcm_qa NOPF_NOPAT_100POS_AP: spin-echo EPI without diffusion",
        dicom={
            "ImageType": image_type(r"ORIGINAL\PRIMARY\M\ND\MOSAIC"),
            "SeriesDescription": "noPF_noPAT_100POS_PEres100_ES0p59_BW2222_AP",
            "SequenceName": "epse2d1_90",
            "ScanningSequence": "EP",
            "RepetitionTime": 10730,
            "EchoTime": 111.2,
        },
        sidecar={
            "SeriesDescription": "noPF_noPAT_100POS_PEres100_ES0p59_BW2222_AP",
            "SequenceName": "epse2d1_90",
            "ScanningSequence": "EP",
            "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC", "MAGNITUDE"],
            "RepetitionTime": 10.73,
            "EchoTime": 0.1112,
        },
        expected="T2-weighted",
        technique="echo planar, spin echo",
    ),
    Row(
        seen="Siemens, Dixon of VIBE: opposed phase is no phase image",
        dicom={
            "ImageType": image_type(r"DERIVED\PRIMARY\DIXON\OPP_PHASE"),
            "SeriesDescription": "t1_vibe_dixon_tra_opp",
            "ScanningSequence": "GR",
        },
        sidecar={
            "SeriesDescription": "t1_vibe_dixon_tra_opp",
            "ImageType": ["DERIVED", "PRIMARY", "DIXON", "OPP", "PHASE"],
        },
        expected=T1,
    ),
    # GE
    Row(
        seen="GE, epiRT of few volumes (case5 of the reports)",
        dicom={
            "Manufacturer": "GE MEDICAL SYSTEMS",
            "ImageType": image_type(r"ORIGINAL\PRIMARY\EPI\NONE"),
            "SeriesDescription": "epiRT IntAsc",
            "ScanningSequence": ["EP", "GR"],
            "RepetitionTime": 2000,
            "EchoTime": 30,
        },
        sidecar={
            "SeriesDescription": "epiRT IntAsc",
            "PulseSequenceName": "epiRT",
            "ScanningSequence": "EP\\GR",
            "ImageType": ["ORIGINAL", "PRIMARY", "EPI", "NONE"],
            "RepetitionTime": 2,
            "EchoTime": 0.03,
        },
        num_time_points=2,
        expected=FMRI,
        technique="echo planar, gradient echo",
    ),
    # Canon
    Row(
        seen="Canon Galan 3T, dcm_qa_canon_61 3000, classic",
        dicom={
            "ImageType": image_type(r"ORIGINAL\PRIMARY\GDC"),
            "SeriesDescription": "DTI_PA-ortho",
            "SequenceName": "SEEPI2D+0.7",
            "ScanningSequence": ["SE", "EP"],
        },
        sidecar={
            "SeriesDescription": "DTI_PA-ortho",
            "SequenceName": "SEEPI2D+0.7",
            "ScanningSequence": "SE\\EP",
            "ImageType": ["ORIGINAL", "PRIMARY", "GDC"],
        },
        b_values=(0.0, 1000.0),
        expected=DWI,
        technique="echo planar, spin echo",
    ),
    Row(
        seen="Canon Galan 3T, dcm_qa_enh Canon_DTI_PA-ortho_9000",
        sidecar={
            "SeriesDescription": "ortho_9000",
            "ImageType": ["ORIGINAL", "PRIMARY", "GDC", "NONE", "MAGNITUDE"],
        },
        b_values=(0.0, 1000.0),
        expected=DWI,
    ),
    # By names alone: dcm2niix' FILENAMING.md, and the BIDS specification's entities
    *(
        Row(seen=f"file name {name}", name=name, expected=f"set aside: {kind}")
        for name, kind in (
            ("5_gre_e2_ph", "phase image"),
            ("5_gre_e2_pha", "phase image"),
            ("5_gre_real", "real part"),
            ("5_gre_imaginary", "imaginary part"),
            ("5_gre_phMag", "phase and magnitude in one file"),
            ("5_b0_e2_fieldmaphz", "field map"),
            ("sub-01_part-phase_bold", "phase image"),
            ("sub-01_part-real_T2starw", "real part"),
            ("sub-01_part-imag_T2starw", "imaginary part"),
            ("sub-01_magnitude1", "field-mapping scan"),
            ("sub-01_phasediff", "phase image"),
            ("sub-01_fieldmap", "field map"),
        )
    ),
    Row(
        seen="Philips by dcm2niix' FILENAMING.md: a diffusion series whose last volume is a map",
        sidecar={
            "SeriesDescription": "DTI_S2MB2",
            "ImageType": ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE", "MAGNITUDE"],
        },
        name="2201_DTI_S2MB2_ADC",
        b_values=(0.0, 1000.0, 2000.0),
        num_time_points=3,
        expected=DWI,
    ),
    *(
        Row(seen=f"file name {name}", name=name, expected=T1)
        for name in ("t1_arterial_phase", "T1-in-phase", "t1_opp_phase", "t1_late_phase")
    ),
    *(
        Row(seen=f"file name {name}", name=name, expected="contrast-enhanced T1-weighted")
        for name in ("patient1_T1_post", "sub-01_ce-gd_T1w", "t1_km_tra")
    ),
    Row(seen="file name 5_gre_phase", name="5_gre_phase", expected="set aside: phase image"),
    Row(seen="BIDS, sub-01_part-mag_T2starw", name="sub-01_part-mag_T2starw", expected=T2STAR),
    Row(
        seen="BIDS: somebody chose the suffix",
        name="sub-01_T2starw",
        sidecar={"SeriesDescription": "t1_gre_tra", "ScanningSequence": "GR"},
        expected=T2STAR,
    ),
    Row(seen="BraTS 2023, BraTS-GLI-00000-000-t1n", name="BraTS-GLI-00000-000-t1n", expected=T1),
)


def _header(tags: dict[str, Any]) -> pydicom.Dataset:
    dataset = pydicom.Dataset()
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    return dataset


def _check(row: Row, kind: str | None, sequence: str, technique: str | None) -> None:
    found = f"set aside: {kind}" if kind else sequence
    assert found == row.expected
    assert technique == row.technique or row.technique is None


DICOM_ROWS = [row for row in ROWS if row.dicom]
NIFTI_ROWS = [row for row in ROWS if row.sidecar or not row.dicom]


@pytest.mark.parametrize("row", DICOM_ROWS, ids=lambda row: row.seen)
def test_words_of_a_header(row):
    header = _header(row.dicom)
    fields = fields_from_dicom(header, num_time_points=row.num_time_points)
    _check(row, derived_kind(header), fields.sequence, fields.technique)


@pytest.mark.parametrize("row", NIFTI_ROWS, ids=lambda row: row.seen)
def test_words_of_a_name_and_a_sidecar(row):
    facts = NiftiFacts(stem=row.name, metadata=row.sidecar, b_values=row.b_values)
    fields, _ = fields_from_nifti(facts, num_time_points=row.num_time_points)
    _check(row, set_aside_kind(facts), fields.sequence, fields.technique)


def test_b_value_of_next_to_nothing_is_not_told():
    fields = fields_from_dicom(_header({"DiffusionBValue": 0.002}))
    assert fields.diffusion_b_value_s_per_mm2 is None
    assert fields_from_dicom(_header({"DiffusionBValue": 5})).diffusion_b_value_s_per_mm2 == 5


@pytest.mark.parametrize(
    ("part", "expected"),
    [(0, None), (1, "phase image"), (2, "real part"), (3, "imaginary part")],
)
def test_ge_tells_parts_of_a_complex_image_by_a_number_of_its_own(part, expected):
    header = _header({"Manufacturer": "GE MEDICAL SYSTEMS"})
    header.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    header.add_new((0x0043, 0x102F), "SS", part)
    assert derived_kind(header) == expected
    header.Manufacturer = "SIEMENS"  # for whom the number means something else
    assert derived_kind(header) is None


@pytest.mark.parametrize("name", ["MAGNETOM Terra.X", "MAGNETOM Cima.X", "MAGNETOM Free.Max"])
def test_models_with_a_point_in_their_names_are_known(name):
    assert model_name(name) == name


def test_no_rule_stands_in_the_shadow_of_an_equal_one():
    for table in (SET_ASIDE, SEQUENCE_RULES):
        types = [value for rule in table for value in rule.types]
        assert len(types) == len(set(types))
