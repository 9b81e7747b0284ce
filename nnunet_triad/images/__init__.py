"""Orientation, spacing, size and intensity: pure functions on arrays and affines."""

from nnunet_triad.images.intensity import choose_storage_dtype, round_to_storage_dtype
from nnunet_triad.images.orientation import spacing_of, to_ras
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

__all__ = [
    "AxisMatrices",
    "apply_along_axes",
    "choose_storage_dtype",
    "interpolation_matrix",
    "iterate_planes",
    "plan_resampling",
    "resample_and_resize",
    "resize_matrix",
    "round_to_storage_dtype",
    "spacing_matrix",
    "spacing_of",
    "to_ras",
]
