"""Checks that every image must pass, whatever its file format."""

import numpy as np

from nnunet_triad.images import spacing_of
from nnunet_triad.images.orientation import is_singular
from pretraining.curation.series import RejectedSeriesError

MAX_VOXELS = 1 << 30  # of one time point: 4 GiB as float32; above that the header is nonsense
SPACING_RANGE_MM = (1e-3, 1e3)
MAX_SHEAR_DEG = 2.5  # as of a stack of DICOM slices


def check_shape(shape: tuple[int, ...]) -> None:
    """Accept 3D, and 4D with time as the last axis.

    Raises:
        RejectedSeriesError: it is 2D, has more dimensions, or is implausibly large.
    """
    text = "x".join(map(str, shape))
    if len(shape) < 3 or min(shape[:3]) < 2:
        raise RejectedSeriesError(f"not 3D (shape {text})")
    if any(length != 1 for length in shape[4:]) or min(shape) < 1:
        raise RejectedSeriesError(f"more than four dimensions (shape {text})")
    if np.prod(shape[:3], dtype=float) > MAX_VOXELS:
        raise RejectedSeriesError(f"implausibly large (shape {text})")


def check_affine(affine: np.ndarray) -> np.ndarray:
    """Return an affine (4, 4) as float64.

    Raises:
        RejectedSeriesError: it is not finite, singular, or its spacing is implausible, or its axes
            are not at right angles.
    """
    affine = np.asarray(affine, dtype=float)
    if not np.isfinite(affine).all():
        raise RejectedSeriesError("affine is not finite")
    if is_singular(affine):
        raise RejectedSeriesError("affine is singular")
    spacing_mm = spacing_of(affine)
    lowest, highest = SPACING_RANGE_MM
    if spacing_mm.min() < lowest or spacing_mm.max() > highest:
        text = " x ".join(f"{spacing:.3g}" for spacing in spacing_mm)
        raise RejectedSeriesError(f"implausible spacing ({text} mm)")
    if (shear_deg := _shear_deg(affine)) > MAX_SHEAR_DEG:
        raise RejectedSeriesError(f"sheared axes ({shear_deg:.1f} degrees from a right angle)")
    return affine


def _shear_deg(affine: np.ndarray) -> float:
    """Return how far the angle between two axes is from a right one, of all pairs the farthest."""
    directions = affine[:3, :3] / spacing_of(affine)
    cosines = np.abs(directions.T @ directions - np.eye(3)).max()
    return float(np.degrees(np.arcsin(min(cosines, 1.0))))
