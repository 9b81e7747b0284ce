"""The files of one series: their headers, and the places of the slices that they tell."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.tag import Tag

from pretraining.curation.dicom_geometry import Slice
from pretraining.curation.dicom_kinds import Kind, choose_kind, kind_of, kinds_of_frames
from pretraining.curation.dicom_objects import form_of
from pretraining.curation.dicom_planes import group_of
from pretraining.curation.dicom_scan import UNREADABLE, open_file
from pretraining.curation.series import RejectedSeriesError

# What tells maps from images, by keyword or, where it is a vendor's own, by number.
_TAGS_OF_KIND = [
    Tag(one)
    for one in (
        "SOPClassUID",
        "Manufacturer",
        "ImageType",
        "ComplexImageComponent",
        "SeriesDescription",
        "ProtocolName",
        "SequenceName",
        "PulseSequenceName",
        "EchoTime",
        0x0043102F,
    )
]
# What is read of every file besides: its slices' places, and their time.
_TAGS = [
    *_TAGS_OF_KIND,
    *(
        Tag(one)
        for one in (
            "SOPInstanceUID",
            "Modality",
            "Rows",
            "Columns",
            "NumberOfFrames",
            "ImagePositionPatient",
            "ImageOrientationPatient",
            "TemporalPositionIdentifier",
            "AcquisitionNumber",
            "InstanceNumber",
        )
    ),
]
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file of a series.

    Attributes:
        path: where it lies.
        header: without pixels and functional groups.
        form: see `dicom_objects.FORMS`.
        frames: of an enhanced image; their indices count within the file.
        kinds: of its frames; of a classic image or a mosaic, its own.
    """

    path: Path
    header: pydicom.Dataset
    form: str
    frames: tuple[Slice, ...] = ()
    kinds: tuple[Kind, ...] = (Kind(),)


def read_headers(paths: Sequence[Path]) -> list[SourceFile]:
    """Read what is needed of all files.

    Raises:
        RejectedSeriesError: one of them is damaged.
    """
    seen: dict[str, Kind] = {}
    return [_read_header(path, seen) for path in paths]


def of_one_kind(files: Sequence[SourceFile], notes: list[str]) -> list[SourceFile]:
    """Keep the images and frames of one kind, such as magnitude where phase lies beside it."""
    places = [
        (number, index) for number, one in enumerate(files) for index in range(len(one.kinds))
    ]
    chosen, dropped = choose_kind([files[number].kinds[index] for number, index in places])
    notes.extend(dropped)
    kept: dict[int, list[int]] = {}
    for place in chosen:
        number, index = places[place]
        kept.setdefault(number, []).append(index)
    return [
        replace(
            files[number],
            frames=tuple(files[number].frames[index] for index in indices if files[number].frames),
            kinds=tuple(files[number].kinds[index] for index in indices),
        )
        for number, indices in kept.items()
    ]


def read_file(path: Path) -> pydicom.Dataset:
    """Read a file with its pixels.

    Raises:
        RejectedSeriesError: it is damaged or has none.
    """
    try:
        with open_file(path) as file:
            dataset = pydicom.dcmread(file, force=True)
    except UNREADABLE as error:
        raise RejectedSeriesError(f"truncated or damaged ({type(error).__name__})") from error
    if "PixelData" not in dataset:
        raise RejectedSeriesError("no pixels, or truncated before them")
    return dataset


def without_copies(files: Sequence[SourceFile], notes: list[str]) -> list[SourceFile]:
    """Drop files that repeat an instance.

    Raises:
        RejectedSeriesError: two files call themselves the same instance and differ.
    """
    by_uid: dict[str, list[SourceFile]] = {}
    for number, one in enumerate(files):
        by_uid.setdefault(str(one.header.get("SOPInstanceUID") or number), []).append(one)
    num_copies = len(files) - len(by_uid)
    for group in by_uid.values():
        if len(group) > 1 and len({pixel_digest(one.path) for one in group}) > 1:
            raise RejectedSeriesError("different images with one SOPInstanceUID")
    if num_copies:
        notes.append(f"{num_copies} duplicate files dropped")
    return [group[0] for group in by_uid.values()]


def pixel_digest(path: Path) -> str:
    """Return what is equal for files with the same pixels."""
    return hashlib.sha256(read_file(path).PixelData).hexdigest()


def slice_of(index: int, header: pydicom.Dataset) -> Slice:
    """Return the place of a classic image's slice.

    Raises:
        RejectedSeriesError: the header does not tell it.
    """
    try:
        position, orientation = header.ImagePositionPatient, header.ImageOrientationPatient
        size = (int(header.Rows), int(header.Columns))
    except UNREADABLE as error:
        raise RejectedSeriesError("slices without position, orientation or size") from error
    return _slice(index, position, orientation, size=size, order=time_order(header))


def time_order(header: pydicom.Dataset) -> tuple[float, ...]:
    """Return what orders images of one place in time."""
    names = ("TemporalPositionIdentifier", "AcquisitionNumber", "EchoTime", "InstanceNumber")
    return tuple(_number(header.get(name)) for name in names)


def _read_header(path: Path, seen: dict[str, Kind]) -> SourceFile:
    """Read a header; `seen` spares looking at the kind of equal ones again."""
    tags = [*_TAGS, *map(Tag, _GROUPS)]
    try:
        with open_file(path) as file:
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=tags, force=True)
        for tag in _TAGS:
            header.get(tag)  # converts the value, which may fail
        form = form_of(header)
    except UNREADABLE as error:
        raise RejectedSeriesError(f"damaged header ({type(error).__name__})") from error
    frames = _frames_of(header) if form == "enhanced" else ()
    if frames:
        kinds = kinds_of_frames(header)
    else:
        key = str([header.get(tag) for tag in _TAGS_OF_KIND])
        kinds = [seen[key] if key in seen else seen.setdefault(key, kind_of(header))]
    for name in _GROUPS:
        header.pop(name, None)  # tens of kilobytes a frame
    return SourceFile(path=path, header=header, form=form, frames=frames, kinds=tuple(kinds))


def _frames_of(header: pydicom.Dataset) -> tuple[Slice, ...]:
    order = time_order(header)
    frames = []
    try:
        size = (int(header.Rows), int(header.Columns))
        for index in range(len(header.PerFrameFunctionalGroupsSequence)):
            content = group_of(header, index, "FrameContentSequence")
            time = _number(content.get("TemporalPositionIndex"))
            b_value = _number(group_of(header, index, "MRDiffusionSequence").get("DiffusionBValue"))
            frames.append(
                _slice(
                    index,
                    group_of(header, index, "PlanePositionSequence").ImagePositionPatient,
                    group_of(header, index, "PlaneOrientationSequence").ImageOrientationPatient,
                    size=size,
                    order=(*order, time, b_value, float(index)),
                )
            )
    except UNREADABLE as error:
        raise RejectedSeriesError("a multi-frame image without its frames' places") from error
    return tuple(frames)


def _slice(
    index: int, position: Any, orientation: Any, *, size: tuple[int, int], order: tuple[float, ...]
) -> Slice:
    try:
        place, directions = (
            np.array([float(value) for value in values]) for values in (position, orientation)
        )
    except UNREADABLE as error:
        raise RejectedSeriesError("slices without position, orientation or size") from error
    if place.shape != (3,) or directions.shape != (6,):
        raise RejectedSeriesError("slices without position, orientation or size")
    if not (np.isfinite(place).all() and np.isfinite(directions).all()):
        raise RejectedSeriesError("slices without position, orientation or size")
    return Slice(index=index, position_mm=place, orientation=directions, size=size, order=order)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0
