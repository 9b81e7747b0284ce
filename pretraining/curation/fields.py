"""From what a header or a sidecar says to the fields of a description: one way for both."""

import re
from collections.abc import Iterable, Mapping

from pretraining.curation.sequence_rules import LEAST_B_VALUE, Cues, sequence_of
from pretraining.descriptions import (
    DIMENSIONS,
    ImagingFields,
    contrast_agent_word,
    manufacturer_name,
    model_name,
    positive_number,
    technique_words,
)

_GADOLINIUM = re.compile(
    r"gado|gd|magnevist|dotarem|multihance|prohance|omniscan|[ep]ovist|primovist|clariscan|"
    r"eovist|ablavar|vasovist|optimark|artirem|elucirem|vueway",
    re.IGNORECASE,
)
_NO_AGENT = frozenset(("", "no", "none", "n", "without", "0", "na", "n/a"))
_GAUSS_PER_TESLA = 10_000
_HIGHEST_FIELD_T = 100  # a larger number is in gauss


def imaging_fields(
    cues: Cues,
    texts: Mapping[str, str],
    numbers: Mapping[str, float | None],
    *,
    sequence: str | None = None,
) -> ImagingFields:
    """Return what a description may say.

    Args:
        cues: see there.
        texts: free texts by the header's keywords: MRAcquisitionType, Manufacturer, Model,
            ContrastBolusAgent, ContrastBolusIngredient.
        numbers: by the header's keywords: MagneticFieldStrength (T or gauss), FlipAngle,
            SliceThickness (mm).
        sequence: in words, where a name decides; default: the rules do.
    """
    dimensions = texts.get("MRAcquisitionType", "")
    return ImagingFields(
        sequence=sequence or sequence_of(cues),
        technique=technique_words(cues.techniques),
        dimensions=dimensions if dimensions in DIMENSIONS else None,
        contrast_agent=_agent(texts),
        manufacturer=manufacturer_name(texts.get("Manufacturer")),
        model=model_name(texts.get("Model")),
        field_strength_t=_field_strength_t(numbers.get("MagneticFieldStrength")),
        repetition_time_ms=cues.repetition_time_ms,
        echo_time_ms=cues.echo_time_ms,
        inversion_time_ms=cues.inversion_time_ms,
        flip_angle_deg=positive_number(numbers.get("FlipAngle")),
        diffusion_b_value_s_per_mm2=cues.b_value if cues.b_value >= LEAST_B_VALUE else None,
        slice_thickness_mm=positive_number(numbers.get("SliceThickness")),
    )


def has_agent(names: Iterable[str]) -> bool:
    """Say whether one of the values of a header's contrast agent is an agent, not a "none"."""
    return any(name.strip().lower() not in _NO_AGENT for name in names)


def _agent(texts: Mapping[str, str]) -> str | None:
    word = contrast_agent_word(texts.get("ContrastBolusIngredient"))
    is_named = _GADOLINIUM.search(texts.get("ContrastBolusAgent", ""))
    return word or ("gadolinium" if is_named else None)


def _field_strength_t(number: float | None) -> float | None:
    if number is not None and number > _HIGHEST_FIELD_T:
        number /= _GAUSS_PER_TESLA
    return positive_number(number)
