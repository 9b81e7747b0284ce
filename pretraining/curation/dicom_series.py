"""A DICOM series: which of its files make the volume, and loading it."""

import contextlib
import hashlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from nnunet_triad.images import spacing_of
from pretraining.curation.dicom_convert import convert_frames, convert_slices
from pretraining.curation.dicom_fields import derived_kind, fields_from_dicom
from pretraining.curation.dicom_geometry import Selection, Slice, select_volume
from pretraining.curation.dicom_scan import UNREADABLE
from pretraining.curation.screening import check_header
from pretraining.curation.series import HeaderFacts, LoadedSeries, RejectedSeriesError, Series
from pretraining.curation.settings import QualityRules

Headers = list[tuple[Path, pydicom.Dataset]]

# What is read of every slice: its place, its time, and what tells maps from images.
_TAGS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "ImageType",
    "SeriesDescription",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "TemporalPositionIdentifier",
    "AcquisitionNumber",
    "EchoTime",
    "InstanceNumber",
]
# Modalities of the standard that a reason may name.
_MODALITIES = frozenset(
    (
        *("AR", "AU", "BI", "CR", "CT", "DX", "DOC", "ECG", "ES", "GM", "IO", "IVUS", "KO", "M3D"),
        *("MG", "MR", "NM", "OCT", "OP", "OT", "PR", "PT", "PX", "REG", "RF", "RG", "RTDOSE"),
        *("RTIMAGE", "RTPLAN", "RTRECORD", "RTSTRUCT", "RWV", "SC", "SEG", "SM", "SR", "TG", "US"),
        *("XA", "XC"),
    )
)


@dataclass(frozen=True, kw_only=True)
class DicomSeries(Series):
    """Files of one SeriesInstanceUID.

    Attributes:
        files: in the order of their paths.
        num_owners: patients and studies that the UID belongs to; more than one is a collision.
    """

    files: tuple[Path, ...]
    num_owners: int = 1

    def load(self, rules: QualityRules) -> LoadedSeries:
        """Read the headers, choose the middle time point, and read only its pixels."""
        if self.num_owners > 1:
            raise RejectedSeriesError(
                f"one SeriesInstanceUID in {self.num_owners} patients or studies"
            )
        with _quiet():
            notes: list[str] = []
            headers = _without_copies(_read_headers(self.files), notes)
            headers = _acquired(headers, notes)
            first = headers[0][1]
            facts = HeaderFacts(modality=_modality(first), derived=derived_kind(first))
            check_header(facts, rules)
            return _load(headers, notes)


def _load(headers: Headers, notes: list[str]) -> LoadedSeries:
    first = headers[0][1]
    if int(first.get("NumberOfFrames") or 1) > 1:
        return _load_enhanced(headers, notes)
    if "MOSAIC" in (first.get("ImageType") or []):
        return _load_mosaic(headers, notes)
    return _load_classic(headers, notes)


def _load_classic(headers: Headers, notes: list[str]) -> LoadedSeries:
    kept = [one for one in headers if "LOCALIZER" not in (one[1].get("ImageType") or [])]
    if not kept:
        raise RejectedSeriesError("a localizer")
    slices = [_slice_of(index, header) for index, (_, header) in enumerate(kept)]
    chosen = select_volume(slices, digest_of=lambda index: _pixel_digest(kept[index][0]))
    datasets = [_read(kept[index][0]) for index in chosen.indices]
    volume, affine = convert_slices(datasets)
    return _loaded(volume, affine, datasets[0], selection=chosen, notes=notes)


def _load_mosaic(headers: Headers, notes: list[str]) -> LoadedSeries:
    in_time = sorted(headers, key=lambda one: _order(one[1]))
    time_point = (len(in_time) - 1) // 2
    dataset = _read(in_time[time_point][0])
    if "CSA" not in _private_creators(dataset):
        raise RejectedSeriesError("a mosaic without Siemens' protocol")
    volume, affine = convert_slices([dataset])
    selection = Selection(
        indices=(time_point,),
        num_time_points=len(in_time),
        time_point=time_point if len(in_time) > 1 else None,
        notes=(),
    )
    return _loaded(volume, affine, dataset, selection=selection, notes=notes)


