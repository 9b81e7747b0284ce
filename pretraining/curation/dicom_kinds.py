"""Images of several kinds in one series or one file: which of them make the volume.

Phase beside magnitude, ADC beside diffusion, water beside fat, and echoes are no time points.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pydicom

from pretraining.curation.dicom_fields import cues_from_dicom, derived_kind
from pretraining.curation.sequence_rules import Cues

_SAME_ECHO = 2  # decimals of a time in ms
# Dixon's images, the first that there is is kept; names by Siemens and Philips.
_DIXON = (
    ("water", ("WATER", "W")),
    ("in phase", ("INPHASE", "IP")),
    ("opposed phase", ("OPPPHASE", "OUTPHASE", "OUT OFPHASE", "OP")),
    ("fat", ("FAT", "F")),
)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What tells an image from others at the same place, apart from time and diffusion.

    Attributes:
        set_aside: see `sequence_rules.set_aside_as`.
        is_map: an ADC map.
        dixon: a name of `_DIXON`, or "".
        echo_time_ms: 0 where none is told.
    """

    set_aside: str | None = None
    is_map: bool = False
    dixon: str = ""
    echo_time_ms: float = 0.0


def kind_of(header: pydicom.Dataset, *, frame: int = 0) -> Kind:
    """Return the kind of a classic image, or of a frame of an enhanced one."""
    cues = cues_from_dicom(header, frame=frame)
    return Kind(
        set_aside=derived_kind(header, frame=frame),
        is_map=cues.has_type("ADC", "ADC UNSPECIFIED"),
        dixon=_dixon_of(cues),
        echo_time_ms=round(cues.echo_time_ms or 0.0, _SAME_ECHO),
    )


def kinds_of_frames(dataset: pydicom.Dataset) -> list[Kind]:
    """Return the kind of each frame of an enhanced image; equal frames are looked at once."""
    seen: dict[str, Kind] = {}
    kinds = []
    for index, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        items = [group.get(name) for name in ("MRImageFrameTypeSequence", "MREchoSequence")]
        key = str([item[0] if item else None for item in items])
        if key not in seen:
            seen[key] = kind_of(dataset, frame=index)
        kinds.append(seen[key])
    return kinds


def choose_kind(kinds: Sequence[Kind]) -> tuple[list[int], list[str]]:
    """Choose the images of one kind: acquired magnitude, of Dixon water, of echoes the first.

    Args:
        kinds: of all images of a series.

    Returns:
        Their indices in the same order, and what was left out.
    """
    chosen = list(range(len(kinds)))
    notes: list[str] = []
    for is_better, name in (
        (lambda kind: kind.set_aside is None, "derived images"),
        (lambda kind: not kind.is_map, "ADC maps"),
    ):
        better = [index for index in chosen if is_better(kinds[index])]
        if better and len(better) < len(chosen):
            notes.append(f"{len(chosen) - len(better)} {name} dropped")
            chosen = better
    chosen = _first_dixon(chosen, kinds, notes)
    return _first_echo(chosen, kinds, notes), notes


def _first_dixon(chosen: list[int], kinds: Sequence[Kind], notes: list[str]) -> list[int]:
    there = {kinds[index].dixon for index in chosen}
    if len(there) < 2 or "" in there:
        return chosen
    name = next(name for name, _ in _DIXON if name in there)
    notes.append(f"of {len(there)} Dixon images the one of {name} kept")
    return [index for index in chosen if kinds[index].dixon == name]


def _first_echo(chosen: list[int], kinds: Sequence[Kind], notes: list[str]) -> list[int]:
    """Keep the first echo, where each echo has as many images as the others."""
    counts = Counter(kinds[index].echo_time_ms for index in chosen)
    if len(counts) < 2 or len(set(counts.values())) > 1 or min(counts.values()) < 2:
        return chosen
    first = min(counts)
    notes.append(f"of {len(counts)} echoes the first kept")
    return [index for index in chosen if kinds[index].echo_time_ms == first]


def _dixon_of(cues: Cues) -> str:
    return next((name for name, values in _DIXON if cues.has_type(*values)), "")
