"""A volume as a scanner sees it: a stack of slices with their places in the patient."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nnunet_triad.images import spacing_of, to_ras

# Slice axis of a RAS volume -> its column and row axes. Columns run to the left or to posterior,
# rows to posterior or to inferior, as viewers show them.
_PLANES = {0: (1, 2), 1: (0, 2), 2: (0, 1)}
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, kw_only=True)
class SliceStack:
    """Slices in the order of their places, as stored in DICOM.

    Attributes:
        frames: (slices, rows, columns) uint16.
        slope: what a stored value is multiplied with.
        orientation: (6,), directions in which columns and rows are counted, LPS.
        positions_mm: (slices, 3), centre of each slice's first pixel, LPS.
        pixel_spacing_mm: between rows, between columns.
        slice_spacing_mm: between the slices.
    """

    frames: np.ndarray
    slope: float
    orientation: np.ndarray
    positions_mm: np.ndarray
    pixel_spacing_mm: tuple[float, float]
    slice_spacing_mm: float

    def keep(self, slices: Sequence[int]) -> "SliceStack":
        """Return the stack with these slices, in this order; a repeated one stands twice."""
        chosen = list(slices)
        return replace(self, frames=self.frames[chosen], positions_mm=self.positions_mm[chosen])

    def tilted(self, degrees: float) -> "SliceStack":
        """Return the stack of a tilted gantry: each slice is shifted along its rows' direction."""
        steps = np.arange(len(self.frames)) * self.slice_spacing_mm * np.tan(np.radians(degrees))
        shifts = steps[:, None] * self.orientation[None, 3:]
        return replace(self, positions_mm=self.positions_mm + shifts)


def make_stack(
    image: np.ndarray, affine: np.ndarray, *, slice_axis: int | None = None
) -> SliceStack:
    """Cut a volume into slices.

    Args:
        image: (x, y, z), at least 0. Values up to 65535 are rounded to whole numbers; those of an
            image that would lose by that (a maximum below 256) or not fit are scaled.
        affine: (4, 4), voxel to world (RAS) in mm.
        slice_axis: axis of the RAS volume that the slices follow; default: the coarsest.
    """
    volume, ras_affine = to_ras(image, affine)
    spacing_mm = spacing_of(ras_affine)
    if slice_axis is None:
        slice_axis = 2 - int(np.argmax(spacing_mm[::-1]))
    column_axis, row_axis = _PLANES[slice_axis]
    for axis in (column_axis, row_axis):
        volume, ras_affine = _flip(volume, ras_affine, axis)
    slope = _slope(float(volume.max()))
    frames = np.rint(np.transpose(volume, (slice_axis, row_axis, column_axis)) / slope)
    lps_affine = _RAS_TO_LPS @ ras_affine
    steps = np.arange(len(frames))[:, None] * lps_affine[None, :3, slice_axis]
    directions = lps_affine[:3, :3] / spacing_mm
    return SliceStack(
        frames=frames.astype(np.uint16),
        slope=slope,
        orientation=np.concatenate([directions[:, column_axis], directions[:, row_axis]]),
        positions_mm=lps_affine[:3, 3] + steps,
        pixel_spacing_mm=(float(spacing_mm[row_axis]), float(spacing_mm[column_axis])),
        slice_spacing_mm=float(spacing_mm[slice_axis]),
    )


def _flip(volume: np.ndarray, affine: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    reverse = np.eye(4)
    reverse[axis, axis] = -1
    reverse[axis, 3] = volume.shape[axis] - 1
    return np.flip(volume, axis), affine @ reverse


def _slope(maximum: float) -> float:
    """Return 1 where whole numbers are fine enough, else what maps the maximum to 12 bits."""
    if 256 <= maximum <= 65535 or maximum == 0:
        return 1.0
    return float(f"{maximum / 4095:.6g}")
