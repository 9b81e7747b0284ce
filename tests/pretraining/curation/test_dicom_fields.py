"""The rule table on tags as scanners of three vendors write them, and on what they call derived."""

from dataclasses import replace

import pydicom
import pytest

from nnunet_triad import phantom
from nnunet_triad.phantom.dicom_header import make_header
from pretraining.curation.dicom_fields import derived_kind, fields_from_dicom
from pretraining.curation.sequence_rules import SEQUENCE_RULES
from pretraining.curation.terms import SEQUENCES

T1, T1CE, T2 = "T1-weighted", "contrast-enhanced T1-weighted", "T2-weighted"
FLAIR = "fluid-attenuated inversion recovery (FLAIR)"
STIR = "short-tau inversion recovery (STIR)"
DWI = "diffusion-weighted imaging (DWI)"
ADC = "apparent diffusion coefficient (ADC) map"
FMRI = "functional MRI (fMRI)"
DCE = "dynamic contrast-enhanced (DCE) T1-weighted"
DSC = "dynamic susceptibility contrast (DSC) perfusion"
SWI = "susceptibility-weighted imaging (SWI)"
MRA = "MR angiography"
T2STAR = "T2*-weighted"
PD = "proton-density-weighted"
ASL = "arterial spin labelling (ASL) perfusion"


def header(
    manufacturer: str, *, tr: float, te: float, private: dict | None = None, **tags: object
) -> pydicom.Dataset:
    dataset = pydicom.Dataset()
    dataset.Manufacturer = manufacturer
    dataset.RepetitionTime, dataset.EchoTime = tr, te
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    for tag, (vr, value) in (private or {}).items():
        dataset.add_new(tag, vr, value)
    return dataset


def siemens(sequence_name: str, scanning: object, **tags: object) -> pydicom.Dataset:
    return header("SIEMENS", SequenceName=sequence_name, ScanningSequence=scanning, **tags)


def ge(sequence_name: str, scanning: object, **tags: object) -> pydicom.Dataset:
    private = {(0x0019, 0x109C): ("LO", sequence_name), **tags.pop("private", {})}
    return header("GE MEDICAL SYSTEMS", ScanningSequence=scanning, private=private, **tags)


def philips(image_type: list[str], scanning: object, **tags: object) -> pydicom.Dataset:
    return header(
        "Philips Medical Systems",
        ImageType=["ORIGINAL", "PRIMARY", *image_type],
        ScanningSequence=scanning,
        **tags,
    )


