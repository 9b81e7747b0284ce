"""The allowed fields of a DICOM header. Nothing else of a header reaches the store."""

from collections.abc import Iterator
from typing import Any

import pydicom
from pydicom.tag import Tag

from pretraining.curation.dicom_scan import UNREADABLE
from pretraining.curation.fields import has_agent, imaging_fields
from pretraining.curation.sequence_rules import (
    Cues,
    contrast_of,
    set_aside_as,
    techniques_of,
    text_of,
    types_of,
)
from pretraining.descriptions import ImagingFields, manufacturer_name, positive_number

# b-value: the standard's tag, then Siemens', GE's, Philips' and United Imaging's own.
_B_VALUES = (
    *(Tag(0x0018, 0x9087), Tag(0x0019, 0x100C), Tag(0x0043, 0x1039), Tag(0x2001, 0x1003)),
    Tag(0x0065, 0x1009),
)
_GE_B_VALUE_OFFSET = 1_000_000_000  # GE adds multiples of it
# A vendor's name of the pulse sequence: standard, Siemens and GE, GE, Philips.
_SEQUENCE_NAMES = (
    Tag(0x0018, 0x0024),
    Tag(0x0018, 0x9005),
    Tag(0x0019, 0x109C),
    Tag(0x2001, 0x1020),
)
_GE_PART = Tag(0x0043, 0x102F)  # of a complex image
_GE_PARTS = ("MAGNITUDE", "PHASE", "REAL", "IMAGINARY")
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def derived_kind(header: pydicom.Dataset, *, frame: int = 0) -> str | None:
    """Return what an image is that is no acquired one; None for acquired images and ADC.

    Args:
        header: of one slice, or of an enhanced image.
        frame: of an enhanced image; it may hold frames of several kinds.
    """
    if str(header.get("SOPClassUID") or "").startswith(_SECONDARY_CAPTURE):
        return "screenshot"
    return set_aside_as(cues_from_dicom(header, frame=frame))


def cues_from_dicom(header: pydicom.Dataset, *, num_time_points: int = 1, frame: int = 0) -> Cues:
    """Bring a header to the form that the rules know; see `fields_from_dicom`."""
    look = _Lookup(header, frame)
    image_type = [str(value) for value in _values(look.value("FrameType"))]
    if len(image_type) < 3:
        image_type = [str(value) for value in _values(header.get("ImageType"))]
    # the first two say original or derived, primary or secondary
    types = types_of([*image_type[2:], look.text("ComplexImageComponent"), *_ge_part(header)])
    text = _text(header, look)
    return Cues(
        text=text,
        types=types,
        techniques=techniques_of(_techniques(look), text),
        contrast=contrast_of(look.text("AcquisitionContrast"), types),
        repetition_time_ms=positive_number(look.number("RepetitionTime")),
        echo_time_ms=positive_number(look.number("EffectiveEchoTime", "EchoTime")),
        inversion_time_ms=positive_number(look.number("InversionTime", "InversionTimes")),
        b_value=positive_number(_b_value(header, look)) or 0.0,
        has_contrast_agent=has_agent([look.text("ContrastBolusAgent")]),
        num_time_points=num_time_points,
        is_derived=[value.upper() for value in image_type[:1]] == ["DERIVED"],
        is_labelled=any("ASLContext" in place for place in look.places),
    )


def fields_from_dicom(
    header: pydicom.Dataset, *, num_time_points: int = 1, frame: int = 0
) -> ImagingFields:
    """Read the allowed fields of a classic or enhanced header, and nothing else.

    Args:
        header: of one slice, or of an enhanced image.
        num_time_points: of the series.
        frame: of an enhanced image, whose times count.
    """
    look = _Lookup(header, frame)
    texts = {
        "Model": look.text("ManufacturerModelName"),
        **{
            name: look.text(name)
            for name in (
                *("MRAcquisitionType", "Manufacturer"),
                *("ContrastBolusAgent", "ContrastBolusIngredient"),
            )
        },
    }
    numbers = {
        name: look.number(name) for name in ("MagneticFieldStrength", "FlipAngle", "SliceThickness")
    }
    cues = cues_from_dicom(header, num_time_points=num_time_points, frame=frame)
    return imaging_fields(cues, texts, numbers)


