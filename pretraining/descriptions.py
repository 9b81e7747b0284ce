"""Imaging descriptions: which sequence a volume is and how the scanner was set, in words.

Only what is listed here is ever read from a header, and each value must be of its kind: a number,
or words from `curation.terms`. So no name, date, place, serial number or free text can pass, and
nothing says which part of the body is shown.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from pretraining.curation.terms import (
    CONTRAST_AGENTS,
    MANUFACTURERS,
    MODEL_WORDS,
    SEQUENCES,
    TECHNIQUES,
)

UNKNOWN_SEQUENCE = "unknown weighting"
DIMENSIONS = ("2D", "3D")


@dataclass(frozen=True, kw_only=True)
class ImagingFields:
    """What a description may say; None where the source does not tell."""

    sequence: str = UNKNOWN_SEQUENCE
    technique: str | None = None  # such as "gradient echo"
    dimensions: str | None = None  # of the acquisition, "2D" or "3D"
    contrast_agent: str | None = None
    manufacturer: str | None = None
    model: str | None = None
    field_strength_t: float | None = None
    repetition_time_ms: float | None = None
    echo_time_ms: float | None = None
    inversion_time_ms: float | None = None
    flip_angle_deg: float | None = None
    diffusion_b_value_s_per_mm2: float | None = None
    slice_thickness_mm: float | None = None
    # of the source, to the right, anterior, superior
    spacing_mm: tuple[float, float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are known, JSON-able."""
        return {name: value for name, value in asdict(self).items() if value is not None}


_WORDS = (  # field, its label in a description
    ("technique", "Technique"),
    ("dimensions", "Acquisition"),
    ("contrast_agent", "Contrast agent"),
    ("manufacturer", "Manufacturer"),
    ("model", "Model"),
)
_PARAMETERS = (  # field, its label, its unit
    ("field_strength_t", "Field strength", "T"),
    ("repetition_time_ms", "Repetition time", "ms"),
    ("echo_time_ms", "Echo time", "ms"),
    ("inversion_time_ms", "Inversion time", "ms"),
    ("flip_angle_deg", "Flip angle", "degrees"),
    ("diffusion_b_value_s_per_mm2", "Diffusion b-value", "s/mm2"),
    ("slice_thickness_mm", "Slice thickness", "mm"),
)


def describe(fields: ImagingFields) -> str:
    """Say in words what a volume is and how it was acquired.

    Source: Triad, section 4.1 (the imaging modality and the device's parameters, independent of the
    organ). The paper does not give the wording.

    Args:
        fields: what the source tells; what it does not tell is left out.

    Returns:
        Sentences such as "MRI, T1-weighted. Field strength: 3 T. Repetition time: 2300 ms.";
        equal settings give equal texts, since numbers have four significant digits.
    """
    sentences = [f"MRI, {fields.sequence}"]
    for name, label in _WORDS:
        if (value := getattr(fields, name)) is not None:
            sentences.append(f"{label}: {value}")
    for name, label, unit in _PARAMETERS:
        if (value := getattr(fields, name)) is not None:
            rounded = float(f"{value:.4g}")
            sentences.append(f"{label}: {rounded:g} {unit}")
    if fields.spacing_mm is not None:
        spacing = " x ".join(f"{value:.3g}" for value in fields.spacing_mm)
        sentences.append(f"Voxel spacing: {spacing} mm")
    return ". ".join(sentences) + "."


def sequence_from_times(
    repetition_ms: float | None, echo_ms: float | None, inversion_ms: float | None
) -> str:
    """Name the weighting from the times, by the textbook's thresholds for spin echo."""
    if inversion_ms is not None and inversion_ms >= 1500 and echo_ms is not None and echo_ms >= 60:
        return SEQUENCES["flair"]
    if inversion_ms is not None and 400 <= inversion_ms < 1500:
        return SEQUENCES["t1w"]
    if repetition_ms is None or echo_ms is None:
        return UNKNOWN_SEQUENCE
    if repetition_ms < 1000 and echo_ms < 30:
        return SEQUENCES["t1w"]
    if repetition_ms >= 2000 and echo_ms >= 60:
        return SEQUENCES["t2w"]
    if repetition_ms >= 2000 and echo_ms < 30:
        return SEQUENCES["pdw"]
    return UNKNOWN_SEQUENCE


def positive_number(value: Any, factor: float = 1.0) -> float | None:
    """Return a number above 0 times a factor, to six digits; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not math.isfinite(value) or value <= 0:
        return None
    return float(f"{value * factor:.6g}")


def technique_words(codes: Iterable[str]) -> str | None:
    """Return the words for codes of `ScanningSequence`; None where none is known."""
    return ", ".join(TECHNIQUES[code] for code in sorted(codes) if code in TECHNIQUES) or None


def contrast_agent_word(value: Any) -> str | None:
    """Return the ingredient's name when it is a known one."""
    return CONTRAST_AGENTS.get(value.strip().upper()) if isinstance(value, str) else None


def manufacturer_name(value: Any) -> str | None:
    """Return our name of a known manufacturer, however the header spells it."""
    text = value.strip().lower() if isinstance(value, str) else ""
    if text == "ge":
        return MANUFACTURERS["ge medical"]
    return next((name for part, name in MANUFACTURERS.items() if part in text), None)


def model_name(value: Any) -> str | None:
    """Return the known words of a scanner's name; every other word is dropped."""
    if not isinstance(value, str):
        return None
    words = re.split(r"[^A-Za-z0-9.]+", value)
    return " ".join(word for word in words if word.lower() in MODEL_WORDS) or None