M_ND = ["ORIGINAL", "PRIMARY", "M", "ND", "NORM"]
CASES = {
    # Siemens
    "mprage": (
        siemens("*tfl3d1_16ns", ["GR", "IR"], tr=2300, te=2.98, InversionTime=900, ImageType=M_ND),
        1,
        T1,
    ),
    "mprage after contrast": (
        siemens(
            "*tfl3d1",
            ["GR", "IR"],
            tr=1900,
            te=3.0,
            InversionTime=900,
            ContrastBolusAgent="Gadovist",
        ),
        1,
        T1CE,
    ),
    "spin echo t1 with an agent by name only": (
        siemens("*se2d1", "SE", tr=500, te=8.9, SeriesDescription="t1_se_tra_KM"),
        1,
        T1CE,
    ),
    "tse t2": (siemens("*tse2d1_15", "SE", tr=4800, te=98, ProtocolName="t2_tse_tra"), 1, T2),
    "tse of the prostate": (siemens("*tse2d1_25", "SE", tr=5660, te=104), 1, T2),
    "dark fluid": (
        siemens("*tir2d1_16", ["SE", "IR"], tr=9000, te=81, InversionTime=2500),
        1,
        FLAIR,
    ),
    "space flair": (
        siemens(
            "*spcir_278ns",
            ["SE", "IR"],
            tr=5000,
            te=388,
            InversionTime=1800,
            SeriesDescription="t2_space_dark-fluid_sag",
        ),
        1,
        FLAIR,
    ),
    "stir": (siemens("*tir2d1_11", ["SE", "IR"], tr=4000, te=35, InversionTime=150), 1, STIR),
    "dwi": (siemens("*ep_b1000t", "EP", tr=6600, te=89), 1, DWI),
    "dwi by private b-value": (
        siemens("*ep2d_x", "EP", tr=6600, te=89, private={(0x0019, 0x100C): ("IS", "800")}),
        1,
        DWI,
    ),
    "trace": (
        siemens(
            "*ep_b50_1400",
            "EP",
            tr=3300,
            te=60,
            ImageType=["DERIVED", "PRIMARY", "DIFFUSION", "TRACEW", "ND", "DIS2D"],
        ),
        1,
        DWI,
    ),
    "adc": (
        siemens(
            "*ep_b50_1400",
            "EP",
            tr=3300,
            te=60,
            ImageType=["DERIVED", "PRIMARY", "DIFFUSION", "ADC", "ND", "DIS2D"],
        ),
        1,
        ADC,
    ),
    "bold": (siemens("*epfid2d1_64", "EP", tr=2000, te=30, ProtocolName="ep2d_bold"), 200, FMRI),
    "bold without a word": (siemens("*x", ["EP", "GR"], tr=800, te=33), 400, FMRI),
    "dsc": (
        siemens(
            "*epfid2d1_128", "EP", tr=1500, te=30, ProtocolName="ep2d_perf", ContrastBolusAgent="G"
        ),
        50,
        DSC,
    ),
    "swi": (siemens("*swi3d1r", "GR", tr=28, te=20), 1, SWI),
    "tof": (siemens("*fi3d1_ts", "GR", tr=22, te=3.8, ProtocolName="TOF_3D_multi-slab"), 1, MRA),
    "vibe": (siemens("*fl3d1_ns", "GR", tr=4.4, te=1.6, ProtocolName="t1_vibe_fs_tra"), 1, T1),
    "dce of the breast": (
        siemens("*fl3d1", "GR", tr=5.2, te=2.4, ContrastBolusAgent="Magnevist"),
        6,
        DCE,
    ),
    "hemo": (siemens("*fl2d1", "GR", tr=620, te=20, ProtocolName="t2_fl2d_tra_hemo"), 1, T2STAR),
    "pasl": (siemens("*epfid2d1_64", "EP", tr=2500, te=11, ProtocolName="ep2d_pasl"), 91, ASL),
    "asl calibration": (
        siemens("*epfid2d1_64", "EP", tr=4000, te=11, SeriesDescription="m0scan_pcasl"),
        1,
        "arterial spin labelling (ASL) calibration",
    ),
    "proton density": (siemens("*tse2d1_5", "SE", tr=3000, te=11, ProtocolName="pd_tse"), 1, PD),
    # GE
    "bravo": (ge("BRAVO", "GR", tr=8.2, te=3.2, InversionTime=450, FlipAngle=12), 1, T1),
    "spgr": (ge("SPGR", "GR", tr=34, te=5), 1, T1),
    "frfse": (ge("FRFSE-XL", "SE", tr=4200, te=100, SeriesDescription="AX T2 FRFSE"), 1, T2),
    "t2 flair": (
        ge(
            "FLAIR",
            ["SE", "IR"],
            tr=10002,
            te=120,
            InversionTime=2200,
            SeriesDescription="AX FLAIR",
        ),
        1,
        FLAIR,
    ),
    "t1 flair is t1": (
        ge(
            "FSE-XL",
            ["SE", "IR"],
            tr=2500,
            te=24,
            InversionTime=860,
            SeriesDescription="AX T1 FLAIR",
        ),
        1,
        T1,
    ),
    "ge dwi": (
        ge(
            "EPI2",
            ["EP", "SE"],
            tr=8000,
            te=75,
            private={(0x0043, 0x1039): ("IS", ["1000001000", "8", "0", "0"])},
        ),
        1,
        DWI,
    ),
    "ge adc": (
        ge(
            "EPI2",
            ["EP", "SE"],
            tr=8000,
            te=75,
            SeriesDescription="Apparent Diffusion Coefficient (mm2/s)",
        ),
        1,
        ADC,
    ),
    "swan": (ge("SWAN", "GR", tr=78, te=51, SeriesDescription="SWAN"), 1, SWI),
    "vibrant": (
        ge("VIBRANT", "GR", tr=5.5, te=2.7, ContrastBolusAgent="MULTIHANCE"),
        5,
        DCE,
    ),
    "ge gre": (ge("MFGRE", "GR", tr=600, te=20, SeriesDescription="AX GRE"), 1, T2STAR),
    # Philips
    "t1 tfe": (
        philips(["M_FFE", "M", "FFE"], "GR", tr=8.1, te=3.7, ProtocolName="sT1W_3D_TFE"),
        1,
        T1,
    ),
    "t2 tse": (philips(["M_SE", "M", "SE"], "SE", tr=3000, te=80, ProtocolName="T2W_TSE"), 1, T2),
    "philips flair": (
        philips(["M_IR", "M", "IR"], "IR", tr=11000, te=125, InversionTime=2800),
        1,
        FLAIR,
    ),
    "thrive": (
        philips(["M_FFE", "M", "FFE"], "GR", tr=3.9, te=1.9, ProtocolName="dyn_eTHRIVE"),
        6,
        DCE,
    ),
    "philips dwi": (
        philips(
            ["M_SE", "M", "SE"], "SE", tr=3500, te=70, private={(0x2001, 0x1003): ("FL", 1000.0)}
        ),
        1,
        DWI,
    ),
    "philips adc": (
        philips(["ADC", "M", "ADC"], "SE", tr=3500, te=70, ProtocolName="dADC"),
        1,
        ADC,
    ),
    "feepi": (philips(["M_FFE", "M", "FFE"], ["EP", "GR"], tr=3000, te=35), 120, FMRI),
    # Times alone, from anybody
    "short times": (header("Nobody", tr=550, te=12, ScanningSequence="SE"), 1, T1),
    "long times": (header("Nobody", tr=4000, te=100, ScanningSequence="SE"), 1, T2),
    "long and short": (header("Nobody", tr=3000, te=14, ScanningSequence="SE"), 1, PD),
    "between": (header("Nobody", tr=1500, te=40, ScanningSequence="SE"), 1, "unknown weighting"),
}


