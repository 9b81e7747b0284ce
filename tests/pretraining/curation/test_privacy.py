"""Nothing personal of a header reaches the store, whatever tag it stands in."""

import pydicom
import pytest
from pydicom.datadict import DicomDictionary, dictionary_keyword, get_entry
from pydicom.tag import Tag

from nnunet_triad.phantom.dicom import DicomOptions, write_dicom_series

MARKER = "Zz9MARKERq"
# What a value of a kind may be, with the marker in it. Numbers, dates and binary kinds hold no
# words; theirs is a number that nothing else in a store has.
_TEXT_KINDS = {"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
_NUMBER = "73197319"
_NUMBER_KINDS = {"DS": _NUMBER, "IS": _NUMBER, "DA": "19531117", "TM": "031907", "DT": "19531117"}
_DATE = "19531117"
# Read, checked against closed lists or ranges, and needed to be an image at all.
_NEEDED = {
    "Modality",
    "SOPClassUID",
    "ImageType",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "PixelRepresentation",
}
# Numbers that a description is there to tell.
_TOLD = {
    "RepetitionTime",
    "EchoTime",
    "EffectiveEchoTime",
    "InversionTime",
    "FlipAngle",
    "SliceThickness",
    "MagneticFieldStrength",
    "DiffusionBValue",
}


def fill(dataset: pydicom.Dataset) -> int:
    """Set every tag of the dictionary that may hold words or digits; return how many."""
    num_filled = 0
    for number in DicomDictionary:
        tag = Tag(number)
        kind, *_ = get_entry(tag)
        keyword = dictionary_keyword(tag)
        is_kept = tag.group in (0x0002, 0x0028, 0x7FE0) or keyword in _NEEDED | _TOLD
        if is_kept or tag.group == 0 or keyword.startswith("ImagePosition"):
            continue
        if keyword in ("ImageOrientationPatient", "SpacingBetweenSlices", "InstanceNumber"):
            continue
        value = MARKER if kind in _TEXT_KINDS else _NUMBER_KINDS.get(kind)
        if value is None:
            continue
        dataset.add_new(tag, kind, value)
        num_filled += 1
    block = dataset.private_block(0x0011, f"{MARKER} CREATOR", create=True)
    block.add_new(0x01, "LO", MARKER)
    return num_filled


@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_no_marker_of_any_tag_and_no_path_is_in_the_store(
    brain, tmp_path, curate_tree, monkeypatch, kind
):
    monkeypatch.setattr(pydicom.config.settings, "writing_validation_mode", 0)
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", 0)
    folder = tmp_path / "source" / f"{MARKER}^Patient" / "study"
    for path in write_dicom_series(brain, folder, options=DicomOptions(kind=kind)):
        dataset = pydicom.dcmread(path)
        assert fill(dataset) > 2000
        dataset.save_as(path)
    (folder / f"{MARKER}.dcm").touch()  # to be set aside
    store, _ = curate_tree(tmp_path / "source", tmp_path / "here" / "store")
    assert len(store) == 1
    for path in store.path.rglob("*"):
        assert MARKER.lower() not in str(path.relative_to(store.path)).lower()
        if path.is_file() and path.suffix != ".b2nd":
            content = path.read_bytes().decode(errors="ignore").lower()
            for personal in (MARKER.lower(), _NUMBER, _DATE):
                assert personal not in content, path
    # The table of paths is meant to tell them; it lies outside of the store.
    assert MARKER in (tmp_path / "here" / "store_paths.csv").read_text()


def test_no_body_part_is_in_a_description(brain, tmp_path, curate_tree):
    extra = {
        "BodyPartExamined": "PROSTATE",
        "SeriesDescription": "t2_tse_prostate",
        "StudyDescription": "MR pelvis",
        "ProtocolName": "t2_brain_breast",
    }
    write_dicom_series(brain, tmp_path / "source", options=DicomOptions(extra=extra))
    store, _ = curate_tree(tmp_path / "source")
    (description,) = store.records["description"]
    assert "T2-weighted" in description
    for organ in ("prostate", "pelvis", "brain", "breast"):
        assert organ not in description.lower()
