"""Siemens mosaics: the slices of a volume as tiles of one picture, and where each of them lies.

The standard's tags tell the place of the picture's corner only. How many tiles there are, and
whether they follow the slices' normal or run against it (sagittal series, numbering from head to
feet), is in Siemens' private headers: the CSA image header and the protocol, called ASCCONV.

Source: nibabel's documentation, "Siemens mosaic format".
"""

import contextlib
import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pydicom

from pretraining.curation.dicom_scan import UNREADABLE
from pretraining.curation.series import RejectedSeriesError

_PROTOCOL = re.compile(r"### ASCCONV BEGIN(.*?)### ASCCONV END ###", re.DOTALL)
_NUM_SLICES = re.compile(r"sSliceArray\.lSize\s*=\s*(\d{1,6})")
_CENTRE = re.compile(
    r"sSliceArray\.asSlice\[(\d{1,4})\]\.sPosition\.d(Sag|Cor|Tra)\s*=\s*([-+.\deE]+)"
)
_IS_REVERSED = re.compile(r"sSliceArray\.ucImageNumb(?:Sag|Cor|Tra)\s*=\s*(?:0x)?0*[1-9a-fA-F]")
_PATIENT_AXES = ("Sag", "Cor", "Tra")  # to the left, to posterior, to the head: LPS
_MAX_SLICES = 1024
_PARALLEL = 0.99  # cosine
_BESIDE = 0.25  # of the stack's length; half of it where the first tile is the first slice


@dataclass(frozen=True, kw_only=True)
class Mosaic:
    """How a mosaic is laid out.

    Attributes:
        side: tiles along a row and along a column of the picture.
        size: rows, columns of a tile.
        positions_mm: (slices, 3), centre of each tile's first pixel, LPS.
    """

    side: int
    size: tuple[int, int]
    positions_mm: np.ndarray


@dataclass(frozen=True, kw_only=True)
class _Private:
    """What Siemens' private headers say.

    Attributes:
        num_slices: None where no header tells.
        normal: (3,), the direction that the tiles follow, LPS; None where the CSA header is silent.
        centres_mm: (slices, 3), LPS, in the protocol's order; None where it has no slices.
        is_reversed: the protocol says that images are numbered against that order.
    """

    num_slices: int | None
    normal: np.ndarray | None
    centres_mm: np.ndarray | None
    is_reversed: bool


def mosaic_layout(dataset: pydicom.Dataset) -> Mosaic:
    """Read how a mosaic is laid out.

    Raises:
        RejectedSeriesError: its headers do not tell, or contradict each other.
    """
    private = _private(dataset)
    if private.num_slices is None:
        raise RejectedSeriesError("a mosaic without Siemens' protocol")
    try:
        picture = np.array([int(dataset.Columns), int(dataset.Rows)])
        corner = numbers(dataset.ImagePositionPatient)
        directions = numbers(dataset.ImageOrientationPatient).reshape(2, 3)
        between_rows, between_columns = numbers(dataset.PixelSpacing)
        distance = float(dataset.get("SpacingBetweenSlices") or dataset.SliceThickness)
    except UNREADABLE as error:
        raise RejectedSeriesError("a mosaic without position, orientation or size") from error
    side = math.ceil(math.sqrt(private.num_slices))
    if (picture % side).any() or not picture.all():
        raise RejectedSeriesError(f"a mosaic whose size {side} tiles a side do not divide")
    tile = picture // side
    axes = directions * [[between_columns], [between_rows]]  # mm a column, mm a row
    # The corner is that of a slice as large as the picture, with the first tile in its middle.
    first = corner + (picture - tile) / 2 @ axes
    middle = first + tile / 2 @ axes  # as the protocol counts
    normal = np.cross(*directions)
    steps = np.arange(private.num_slices)[:, None] * distance * _sign(private, normal, middle)
    return Mosaic(side=side, size=(int(tile[1]), int(tile[0])), positions_mm=first + steps * normal)


