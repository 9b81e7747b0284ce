"""Quality rules: what keeps an image out of the store, each a switch with a default.

The paper names screening of low-quality images as future work; thresholds and defaults are ours.
"""

from dataclasses import dataclass

import numpy as np

from nnunet_triad.errors import UserError
from pretraining.curation.series import HeaderFacts, RejectedSeriesError

_FOREGROUND_SHARE_OF_RANGE = 0.05  # above that share of the range of values a voxel counts as full
_STRIDE = 2  # shares are taken over every second voxel of each axis: an eighth of the volume


@dataclass(frozen=True, kw_only=True)
class QualityRules:
    """Which images are set aside.

    Attributes:
        reject_constant: every voxel has the same value.
        reject_nan: NaN or infinite values; when off they become 0.
        min_foreground: least share of voxels above 5 % of the range of values; 0 is off.
        max_clipped: largest share of the foreground that has the highest value; 1 is off.
        min_slices: along the axis of the largest spacing; 1 is off.
        max_spacing_mm: along any axis; infinity is off.
        reject_other_modalities: whatever its header does not call MR; no word counts as MR.
        reject_derived: maps, projections, subtractions, phase images; ADC maps are kept.
        reject_duplicates: the same voxels as another series.
    """

    reject_constant: bool = True
    reject_nan: bool = True
    min_foreground: float = 0.01
    max_clipped: float = 0.02
    min_slices: int = 8
    max_spacing_mm: float = 10.0
    reject_other_modalities: bool = True
    reject_derived: bool = True
    reject_duplicates: bool = True

    def __post_init__(self) -> None:
        for name in ("min_foreground", "max_clipped"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(
                    f"--{name.replace('_', '-')}: expected a share from 0 to 1, "
                    f"got {getattr(self, name)}"
                )
        if self.min_slices < 1:
            raise UserError(f"--min-slices: expected 1 or more, got {self.min_slices}")
        if not self.max_spacing_mm > 0:
            raise UserError(f"--max-spacing-mm: expected more than 0, got {self.max_spacing_mm}")


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
    num_slices = shape[int(np.argmax(spacing_mm))]
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
