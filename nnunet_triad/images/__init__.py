"""Volumes and their grids: reading, writing, orientation, spacing, size and intensity.

No other part of the project reads or writes image files.
"""

from nnunet_triad.images.intensity import choose_storage_dtype, round_to_storage_dtype
from nnunet_triad.images.labels import read_labels, write_labels
from nnunet_triad.images.orientation import from_ras, is_singular, spacing_of, to_ras
from nnunet_triad.images.reader import Nan, UnreadableImageError, open_image, read_volume
from nnunet_triad.images.resampling import (
    AxisMatrices,
    apply_along_axes,
    interpolation_matrix,
    iterate_planes,
    plan_resampling,
    resample_and_resize,
    resize_matrix,
    spacing_matrix,
)
from nnunet_triad.images.volume import Grid, Volume
from nnunet_triad.images.writer import write_volume

__all__ = [
    "AxisMatrices",
    "Grid",
    "Nan",
    "UnreadableImageError",
    "Volume",
    "apply_along_axes",
    "choose_storage_dtype",
    "from_ras",
    "interpolation_matrix",
    "is_singular",
    "iterate_planes",
    "open_image",
    "plan_resampling",
    "read_labels",
    "read_volume",
    "resample_and_resize",
    "resize_matrix",
    "round_to_storage_dtype",
    "spacing_matrix",
    "spacing_of",
    "to_ras",
    "write_labels",
    "write_volume",
]
