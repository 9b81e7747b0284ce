"""The allowed fields of a DICOM header. Nothing else of a header reaches the store."""

import re
from collections.abc import Iterator
from typing import Any

import pydicom
from pydicom.tag import Tag

from pretraining.curation.dicom_scan import UNREADABLE
from pretraining.curation.sequence_rules import Cues, sequence_of
from pretraining.descriptions import (
    DIMENSIONS,
    ImagingFields,
    contrast_agent_word,
    manufacturer_name,
    model_name,
    positive_number,
    technique_words,
)

# b-value: the standard's tag, then Siemens', GE's and Philips' own.
_B_VALUES = (Tag(0x0018, 0x9087), Tag(0x0019, 0x100C), Tag(0x0043, 0x1039), Tag(0x2001, 0x1003))
_GE_B_VALUE_OFFSET = 1_000_000_000  # GE adds multiples of it
# A vendor's name of the pulse sequence: standard, Siemens and GE, GE, Philips.
_SEQUENCE_NAMES = (
    Tag(0x0018, 0x0024),
    Tag(0x0018, 0x9005),
    Tag(0x0019, 0x109C),
    Tag(0x2001, 0x1020),
)
_GADOLINIUM = re.compile(
    r"gado|gd|magnevist|dotarem|multihance|prohance|omniscan|[ep]ovist|primovist|clariscan|"
    r"eovist|ablavar|vasovist|optimark|artirem|elucirem|vueway",
    re.IGNORECASE,
)
_NO_AGENT = frozenset(("", "no", "none", "n", "without", "0", "na", "n/a"))
_GAUSS_PER_TESLA = 10_000
_HIGHEST_FIELD_T = 100  # a larger number is in gauss
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

# Value of ImageType -> what such an image is. ADC maps are images for us, as in the paper.
_DERIVED = {
    "FA": "fractional anisotropy map",
    "COLFA": "fractional anisotropy map",
    "TENSOR": "diffusion tensor",
    "TENSOR_B0": "diffusion tensor",
    "EADC": "exponential ADC map",
    "MIP": "maximum intensity projection",
    "MNIP": "minimum intensity projection",
    "MINIP": "minimum intensity projection",
    "PROJECTION IMAGE": "projection",
    "MPR": "reformat",
    "REFORMATTED": "reformat",
    "CURVED": "reformat",
    "SUB": "subtraction",
    "SUBTRACT": "subtraction",
    "SUBTRACTION": "subtraction",
    "CBF": "perfusion map",
    "CBV": "perfusion map",
    "MTT": "perfusion map",
    "TTP": "perfusion map",
    "RELCBF": "perfusion map",
    "RELCBV": "perfusion map",
    "RELMTT": "perfusion map",
    "GBP": "perfusion map",
    "PBP": "perfusion map",
    "T1 MAP": "T1 map",
    "T2 MAP": "T2 map",
    "T2_STAR MAP": "T2* map",
    "R2_STAR MAP": "R2* map",
    "T2 STAR MAP": "T2* map",
    "T_TEST": "activation map",
    "TTEST": "activation map",
    "T_MAP": "activation map",
    "PHASE": "phase image",
    "PHASE MAP": "phase image",
    "VELOCITY MAP": "velocity map",
    "REAL": "real part",
    "IMAGINARY": "imaginary part",
    "P": "phase image",
    "R": "real part",
    "I": "imaginary part",
    "FIELD_MAP": "field map",
    "B0 MAP": "field map",
    "B1 MAP": "field map",
    "CSA REPORT": "report",
    "SCREEN SAVE": "screenshot",
    "SECONDARY CAPTURE": "screenshot",
}
_DERIVED_TEXT = (
    (re.compile(r"(?<![a-z])(sub|subtr|subtraction|subtracted)(?![a-z])"), "subtraction"),
    (re.compile(r"(?<![a-z])(mip|mips)(?![a-z])"), "maximum intensity projection"),
)