def _load_enhanced(headers: Headers, notes: list[str]) -> LoadedSeries:
    """Load from one multi-frame image; of several in a series, the middle one."""
    in_time = sorted(headers, key=lambda one: _order(one[1]))
    dataset = _read(in_time[(len(in_time) - 1) // 2][0])
    frames = _frames_of(dataset)
    chosen = select_volume(frames, digest_of=lambda index: str(index))
    volume, affine = convert_frames(dataset, chosen.indices)
    return _loaded(volume, affine, dataset, selection=chosen, notes=notes)


def _loaded(
    volume: np.ndarray,
    affine: np.ndarray,
    header: pydicom.Dataset,
    *,
    selection: Selection,
    notes: Sequence[str],
) -> LoadedSeries:
    x, y, z = (round(float(length), 4) for length in spacing_of(affine))
    num = selection.num_time_points
    fields = fields_from_dicom(header, spacing_mm=(x, y, z), num_time_points=num)
    return LoadedSeries(
        volume=volume,
        affine=affine,
        fields=fields,
        original_shape=(*volume.shape, num) if num > 1 else volume.shape,
        time_point=selection.time_point,
        notes=(*notes, *selection.notes),
    )


def _read_headers(files: Sequence[Path]) -> Headers:
    """Read what is needed of all files.

    Raises:
        RejectedSeriesError: one of them is damaged.
    """
    headers: Headers = []
    for path in files:
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS, force=True)
            for name in _TAGS:
                header.get(name)  # converts the value, which may fail
        except UNREADABLE as error:
            raise RejectedSeriesError(f"damaged header ({type(error).__name__})") from error
        headers.append((path, header))
    return headers


def _read(path: Path) -> pydicom.Dataset:
    try:
        dataset = pydicom.dcmread(path, force=True)
    except UNREADABLE as error:
        raise RejectedSeriesError(f"truncated or damaged ({type(error).__name__})") from error
    if "PixelData" not in dataset:
        raise RejectedSeriesError("no pixels, or truncated before them")
    return dataset


def _without_copies(headers: Headers, notes: list[str]) -> Headers:
    """Drop files that repeat an instance.

    Raises:
        RejectedSeriesError: two files call themselves the same instance and differ.
    """
    by_uid: dict[str, Headers] = {}
    for number, one in enumerate(headers):
        by_uid.setdefault(str(one[1].get("SOPInstanceUID") or number), []).append(one)
    num_copies = len(headers) - len(by_uid)
    for group in by_uid.values():
        if len(group) > 1 and len({_pixel_digest(path) for path, _ in group}) > 1:
            raise RejectedSeriesError("different images with one SOPInstanceUID")
    if num_copies:
        notes.append(f"{num_copies} duplicate files dropped")
    return [group[0] for group in by_uid.values()]


def _acquired(headers: Headers, notes: list[str]) -> Headers:
    """Drop derived images, such as phase beside magnitude, where others remain."""
    acquired = [one for one in headers if derived_kind(one[1]) is None]
    if acquired and len(acquired) < len(headers):
        notes.append(f"{len(headers) - len(acquired)} derived images dropped")
    return acquired or headers


def _slice_of(index: int, header: pydicom.Dataset) -> Slice:
    try:
        position = np.array([float(value) for value in header.ImagePositionPatient])
        orientation = np.array([float(value) for value in header.ImageOrientationPatient])
        size = (int(header.Rows), int(header.Columns))
    except UNREADABLE as error:
        raise RejectedSeriesError("slices without position, orientation or size") from error
    return _checked_slice(index, position, orientation, size=size, order=_order(header))


def _frames_of(dataset: pydicom.Dataset) -> list[Slice]:
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]
    frames = []
    try:
        for index, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
            position = _group(group, shared, "PlanePositionSequence").ImagePositionPatient
            orientation = _group(group, shared, "PlaneOrientationSequence").ImageOrientationPatient
            content = (group.get("FrameContentSequence") or [pydicom.Dataset()])[0]
            frames.append(
                _checked_slice(
                    index,
                    np.array([float(value) for value in position]),
                    np.array([float(value) for value in orientation]),
                    size=(int(dataset.Rows), int(dataset.Columns)),
                    order=(_number(content.get("TemporalPositionIndex")), float(index)),
                )
            )
    except UNREADABLE as error:
        raise RejectedSeriesError("a multi-frame image without its frames' places") from error
    return frames


def _group(group: pydicom.Dataset, shared: pydicom.Dataset, name: str) -> pydicom.Dataset:
    return (group if name in group else shared)[name].value[0]


def _checked_slice(
    index: int,
    position: np.ndarray,
    orientation: np.ndarray,
    *,
    size: tuple[int, int],
    order: tuple[float, ...],
) -> Slice:
    if position.shape != (3,) or orientation.shape != (6,):
        raise RejectedSeriesError("slices without position, orientation or size")
    if not (np.isfinite(position).all() and np.isfinite(orientation).all()):
        raise RejectedSeriesError("slices without position, orientation or size")
    return Slice(index=index, position_mm=position, orientation=orientation, size=size, order=order)


def _order(header: pydicom.Dataset) -> tuple[float, ...]:
    """Return what orders images of one place in time."""
    names = ("TemporalPositionIdentifier", "AcquisitionNumber", "EchoTime", "InstanceNumber")
    return tuple(_number(header.get(name)) for name in names)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0


def _pixel_digest(path: Path) -> str:
    return hashlib.sha256(_read(path).PixelData).hexdigest()


def _modality(header: pydicom.Dataset) -> str | None:
    value = str(header.get("Modality") or "").upper()
    return (value if value in _MODALITIES else "unknown") if value else None


def _private_creators(dataset: pydicom.Dataset) -> str:
    creators = (one for one in dataset.group_dataset(0x0029) if one.tag.element < 0x100)
    return " ".join(str(one.value) for one in creators)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep pydicom's remarks on odd values from the screen; they may repeat the values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
