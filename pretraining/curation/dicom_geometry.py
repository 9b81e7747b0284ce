"""Where the slices of a series lie, and which of them are one volume.

Slices of one orientation at evenly spaced places are a volume; as many slices at each place are
time points. Everything else is named: missing, duplicate and uneven slices, a tilted gantry,
several orientations.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pretraining.curation.series import RejectedSeriesError

MIN_SLICES = 4  # fewer are no volume for dicom2nifti
_SAME_PLACE_MM = 0.01
_SAME_DIRECTION = 3  # decimals of a direction's components
_EVEN = 0.05  # largest share by which distances of neighbours may differ
_EVEN_MM = 0.1
_SIDE_BY_SIDE_MM = 20.0  # a prospective correction of motion stays below
_MAX_TILT_DEG = 2.5  # dicom2nifti's own check starts at about 2.9


@dataclass(frozen=True, kw_only=True)
class Slice:
    """What a slice's header says about its place.

    Attributes:
        index: of the file or the frame in its series.
        position_mm: (3,), LPS.
        orientation: (6,), directions of columns and rows.
        size: rows, columns.
        order: what may order slices of one place in time, the most telling first; the last one is
            never the same for two slices of a place.
    """

    index: int
    position_mm: np.ndarray
    orientation: np.ndarray
    size: tuple[int, int]
    order: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The slices of one time point, in the order of their places.

    Attributes:
        indices: of the chosen slices.
        num_time_points: of the series.
        time_point: the chosen one; None when there is one only.
        notes: what was left out.
    """

    indices: tuple[int, ...]
    num_time_points: int
    time_point: int | None
    notes: tuple[str, ...]


def select_volume(slices: Sequence[Slice], *, digest_of: Callable[[int], str]) -> Selection:
    """Choose the middle time point of a series.

    Source: Triad, section 4.1 ("the (t-1)/2 th or (t+1)/2 th"): index (t-1)//2, counted from 0.

    Args:
        slices: of one series, in any order.
        digest_of: index -> what is equal for slices that hold the same picture; asked only where
            the places have different numbers of slices.

    Raises:
        RejectedSeriesError: they are not one volume with the same number of slices at each place.
    """
    notes: list[str] = []
    parallel = _main_orientation(slices, notes)
    _check_sizes(parallel)
    places = _by_place(parallel)
    if len(places) < MIN_SLICES:
        raise RejectedSeriesError(f"too few slices ({len(places)}): a localizer or no volume")
    places = _without_copies(places, digest_of, notes)
    num_time_points = _num_time_points(places)
    _check_side_by_side(places)
    places = _in_time(places)
    _check_spacing(places)
    _check_tilt(places)
    time_point = (num_time_points - 1) // 2
    return Selection(
        indices=tuple(place[time_point].index for place in places),
        num_time_points=num_time_points,
        time_point=time_point if num_time_points > 1 else None,
        notes=tuple(notes),
    )


def _main_orientation(slices: Sequence[Slice], notes: list[str]) -> list[Slice]:
    """Return the slices of the only orientation that is a stack."""
    groups: dict[tuple[float, ...], list[Slice]] = {}
    for one in slices:
        key = tuple(np.round(one.orientation, _SAME_DIRECTION) + 0.0)
        group = next((known for known in groups if np.allclose(known, key, atol=2e-3)), key)
        groups.setdefault(group, []).append(one)
    stacks = [group for group in groups.values() if len(group) >= MIN_SLICES]
    if len(groups) > 1 and len(stacks) != 1:
        raise RejectedSeriesError(f"slices in {len(groups)} orientations: a localizer or several")
    if len(groups) == 1:
        return list(slices)
    num_dropped = len(slices) - len(stacks[0])
    notes.append(f"{num_dropped} slices of other orientations dropped")
    return stacks[0]


def _check_sizes(slices: Sequence[Slice]) -> None:
    sizes = Counter(one.size for one in slices)
    if len(sizes) > 1:
        text = ", ".join(f"{rows}x{columns}" for rows, columns in sorted(sizes))
        raise RejectedSeriesError(f"slices of different sizes ({text})")