def derived_kind(header: pydicom.Dataset) -> str | None:
    """Return what an image that was computed from others is; None for acquired images and ADC."""
    if str(header.get("SOPClassUID") or "").startswith(_SECONDARY_CAPTURE):
        return "screenshot"
    values = [str(value).upper() for value in _values(header.get("ImageType"))]
    for value in values[2:]:  # the first two say original or derived, primary or secondary
        if value in _DERIVED:
            return _DERIVED[value]
    text = str(header.get("SeriesDescription") or "").lower()
    if values[:1] == ["DERIVED"]:
        return next((kind for pattern, kind in _DERIVED_TEXT if pattern.search(text)), None)
    return None


def fields_from_dicom(
    header: pydicom.Dataset,
    *,
    spacing_mm: tuple[float, float, float] | None = None,
    num_time_points: int = 1,
) -> ImagingFields:
    """Read the allowed fields of a classic or enhanced header, and nothing else.

    Args:
        header: of one slice, or of an enhanced image.
        spacing_mm: of the volume, x y z.
        num_time_points: of the series.
    """
    look = _Lookup(header)
    times = {
        "repetition_time_ms": positive_number(look.number("RepetitionTime")),
        "echo_time_ms": positive_number(look.number("EchoTime", "EffectiveEchoTime")),
        "inversion_time_ms": positive_number(look.number("InversionTime", "InversionTimes")),
    }
    b_value = positive_number(_b_value(header, look))
    agent = look.text("ContrastBolusAgent").strip()
    techniques = _techniques(look)
    cues = Cues(
        text=_text(header, look),
        image_type=frozenset(str(value).upper() for value in _values(header.get("ImageType"))),
        techniques=techniques,
        contrast=look.text("AcquisitionContrast").upper(),
        b_value=b_value or 0.0,
        has_contrast_agent=agent.lower() not in _NO_AGENT,
        num_time_points=num_time_points,
        **times,
    )
    dimensions = look.text("MRAcquisitionType")
    return ImagingFields(
        sequence=sequence_of(cues),
        technique=technique_words(sorted(techniques)),
        dimensions=dimensions if dimensions in DIMENSIONS else None,
        contrast_agent=_agent(look, agent),
        manufacturer=manufacturer_name(look.text("Manufacturer")),
        model=model_name(look.text("ManufacturerModelName")),
        field_strength_t=_field_strength_t(look),
        flip_angle_deg=positive_number(look.number("FlipAngle")),
        diffusion_b_value_s_per_mm2=b_value,
        slice_thickness_mm=positive_number(look.number("SliceThickness")),
        spacing_mm=spacing_mm,
        **times,
    )


class _Lookup:
    """Values of a header by keyword, in the functional groups of enhanced images too."""

    def __init__(self, header: pydicom.Dataset) -> None:
        self.places = [header, *_group_items(header)]

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


def _group_items(header: pydicom.Dataset) -> Iterator[pydicom.Dataset]:
    """Yield the items of the shared groups, and of the first frame's."""
    for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in list(header.get(name) or [])[:1]:
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


def _techniques(look: _Lookup) -> frozenset[str]:
    """Return codes of `ScanningSequence`; enhanced images say the same in other words."""
    codes = {str(code).upper() for code in _values(look.value("ScanningSequence"))}
    echo = look.text("EchoPulseSequence").upper()
    codes |= {"SPIN": {"SE"}, "GRADIENT": {"GR"}, "BOTH": {"SE", "GR"}}.get(echo, set())
    if look.text("EchoPlanarPulseSequence").upper() == "YES":
        codes.add("EP")
    if look.text("InversionRecovery").upper() == "YES":
        codes.add("IR")
    return frozenset(codes)


def _text(header: pydicom.Dataset, look: _Lookup) -> str:
    """Return the words in which known terms are searched."""
    texts = [look.text("SeriesDescription"), look.text("ProtocolName")]
    texts += [_decoded(header[tag].value) for tag in _SEQUENCE_NAMES if tag in header]
    return " | ".join(texts).lower()


def _agent(look: _Lookup, agent: str) -> str | None:
    word = contrast_agent_word(look.text("ContrastBolusIngredient"))
    return word or ("gadolinium" if _GADOLINIUM.search(agent) else None)


def _field_strength_t(look: _Lookup) -> float | None:
    number = look.number("MagneticFieldStrength")
    if number is not None and number > _HIGHEST_FIELD_T:
        number /= _GAUSS_PER_TESLA
    return positive_number(number)
