"""Slices with their stored values, scaling and places, from classic, multi-frame, mosaic files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pydicom
from pydicom.pixels import apply_modality_lut, iter_pixels

from pretraining.curation.dicom_mosaic import cut_tiles, mosaic_layout, numbers
from pretraining.curation.dicom_scan import UNREADABLE
from pretraining.curation.series import RejectedSeriesError


@dataclass(frozen=True, kw_only=True)
class Plane:
    """A slice.

    Attributes:
        stored: (rows, columns), whole numbers.
        scaling: slope and intercept: the image is stored * slope + intercept (PS3.3, C.11.1).
        position_mm: (3,), centre of the first pixel, LPS.
        orientation: (6,), directions in which columns and rows are counted, LPS.
        pixel_spacing_mm: between rows, between columns.
    """

    stored: np.ndarray
    scaling: tuple[float, float]
    position_mm: np.ndarray
    orientation: np.ndarray
    pixel_spacing_mm: tuple[float, float]


def classic_plane(dataset: pydicom.Dataset) -> Plane:
    """Read the slice of a classic image.

    Raises:
        RejectedSeriesError: its pixels cannot be decoded, or it does not tell its place.
    """
    (stored,) = _stored(dataset, [0])
    scaling = dataset
    if dataset.get("ModalityLUTSequence"):
        try:
            stored, scaling = np.asarray(apply_modality_lut(stored, dataset)), pydicom.Dataset()
        except UNREADABLE as error:
            raise RejectedSeriesError("a damaged table of values (modality LUT)") from error
    return _plane(stored, scaling, dataset, dataset, dataset)


def frame_planes(dataset: pydicom.Dataset, frames: Sequence[int]) -> list[Plane]:
    """Read some frames of a multi-frame image; see `classic_plane`.

    Args:
        dataset: with functional groups.
        frames: indices; the planes come in this order.
    """
    planes = []
    for number, stored in zip(frames, _stored(dataset, frames), strict=True):
        planes.append(
            _plane(
                stored,
                group_of(dataset, number, "PixelValueTransformationSequence") or dataset,
                group_of(dataset, number, "PlanePositionSequence"),
                group_of(dataset, number, "PlaneOrientationSequence"),
                group_of(dataset, number, "PixelMeasuresSequence"),
            )
        )
    return planes


def mosaic_planes(dataset: pydicom.Dataset) -> list[Plane]:
    """Read the tiles of a Siemens mosaic; see `classic_plane`."""
    layout = mosaic_layout(dataset)
    picture = classic_plane(dataset)
    return [
        replace(picture, stored=tile, position_mm=position_mm)
        for tile, position_mm in zip(
            cut_tiles(picture.stored, layout), layout.positions_mm, strict=True
        )
    ]


def group_of(dataset: pydicom.Dataset, frame: int, name: str) -> pydicom.Dataset:
    """Return a functional group of a frame, its own or the shared one; empty where none is."""
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]
    own = dataset.PerFrameFunctionalGroupsSequence[frame]
    for groups in (own, shared):
        if groups.get(name):
            group: pydicom.Dataset = groups[name].value[0]
            return group
    return pydicom.Dataset()


def _plane(
    stored: np.ndarray,
    scaling: pydicom.Dataset,
    position: pydicom.Dataset,
    orientation: pydicom.Dataset,
    measures: pydicom.Dataset,
) -> Plane:
    try:
        between_rows, between_columns = (float(value) for value in measures.PixelSpacing)
        return Plane(
            stored=stored,
            scaling=_scaling(scaling),
            position_mm=numbers(position.ImagePositionPatient),
            orientation=numbers(orientation.ImageOrientationPatient),
            pixel_spacing_mm=(between_rows, between_columns),
        )
    except UNREADABLE as error:
        raise RejectedSeriesError("slices without position, orientation or size") from error


def _scaling(header: pydicom.Dataset) -> tuple[float, float]:
    slope, intercept = (
        float(default if header.get(name) in (None, "") else header.get(name))
        for name, default in (("RescaleSlope", 1), ("RescaleIntercept", 0))
    )
    if not np.isfinite([slope, intercept]).all():
        raise RejectedSeriesError("a slope or intercept that is no finite number")
    return slope, intercept


def _stored(dataset: pydicom.Dataset, frames: Sequence[int]) -> Iterator[np.ndarray]:
    """Yield the stored values of frames (rows, columns), in the order asked for."""
    try:
        in_file = sorted(frames)
        pixels = dict(zip(in_file, iter_pixels(dataset, indices=in_file), strict=True))
    except UNREADABLE as error:
        raise RejectedSeriesError(decoding_reason(dataset, error)) from error
    for frame in frames:
        if pixels[frame].ndim != 2 or pixels[frame].dtype.kind not in "iu":
            raise RejectedSeriesError("colours, not one number a voxel")
        yield _signed(pixels[frame], dataset)


def _signed(stored: np.ndarray, dataset: pydicom.Dataset) -> np.ndarray:
    """Extend the sign of numbers that have fewer bits than their type."""
    unused = stored.dtype.itemsize * 8 - int(dataset.get("BitsStored") or 0)
    if stored.dtype.kind != "i" or not 0 < unused < stored.dtype.itemsize * 8:
        return stored
    return (stored << unused) >> unused


def decoding_reason(dataset: pydicom.Dataset, error: Exception) -> str:
    """Return why pixels could not be decoded."""
    syntax = pydicom.uid.UID(dataset.file_meta.get("TransferSyntaxUID", ""))
    name = syntax.name if syntax else "no transfer syntax"
    return f"pixels that cannot be decoded: truncated or not {name} ({type(error).__name__})"