def _by_place(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Group slices by where they lie along the stack."""
    normal = _normal(slices[0])
    along = np.array([one.position_mm @ normal for one in slices])
    places: list[list[Slice]] = []
    previous = -np.inf
    for number in np.argsort(along, kind="stable"):
        if along[number] - previous > _SAME_PLACE_MM:
            places.append([])
        places[-1].append(slices[number])
        previous = along[number]
    return places


def _without_copies(
    places: list[list[Slice]], digest_of: Callable[[int], str], notes: list[str]
) -> list[list[Slice]]:
    """Drop slices that repeat another one's picture, at places that have more than is usual."""
    (usual, _), *others = Counter(len(place) for place in places).most_common()
    if not others:
        return places
    kept = []
    for place in places:
        unlike: dict[str, Slice] = {}
        for one in place:
            unlike.setdefault(digest_of(one.index) if len(place) > usual else str(one.index), one)
        kept.append(list(unlike.values()))
    num_dropped = sum(map(len, places)) - sum(map(len, kept))
    if num_dropped:
        notes.append(f"{num_dropped} duplicate slices dropped")
    return kept


def _num_time_points(places: Sequence[Sequence[Slice]]) -> int:
    counts = sorted({len(place) for place in places})
    if len(counts) > 1:
        raise RejectedSeriesError(
            f"missing or duplicate slices: {counts[0]} to {counts[-1]} at one place"
        )
    return counts[0]


def _check_side_by_side(places: Sequence[Sequence[Slice]]) -> None:
    """Refuse stations of a table, which lie side by side in one plane and are no time points."""
    for place in places:
        positions_mm = np.stack([one.position_mm for one in place])
        if np.ptp(positions_mm, axis=0).max() > _SIDE_BY_SIDE_MM:
            raise RejectedSeriesError("several stacks side by side, such as stations of the table")


def _in_time(places: list[list[Slice]]) -> list[list[Slice]]:
    """Order the slices of each place in time.

    Numbers that are not the same at every place say nothing of time: scanners and archives number
    slices of one time point as several acquisitions.
    """
    columns = [
        column
        for column in range(len(places[0][0].order))
        if len({tuple(sorted(one.order[column] for one in place)) for place in places}) == 1
    ]
    return [
        sorted(place, key=lambda one: ([one.order[c] for c in columns], one.order[-1], one.index))
        for place in places
    ]


def _check_spacing(places: Sequence[Sequence[Slice]]) -> None:
    normal = _normal(places[0][0])
    along = np.array([place[0].position_mm @ normal for place in places])
    steps = np.diff(along)
    step = float(np.median(steps))
    if np.all(np.abs(steps - step) <= _EVEN_MM + _EVEN * step):
        return
    multiples = np.round(steps / step)
    is_gap = np.all(np.abs(steps - multiples * step) <= _EVEN_MM + _EVEN * multiples * step)
    if is_gap and multiples.min() >= 1:
        num_missing = int(multiples.sum()) - len(steps)
        first = int(np.argmax(multiples > 1)) + 1
        raise RejectedSeriesError(
            f"missing slices: {num_missing} of {len(places) + num_missing}, "
            f"the first after slice {first}"
        )
    raise RejectedSeriesError(
        f"uneven distances between slices ({steps.min():.3g} to {steps.max():.3g} mm)"
    )


def _check_tilt(places: Sequence[Sequence[Slice]]) -> None:
    first, last = places[0][0], places[-1][0]
    along = last.position_mm - first.position_mm
    cosine = abs(along @ _normal(first)) / np.linalg.norm(along)
    tilt_deg = float(np.degrees(np.arccos(np.clip(cosine, 0, 1))))
    if tilt_deg > _MAX_TILT_DEG:
        raise RejectedSeriesError(f"gantry tilt or sheared stack ({tilt_deg:.1f} degrees)")


def _normal(one: Slice) -> np.ndarray:
    normal = np.cross(one.orientation[:3], one.orientation[3:])
    length = np.linalg.norm(normal)
    if not np.isfinite(length) or length < 0.5:
        raise RejectedSeriesError("slices without a usable orientation")
    return normal / length