class _Lookup:
    """Values of a header by keyword, in the functional groups of enhanced images too."""

    def __init__(self, header: pydicom.Dataset, frame: int = 0) -> None:
        self.places = [*_group_items(header, frame), header]

    def value(self, *keywords: str) -> Any:
        """Return the first value that is there, None when none is."""
        for place in self.places:
            for keyword in keywords:
                try:
                    value = place.get(keyword)
                except UNREADABLE:
                    continue
                if value is not None and value != "":
                    return value
        return None

    def number(self, *keywords: str) -> float | None:
        """Return the first value as a number, of a list its first."""
        return _to_number(next(iter(_values(self.value(*keywords))), None))

    def text(self, *keywords: str) -> str:
        """Return the first value as text, "" when none is there."""
        value = self.value(*keywords)
        return value if isinstance(value, str) else ""


def _group_items(header: pydicom.Dataset, frame: int) -> Iterator[pydicom.Dataset]:
    """Yield the items of a frame's groups, and of the shared ones; the nearest first."""
    for name, index in (
        ("PerFrameFunctionalGroupsSequence", frame),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        for group in list(header.get(name) or [])[index : index + 1]:
            for element in group:
                if element.VR == "SQ" and len(element.value):
                    yield element.value[0]


def _values(value: Any) -> list[Any]:
    """Return the values of an element that may have one, several or none."""
    if value is None:
        return []
    if isinstance(value, str | bytes):
        return [value]
    try:
        return list(value)
    except TypeError:
        return [value]


def _to_number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _b_value(header: pydicom.Dataset, look: _Lookup) -> float | None:
    number = look.number("DiffusionBValue")
    for tag in _B_VALUES:
        if number is None and tag in header:
            value = header[tag].value
            parts = _decoded(value).split("\\") if isinstance(value, bytes) else _values(value)
            number = _to_number(parts[0] if parts else None)
    return None if number is None else number % _GE_B_VALUE_OFFSET


def _decoded(value: Any) -> str:
    """Return a value as text; private tags of implicit files come as bytes."""
    return value.decode("ascii", "ignore") if isinstance(value, bytes) else str(value)


def _techniques(look: _Lookup) -> set[str]:
    """Return codes of `ScanningSequence`; enhanced images say the same in other words."""
    codes = {str(code).upper() for code in _values(look.value("ScanningSequence"))}
    echo = look.text("EchoPulseSequence").upper()
    codes |= {"SPIN": {"SE"}, "GRADIENT": {"GR"}, "BOTH": {"SE", "GR"}}.get(echo, set())
    if look.text("EchoPlanarPulseSequence").upper() == "YES":
        codes.add("EP")
    if look.text("InversionRecovery").upper() == "YES":
        codes.add("IR")
    return codes


def _text(header: pydicom.Dataset, look: _Lookup) -> str:
    """Return the words in which known terms are searched."""
    texts = [look.text("SeriesDescription"), look.text("ProtocolName")]
    texts += [_decoded(header[tag].value) for tag in _SEQUENCE_NAMES if tag in header]
    return text_of(texts)


def _ge_part(header: pydicom.Dataset) -> list[str]:
    """Return which part of a complex image GE's own tag says it is; [] where it says nothing."""
    if _GE_PART not in header or manufacturer_name(header.get("Manufacturer")) != "GE":
        return []
    number = _to_number(next(iter(_values(header[_GE_PART].value)), None))
    is_known = number is not None and number in range(len(_GE_PARTS))
    return [_GE_PARTS[int(number)]] if is_known and number is not None else []