@pytest.mark.parametrize(
    ("dataset", "num_time_points", "expected"), list(CASES.values()), ids=list(CASES)
)
def test_sequence_of_real_tags(dataset, num_time_points, expected):
    assert fields_from_dicom(dataset, num_time_points=num_time_points).sequence == expected


def test_each_rule_names_a_known_sequence_and_is_met_by_a_case():
    assert {rule.name for rule in SEQUENCE_RULES} <= set(SEQUENCES)
    met = {expected for _, _, expected in CASES.values()}
    # What scanners mark by a word that no other rule could take.
    assert {SEQUENCES[rule.name] for rule in SEQUENCE_RULES} - met == {SEQUENCES["mp2rage"]}


def test_fields_are_numbers_in_our_units():
    dataset = siemens(
        "*tfl3d1_16ns",
        ["GR", "IR"],
        tr="2300.0",
        te="2.98",
        InversionTime="900",
        FlipAngle="9",
        MagneticFieldStrength="30000",  # gauss, as some scanners write it
        SliceThickness="1.2",
        MRAcquisitionType="3D",
        ManufacturerModelName="Prisma_fit",
    )
    fields = fields_from_dicom(dataset)
    assert fields.to_dict() == {
        "sequence": T1,
        "technique": "gradient echo, inversion recovery",
        "dimensions": "3D",
        "manufacturer": "Siemens",
        "model": "Prisma fit",
        "field_strength_t": 3.0,
        "repetition_time_ms": 2300.0,
        "echo_time_ms": 2.98,
        "inversion_time_ms": 900.0,
        "flip_angle_deg": 9.0,
        "slice_thickness_mm": 1.2,
    }


