"""Each quality rule rejects what it names, lets the rest pass, and can be switched off."""

import numpy as np
import pytest

from nnunet_triad.errors import UserError
from pretraining.curation.screening import check_grid, check_header, check_voxels
from pretraining.curation.series import HeaderFacts, RejectedSeriesError
from pretraining.curation.settings import QualityRules


def with_one_corner(share: float) -> np.ndarray:
    """A volume of zeros, of which about `share` of the voxels are bright and unlike."""
    volume = np.zeros((40, 36, 32))
    num = round(share * volume.size)
    volume.ravel()[:num] = np.linspace(500, 1000, num)
    return volume


def clipped(brain, share: float) -> np.ndarray:
    volume = brain.image.astype(float)
    highest = np.quantile(volume[volume > 0.05 * volume.max()], 1 - share)
    return np.minimum(volume, highest)


VOXELS = {  # rule switched off, a volume that breaks it, one that does not, reason
    "nearly empty": (
        {"min_foreground": 0.0},
        lambda brain: with_one_corner(0.004),
        lambda brain: with_one_corner(0.03),
        r"nearly empty \(0\.\d+% of the voxels",
    ),
    "clipped": (
        {"max_clipped": 1.0},
        lambda brain: clipped(brain, 0.10),
        lambda brain: clipped(brain, 0.005),
        r"clipped \(\d+\.\d% of the foreground at the highest value",
    ),
    "constant": (
        {"reject_constant": False},
        lambda brain: np.full((20, 20, 20), 3.0),
        lambda brain: brain.image,
        "constant",
    ),
    "nan": (
        {"reject_nan": False},
        lambda brain: np.where(brain.labels == 1, np.nan, brain.image),
        lambda brain: brain.image,
        "contains NaN",
    ),
}


@pytest.mark.parametrize(("off", "bad", "good", "reason"), list(VOXELS.values()), ids=list(VOXELS))
def test_rule_about_voxels(brain, off, bad, good, reason):
    with pytest.raises(RejectedSeriesError, match=reason):
        check_voxels(bad(brain), QualityRules())
    np.testing.assert_array_equal(check_voxels(good(brain), QualityRules()), good(brain))
    assert np.isfinite(check_voxels(bad(brain), QualityRules(**off))).all()


def test_values_beyond_float32_are_rejected_whatever_the_rules():
    volume = np.zeros((8, 8, 8))
    volume[4] = 1e300
    with pytest.raises(RejectedSeriesError, match="beyond the range of float32"):
        check_voxels(volume, QualityRules(min_foreground=0.0, max_clipped=1.0))


def test_slices_are_counted_along_the_axis_with_fewest():
    rules = QualityRules(min_slices=8)
    check_grid((200, 200, 8), np.array([1.0, 1.0, 5.0]), rules)
    with pytest.raises(RejectedSeriesError, match=r"too few slices \(4, wanted 8\)"):
        check_grid((4, 200, 200), np.array([5.0, 1.0, 1.0]), rules)
    with pytest.raises(RejectedSeriesError, match=r"too few slices \(6, wanted 8\)"):
        check_grid((64, 64, 6), np.array([3.0, 3.0, 2.0]), rules)  # finer than the pixels
    check_grid((4, 200, 200), np.array([5.0, 1.0, 1.0]), QualityRules(min_slices=1))


def test_coarse_spacing_along_any_axis_is_rejected():
    spacing_mm = np.array([1.0, 12.5, 1.0])
    with pytest.raises(RejectedSeriesError, match=r"too coarse \(12.5 mm between voxels"):
        check_grid((50, 50, 50), spacing_mm, QualityRules())
    check_grid((50, 50, 50), spacing_mm, QualityRules(max_spacing_mm=float("inf")))


@pytest.mark.parametrize(
    ("facts", "off", "reason"),
    [
        (HeaderFacts(modality="CT"), {"reject_other_modalities": False}, "not MR but modality CT"),
        (HeaderFacts(derived="T2 map"), {"reject_derived": False}, "derived: T2 map"),
    ],
)
def test_rule_about_the_header(facts, off, reason):
    with pytest.raises(RejectedSeriesError, match=reason):
        check_header(facts, QualityRules())
    check_header(facts, QualityRules(**off))


def test_header_that_tells_nothing_passes():
    check_header(HeaderFacts(), QualityRules())
    check_header(HeaderFacts(modality="MR"), QualityRules())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_foreground": 1.5}, "min_foreground: expected 0 or more and at most 1, got 1.5"),
        ({"max_clipped": -0.1}, "max_clipped: expected 0 or more and at most 1, got -0.1"),
        ({"min_slices": 0}, "min_slices: expected 1 or more, got 0"),
        ({"max_spacing_mm": 0.0}, "max_spacing_mm: expected above 0 .*, got 0.0"),
        ({"max_spacing_mm": float("nan")}, "max_spacing_mm: expected above 0 .*, got nan"),
    ],
)
def test_rules_outside_their_range_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        QualityRules(**changes)
