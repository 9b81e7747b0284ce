"""Metrics of a registration: Dice under both conventions, HD95, endpoint error."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from monai.metrics import compute_hausdorff_distance
from torch import Tensor

from nnunet_triad.evaluation import dice
from registration.spatial import warp

Labels = Mapping[str, Sequence[int]]  # name of a structure -> the label values that make it up


def warp_labels(labels: Tensor, displacement: Tensor) -> Tensor:
    """Warp a label map by nearest neighbour.

    Args:
        labels: (1, 1, x, y, z), whole numbers.
        displacement: (1, 3, x, y, z), voxels.
    """
    return warp(labels.float(), displacement, mode="nearest").round().to(labels.dtype)


def dice_by_structure(
    warped: np.ndarray, fixed: np.ndarray, moving: np.ndarray, structures: Labels
) -> dict[str, float]:
    """Return each structure's Dice; NaN where the moving or the fixed image lacks it.

    Source: Learn2Reg's evaluation skips labels that are absent in either image.
    """
    scores = {}
    for name, values in structures.items():
        truth, prediction = np.isin(fixed, values), np.isin(warped, values)
        is_there = truth.any() and np.isin(moving, values).any()
        scores[name] = dice(prediction, truth) if is_there else float("nan")
    return scores


def mean_of_known(values: Iterable[float]) -> float:
    """Return the mean of the values that are no NaN; NaN where none is left."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def hd95_by_structure(
    warped: np.ndarray,
    fixed: np.ndarray,
    moving: np.ndarray,
    structures: Labels,
    *,
    spacing_mm: Sequence[float],
) -> dict[str, float]:
    """Return each structure's 95th percentile of the symmetric surface distance, mm, by MONAI.

    NaN where the moving or the fixed image lacks it, or nothing of it is left after the warp.
    """
    distances = {}
    for name, values in structures.items():
        truth, prediction = np.isin(fixed, values), np.isin(warped, values)
        is_there = truth.any() and prediction.any() and np.isin(moving, values).any()
        if not is_there:
            distances[name] = float("nan")
            continue
        box = _bounding_box(truth | prediction)
        one, other = (torch.from_numpy(mask[box])[None, None] for mask in (prediction, truth))
        found = compute_hausdorff_distance(
            one, other, include_background=True, percentile=95, spacing=tuple(spacing_mm)
        )
        distances[name] = float(found)
    return distances


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Return the slices around a mask with a margin of one voxel."""
    places = np.nonzero(mask)
    return tuple(slice(max(int(p.min()) - 1, 0), int(p.max()) + 2) for p in places)


def endpoint_error_mm(
    displacement_mm: np.ndarray, truth_mm: np.ndarray, mask: np.ndarray | None = None
) -> float:
    """Return the mean distance between two displacement fields, mm.

    Args:
        displacement_mm: (x, y, z, 3).
        truth_mm: the same shape and grid.
        mask: (x, y, z) bool, where it counts; None: everywhere.
    """
    gap = np.linalg.norm(displacement_mm - truth_mm, axis=-1)
    return float(gap.mean() if mask is None else gap[mask].mean())


def structures_of(*label_maps: np.ndarray) -> dict[str, tuple[int, ...]]:
    """Return all non-zero labels of some maps as structures named by their value."""
    values = np.unique(np.concatenate([np.unique(labels) for labels in label_maps]))
    return {str(value): (int(value),) for value in values if value != 0}
