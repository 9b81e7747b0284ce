"""Quality rules at work: each refuses an image with its reason."""

import numpy as np

from pretraining.curation.series import HeaderFacts, RejectedSeriesError
from pretraining.curation.settings import QualityRules

_FOREGROUND_SHARE_OF_RANGE = 0.05  # above that share of the range of values a voxel counts as full
_STRIDE = 2  # shares are taken over every second voxel of each axis: an eighth of the volume


def check_header(facts: HeaderFacts, rules: QualityRules) -> None:
    """Apply the rules that need no voxels.

    Raises:
        RejectedSeriesError: with the reason.
    """
    if rules.reject_other_modalities and facts.modality not in (None, "MR"):
        raise RejectedSeriesError(f"not MR but modality {facts.modality}")
    if rules.reject_derived and facts.derived is not None:
        raise RejectedSeriesError(f"derived: {facts.derived}")


def check_grid(shape: tuple[int, ...], spacing_mm: np.ndarray, rules: QualityRules) -> None:
    """Apply the rules about the source's grid: (3,) voxels and (3,) mm.

    Raises:
        RejectedSeriesError: with the reason.
    """
    num_slices = min(shape)  # a slab is thin along the axis of its slices, whatever its spacing
    if num_slices < rules.min_slices:
        raise RejectedSeriesError(f"too few slices ({num_slices}, wanted {rules.min_slices})")
    if spacing_mm.max() > rules.max_spacing_mm:
        raise RejectedSeriesError(
            f"too coarse ({spacing_mm.max():.3g} mm between voxels, "
            f"wanted at most {rules.max_spacing_mm:g})"
        )


def check_voxels(volume: np.ndarray, rules: QualityRules) -> np.ndarray:
    """Apply the rules about values.

    Args:
        volume: (x, y, z), the source's values.
        rules: the switches.

    Returns:
        The volume; without NaN and infinity when the rules let them pass.

    Raises:
        RejectedSeriesError: with the reason.
    """
    if not _is_finite(volume):
        if rules.reject_nan:
            raise RejectedSeriesError("contains NaN or infinite values")
        volume = np.nan_to_num(volume, nan=0.0, posinf=0.0, neginf=0.0)
    lowest, highest = float(volume.min()), float(volume.max())
    if max(abs(lowest), abs(highest)) > float(np.finfo(np.float32).max):
        raise RejectedSeriesError("values beyond the range of float32")
    if lowest == highest:
        if rules.reject_constant:
            raise RejectedSeriesError("constant: every voxel has the same value")
        return volume
    _check_shares(volume, lowest, highest, rules=rules)
    return volume


def _check_shares(
    volume: np.ndarray, lowest: float, highest: float, *, rules: QualityRules
) -> None:
    sample = volume[::_STRIDE, ::_STRIDE, ::_STRIDE]
    threshold = lowest + _FOREGROUND_SHARE_OF_RANGE * (highest - lowest)
    num_full = int(np.count_nonzero(sample > threshold))
    share = num_full / sample.size
    if share < rules.min_foreground:
        raise RejectedSeriesError(
            f"nearly empty ({share:.2%} of the voxels above 5 % of the range, "
            f"wanted {rules.min_foreground:.2%})"
        )
    num_clipped = int(np.count_nonzero(sample == highest))
    if num_clipped > 1 and num_clipped > rules.max_clipped * max(num_full, 1):
        raise RejectedSeriesError(
            f"clipped ({num_clipped / max(num_full, 1):.1%} of the foreground at the highest value "
            f"{highest:g}, wanted at most {rules.max_clipped:.1%})"
        )


def _is_finite(volume: np.ndarray) -> bool:
    return volume.dtype.kind in "iu" or bool(np.isfinite(volume).all())