def test_gadolinium_is_named_by_its_brands_and_no_agent_is_none():
    agents = {"DOTAREM 0.5 mmol/ml": "gadolinium", "no": None, "12 ml of something": None}
    for text, expected in agents.items():
        dataset = siemens("*fl3d1", "GR", tr=5, te=2, ContrastBolusAgent=text)
        assert fields_from_dicom(dataset).contrast_agent == expected


def test_odd_values_are_left_out():
    dataset = header("SIEMENS", tr=-1, te=0, ScanningSequence="XX", MRAcquisitionType="4D")
    dataset.FlipAngle = None
    known = fields_from_dicom(dataset).to_dict()
    assert known == {"sequence": "unknown weighting", "manufacturer": "Siemens"}


@pytest.mark.parametrize(
    ("image_type", "description", "expected"),
    [
        (["ORIGINAL", "PRIMARY", "M", "ND"], "", None),
        (["DERIVED", "SECONDARY", "OTHER"], "AX T1", None),
        (["DERIVED", "PRIMARY", "DIFFUSION", "ADC", "ND"], "", None),
        (["DERIVED", "PRIMARY", "DIFFUSION", "FA", "ND"], "", "fractional anisotropy map"),
        (["DERIVED", "PRIMARY", "MPR", "ND"], "", "reformat"),
        (["DERIVED", "PRIMARY", "PROJECTION IMAGE", "MIP"], "", "projection"),
        (["DERIVED", "SECONDARY", "M", "ND"], "t1_dyn_SUB", "subtraction"),
        (["ORIGINAL", "PRIMARY", "M", "ND"], "subcutaneous fat", None),
        (["ORIGINAL", "PRIMARY", "P", "ND"], "", "phase image"),
        (["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE"], "", "phase image"),
        (["DERIVED", "SECONDARY", "RELCBV"], "", "perfusion map"),
        (["DERIVED", "PRIMARY", "T2 MAP"], "", "T2 map"),
    ],
)
def test_derived_kind_of_image_types(image_type, description, expected):
    dataset = pydicom.Dataset()
    dataset.ImageType = image_type
    dataset.SeriesDescription = description
    assert derived_kind(dataset) == expected


def test_derived_kind_of_a_secondary_capture_is_a_screenshot():
    dataset = pydicom.Dataset()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    assert derived_kind(dataset) == "screenshot"


PHANTOM_SEQUENCES = {
    "T1w": T1,
    "T1se": T1,
    "T1ce": T1CE,
    "T2w": T2,
    "PDw": PD,
    "FLAIR": FLAIR,
    "STIR": STIR,
    "T2starw": T2STAR,
}


@pytest.mark.parametrize("name", list(PHANTOM_SEQUENCES))
@pytest.mark.parametrize("scanner", phantom.SCANNERS, ids=lambda scanner: scanner.model)
def test_sequence_of_the_phantoms_headers_of_each_vendor(brain, name, scanner):
    volume = replace(brain, sequence=phantom.SEQUENCES[name], scanner=scanner)
    dataset = make_header(volume, series_number=1, image_type=("ORIGINAL", "PRIMARY", "M", "ND"))
    assert fields_from_dicom(dataset).sequence == PHANTOM_SEQUENCES[name]
    for keyword in ("SeriesDescription", "ProtocolName"):  # without words, by the settings alone
        setattr(dataset, keyword, "")
    found = fields_from_dicom(dataset).sequence
    # An echo time of 35 ms lies between the textbook's proton density and T2.
    assert found == PHANTOM_SEQUENCES[name] or (name == "PDw" and found == "unknown weighting")