def cut_tiles(picture: np.ndarray, layout: Mosaic) -> list[np.ndarray]:
    """Cut a picture (rows, columns) into its tiles, in the order of `layout.positions_mm`.

    Raises:
        RejectedSeriesError: there is something in a tile that should be empty.
    """
    side, (rows, columns) = layout.side, layout.size
    by_row = picture.reshape(side, rows, side, columns).transpose(0, 2, 1, 3)
    tiles = by_row.reshape(-1, rows, columns)
    num_slices = len(layout.positions_mm)
    if num_slices < len(tiles) and np.ptp(tiles[num_slices:]):
        raise RejectedSeriesError(f"a mosaic of more than the {num_slices} slices it tells of")
    return list(tiles[:num_slices])


def _sign(private: _Private, normal: np.ndarray, middle_mm: np.ndarray) -> int:
    """Return 1 where the tiles follow the normal, -1 where they run against it.

    The CSA header's normal decides, else the protocol's order. Seen from the first tile's middle,
    the protocol's stack must lie on the side that this says.
    """
    places = _along(private, normal, middle_mm)
    if private.normal is not None and abs(private.normal @ normal) >= _PARALLEL:
        sign = int(np.sign(private.normal @ normal))
    elif places is not None:
        sign = int(np.sign(places[-1] - places[0])) * (-1 if private.is_reversed else 1)
    else:
        raise RejectedSeriesError("a mosaic whose headers do not tell the order of its slices")
    if places is not None and -sign * places.mean() > _BESIDE * np.ptp(places):
        raise RejectedSeriesError("a mosaic whose headers contradict each other on its slices")
    return sign


def _along(private: _Private, normal: np.ndarray, middle_mm: np.ndarray) -> np.ndarray | None:
    """Return where the protocol's slices lie along the normal, seen from a point, mm.

    None where the protocol has no stack of slices along it, as of a 3D acquisition.
    """
    if private.centres_mm is None:
        return None
    stack = private.centres_mm[-1] - private.centres_mm[0]
    if abs(stack @ normal) < max(_PARALLEL * np.linalg.norm(stack), 1e-3):
        return None
    return np.asarray((private.centres_mm - middle_mm) @ normal)


def _private(dataset: pydicom.Dataset) -> _Private:
    """Read Siemens' private headers; what is not there or damaged is None."""
    from nibabel.nicom import csareader  # warns at import that it is experimental

    num_slices, normal = None, None
    with contextlib.suppress(*UNREADABLE, csareader.CSAError):
        image = csareader.get_csa_header(dataset)
        if image is not None:
            num_slices, normal = csareader.get_n_mosaic(image), csareader.get_slice_normal(image)
    text = _protocol(dataset)
    told = _NUM_SLICES.search(text)
    num_slices = num_slices or _num_tiles(dataset) or (int(told[1]) if told else None)
    is_plausible = num_slices is not None and 1 <= num_slices <= _MAX_SLICES
    return _Private(
        num_slices=num_slices if is_plausible else None,
        normal=normal,
        centres_mm=_centres_mm(text, int(told[1]) if told else 0),
        is_reversed=bool(_IS_REVERSED.search(text)),
    )


def _num_tiles(dataset: pydicom.Dataset) -> int | None:
    try:
        return int(dataset.get_private_item(0x0019, 0x0A, "SIEMENS MR HEADER").value)
    except UNREADABLE:
        return None


def _protocol(dataset: pydicom.Dataset) -> str:
    try:
        value = dataset.get_private_item(0x0029, 0x20, "SIEMENS CSA HEADER").value
    except UNREADABLE:
        return ""
    text = value.decode("latin-1") if isinstance(value, bytes) else ""
    found = _PROTOCOL.search(text)
    return found[1] if found else ""


def _centres_mm(protocol: str, num_slices: int) -> np.ndarray | None:
    """Return the centres of the protocol's slices; a coordinate of 0 is not written."""
    if not 2 <= num_slices <= _MAX_SLICES:
        return None
    centres_mm = np.zeros((num_slices, 3))
    for index, axis, value in _CENTRE.findall(protocol):
        if int(index) < num_slices:
            with contextlib.suppress(ValueError):
                centres_mm[int(index), _PATIENT_AXES.index(axis)] = float(value)
    return centres_mm


def numbers(values: Any) -> np.ndarray:
    """Return the values of an element, such as a position, as floats."""
    return np.array([float(value) for value in values])
