"""The allowed fields of a NIfTI file's name and sidecars, by the rules that DICOM has."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pretraining.curation.fields import has_agent, imaging_fields
from pretraining.curation.sequence_rules import (
    Cues,
    contrast_of,
    set_aside_as,
    techniques_of,
    text_of,
    types_of,
)
from pretraining.curation.terms import DERIVED_WORDS, SEQUENCES
from pretraining.descriptions import ImagingFields, manufacturer_name, positive_number

BIDS_NAME = re.compile(r"(?P<subject>sub-[A-Za-z0-9+]+)(_(?P<study>ses-[A-Za-z0-9+]+))?_")
FIELD_MAP_FOLDER = "fmap"
DOUBTFUL_TIMES = "times of the sidecar left out: not plausible in seconds"

# Texts of a sidecar that stand for those of a header, as dcm2niix writes them.
_TEXTS = ("SeriesDescription", "ProtocolName", "SequenceName", "PulseSequenceName")
_AGENTS = ("ContrastBolusAgent", "ContrastBolusIngredient", "ContrastBolus")
_LABELLING = ("ArterialSpinLabelingType", "LabelingDuration", "PostLabelingDelay")
# What dcm2niix and BIDS add to a name, and the value of the image type that it stands for.
_PARTS = (
    (re.compile(r"(^|[_-])(ph[a-z]?|phase[a-z]?)$|(^|_)part-phase(_|$)"), "PHASE"),
    (re.compile(r"(^|[_-])real[a-z]?$|(^|_)part-real(_|$)"), "REAL"),
    (re.compile(r"(^|[_-])imag(inary)?[a-z]?$|(^|_)part-imag(inary)?(_|$)"), "IMAGINARY"),
    (re.compile(r"(^|[_-])phmag[a-z]?$"), "PHMAG"),
    (re.compile(r"(^|[_-])fieldmaphz[a-z]?$"), "FIELDMAPHZ"),
)
# Words before "phase" that make it one of the heart's, of contrast agent's or of Dixon's.
_OTHER_PHASES = re.compile(
    r"(in|out|of|opp|opposed|art|arterial|ven|venous|portal|pv|delay|delayed|late|early|equilibrium|"
    r"hepatobiliary|dynamic|contrast|systolic|diastolic|cardiac|[0-9]+)[_-]?phase[a-z]?$"
)
# Longest times, in seconds, that a scanner is set to; a sidecar beyond them holds milliseconds.
_LONGEST_S = {"RepetitionTime": 100.0, "EchoTime": 1.0, "InversionTime": 20.0}
_MS_PER_S = 1000.0


@dataclass(frozen=True, kw_only=True)
class NiftiFacts:
    """What is known of a NIfTI file beside its voxels.

    Attributes:
        stem: its name without the ending.
        folders: above it, up to the root.
        metadata: its sidecars.
        b_values: of its `.bval` file, s/mm2, one a volume; None without one.
    """

    stem: str
    folders: tuple[str, ...] = ()
    metadata: Mapping[str, Any]
    b_values: Sequence[float] | None = None

    @property
    def is_bids(self) -> bool:
        """Whether the name is one of BIDS, whose last word somebody chose."""
        return BIDS_NAME.match(self.stem) is not None


def set_aside_kind(facts: NiftiFacts) -> str | None:
    """Return what an image is that is no acquired one to learn from, by name or sidecar."""
    by_rules = set_aside_as(cues_from_nifti(facts))
    if by_rules:
        return by_rules
    last_word = re.split(r"[_-]", facts.stem)[-1].lower()
    if last_word in DERIVED_WORDS:
        return DERIVED_WORDS[last_word]
    is_in_fmap = FIELD_MAP_FOLDER in (folder.lower() for folder in facts.folders)
    return "field-mapping scan" if is_in_fmap else None


def fields_from_nifti(
    facts: NiftiFacts, *, num_time_points: int = 1, time_point: int | None = None
) -> tuple[ImagingFields, tuple[str, ...]]:
    """Read the allowed fields of a name and its sidecars, and nothing else.

    A BIDS suffix decides the sequence; else the sidecar's words and the name's; else the times.

    Args:
        facts: what is known.
        num_time_points: of the file.
        time_point: the volume whose b-value counts.

    Returns:
        The fields, and what was left out of them.
    """
    metadata = facts.metadata
    cues = cues_from_nifti(facts, num_time_points=num_time_points, time_point=time_point)
    texts = {
        "Model": _text(metadata, "ManufacturersModelName"),
        **{name: _text(metadata, name) for name in ("MRAcquisitionType", "Manufacturer", *_AGENTS)},
    }
    numbers = {
        name: positive_number(metadata.get(name))
        for name in ("MagneticFieldStrength", "FlipAngle", "SliceThickness")
    }
    fields = imaging_fields(cues, texts, numbers, sequence=_sequence_by_name(facts))
    return fields, () if _has_plausible_times(metadata) else (DOUBTFUL_TIMES,)


def cues_from_nifti(
    facts: NiftiFacts, *, num_time_points: int = 1, time_point: int | None = None
) -> Cues:
    """Bring names and sidecars to the form that the rules know; see `fields_from_nifti`."""
    metadata = facts.metadata
    image_type = _words(metadata, "ImageType")
    name = facts.stem.lower()
    parts = [part for pattern, part in _PARTS if pattern.search(name)]
    if _OTHER_PHASES.search(name):
        parts = []
    types = types_of([*image_type[2:], *_words(metadata, "ComplexImageComponent"), *parts])
    has_suffix = facts.is_bids and _known_word(facts) is not None
    texts = [_text(metadata, key) for key in _TEXTS] + ([] if has_suffix else [facts.stem])
    text = text_of(texts)
    times = {
        f"{name}_ms": positive_number(metadata.get(key), _MS_PER_S)
        for name, key in (
            ("repetition_time", _repetition_key(metadata)),
            ("echo_time", "EchoTime"),
            ("inversion_time", "InversionTime"),
        )
        if _has_plausible_times(metadata)
    }
    return Cues(
        text=text,
        types=types,
        techniques=techniques_of(_codes(metadata.get("ScanningSequence")), text),
        contrast=contrast_of("" if facts.b_values is None else "DIFFUSION", types),
        b_value=_b_value(facts, time_point),
        has_contrast_agent=has_agent(_text(metadata, key) for key in _AGENTS),
        num_time_points=num_time_points,
        is_derived=[value.upper() for value in image_type[:1]] == ["DERIVED"],
        is_labelled=any(key in metadata for key in _LABELLING),
        **times,
    )


def _sequence_by_name(facts: NiftiFacts) -> str | None:
    """Return what the name says, unless the sidecar has better words."""
    has_words = any(_text(facts.metadata, key) for key in _TEXTS) or "ImageType" in facts.metadata
    word = _known_word(facts)
    return SEQUENCES[word] if word and (facts.is_bids or not has_words) else None


def _known_word(facts: NiftiFacts) -> str | None:
    """Return the word of a name that tells the sequence, a key of `SEQUENCES`."""
    words = facts.stem.split("_")[-1:] if facts.is_bids else re.split(r"[_-]", facts.stem)
    known = [word.lower() for word in words if word.lower() in SEQUENCES]
    if not known:
        return None
    pattern = r"_ce-" if facts.is_bids else r"(^|[_-])(post|gd|gad|ce|contrast|km)([_-]|$)"
    is_enhanced = known[-1] in ("t1w", "t1") and re.search(pattern, facts.stem, re.IGNORECASE)
    return "t1ce" if is_enhanced else known[-1]


def _has_plausible_times(metadata: Mapping[str, Any]) -> bool:
    """Say whether the times can be seconds; one that cannot makes all of them doubtful."""
    numbers = {key: positive_number(metadata.get(key)) for key in _LONGEST_S}
    return all(number is None or number <= _LONGEST_S[key] for key, number in numbers.items())


def _repetition_key(metadata: Mapping[str, Any]) -> str:
    """Return where the header's repetition time stands; of Philips' ASL it is the excitation's."""
    is_philips = manufacturer_name(metadata.get("Manufacturer")) == "Philips"
    key = "RepetitionTimeExcitation"
    return key if is_philips and key in metadata else "RepetitionTime"


def _b_value(facts: NiftiFacts, time_point: int | None) -> float:
    index = time_point or 0
    if facts.b_values is not None and index < len(facts.b_values):
        return facts.b_values[index]
    return positive_number(facts.metadata.get("DiffusionBValue")) or 0.0


def _text(metadata: Mapping[str, Any], key: str) -> str:
    value = metadata.get(key)
    return value if isinstance(value, str) else ""


def _words(metadata: Mapping[str, Any], key: str) -> list[str]:
    """Return a list of texts; one text counts as a list with DICOM's backslashes."""
    value = metadata.get(key)
    values = value.split("\\") if isinstance(value, str) else value
    return [one for one in values if isinstance(one, str)] if isinstance(values, list) else []


def _codes(value: Any) -> list[str]:
    codes = re.split(r"[\\/,_ ]+", value) if isinstance(value, str) else value
    return [code for code in codes if isinstance(code, str)] if isinstance(codes, list) else []
