import math

import numpy as np
import pytest

from nnunet_triad.phantom.sequences import SEQUENCES, Sequence
from nnunet_triad.phantom.signal import (
    inversion_recovery,
    spin_echo,
    spoiled_gradient_echo,
    tissue_signal,
)
from nnunet_triad.phantom.tissues import TISSUES, Tissue

TISSUE = Tissue(t1_ms=1000, t2_ms=100, t2_star_ms=50, proton_density=0.8)


def test_spin_echo_halves_each_factor_at_half_lives() -> None:
    # TR = T1 ln 2 recovers one half; TE = T2 ln 2 leaves one half of that.
    signal = spin_echo(
        TISSUE, repetition_time_ms=1000 * math.log(2), echo_time_ms=100 * math.log(2)
    )
    assert signal == pytest.approx(0.8 / 4)


def test_spin_echo_of_long_repetition_and_short_echo_is_the_proton_density() -> None:
    assert spin_echo(TISSUE, repetition_time_ms=1e6, echo_time_ms=1e-6) == pytest.approx(0.8)


def test_inversion_recovery_is_zero_at_the_null_point() -> None:
    repetition_time_ms = 3000.0
    null_ms = 1000 * math.log(2 / (1 + math.exp(-repetition_time_ms / 1000)))
    signal = inversion_recovery(
        TISSUE,
        repetition_time_ms=repetition_time_ms,
        echo_time_ms=10,
        inversion_time_ms=null_ms,
    )
    assert signal == pytest.approx(0, abs=1e-12)


def test_inversion_recovery_is_a_magnitude() -> None:
    # Right after the pulse, the magnetisation is inverted: nearly -1 before the magnitude.
    signal = inversion_recovery(
        TISSUE, repetition_time_ms=1e6, echo_time_ms=1e-6, inversion_time_ms=1e-3
    )
    assert signal == pytest.approx(0.8, rel=1e-4)


def test_spoiled_gradient_echo_with_90_degrees_is_saturation_recovery() -> None:
    signal = spoiled_gradient_echo(
        TISSUE, repetition_time_ms=500, echo_time_ms=50 * math.log(2), flip_angle_deg=90
    )
    assert signal == pytest.approx(0.8 * (1 - math.exp(-0.5)) / 2)


def test_spoiled_gradient_echo_is_largest_at_the_ernst_angle() -> None:
    ernst_deg = math.degrees(math.acos(math.exp(-20 / 1000)))
    angles = np.linspace(2, 60, 59)
    signals = [
        spoiled_gradient_echo(TISSUE, repetition_time_ms=20, echo_time_ms=5, flip_angle_deg=a)
        for a in angles
    ]
    assert angles[int(np.argmax(signals))] == pytest.approx(ernst_deg, abs=1)


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("T1w", ("csf", "grey_matter", "white_matter", "fat")),
        ("T1se", ("csf", "grey_matter", "white_matter", "fat")),
        ("T2w", ("white_matter", "grey_matter", "oedema", "csf")),
        ("FLAIR", ("csf", "white_matter", "grey_matter", "oedema")),
        ("PDw", ("muscle", "white_matter", "grey_matter", "csf")),
        ("STIR", ("fat", "white_matter", "grey_matter", "csf")),
    ],
)
def test_tissues_have_the_contrast_that_radiologists_know(
    name: str, order: tuple[str, ...]
) -> None:
    signals = [tissue_signal(TISSUES[t], SEQUENCES[name], field_strength_t=1.5) for t in order]
    assert signals == sorted(signals)


def test_contrast_agent_brightens_the_rim_and_not_the_brain() -> None:
    def signal(tissue: str, sequence: str) -> float:
        return tissue_signal(TISSUES[tissue], SEQUENCES[sequence], field_strength_t=1.5)

    assert signal("enhancing_rim", "T1ce") > 1.5 * signal("enhancing_rim", "T1w")
    assert signal("enhancing_rim", "T1ce") > signal("white_matter", "T1ce")
    assert signal("white_matter", "T1ce") == signal("white_matter", "T1w")


def test_contrast_agent_adds_relaxation_rates() -> None:
    # 1/T1 + r1 C with r1 = 4.1 per mmol/l and second, so 1 mmol/l adds 4.1 per second.
    tissue = Tissue(
        t1_ms=1000, t2_ms=100, t2_star_ms=50, proton_density=1, gadolinium_mmol_per_l=1
    ).with_contrast_agent()
    assert tissue.t1_ms == pytest.approx(1000 / (1 + 4.1))
    assert tissue.t2_ms == pytest.approx(1000 / (10 + 4.6))


def test_field_strength_changes_relaxation_as_measured() -> None:
    at_3t = TISSUE.at_field_strength(3.0)
    assert at_3t.t1_ms == pytest.approx(1210)
    assert at_3t.t2_ms == pytest.approx(92)
    assert at_3t.t2_star_ms == pytest.approx(40)
    assert TISSUE.at_field_strength(1.5) == TISSUE


def test_fluid_keeps_t1_and_t2_at_3_tesla() -> None:
    csf = TISSUES["csf"]
    assert csf.at_field_strength(3.0).t1_ms == csf.t1_ms
    assert csf.at_field_strength(3.0).t2_ms == csf.t2_ms


def test_sequence_with_echo_after_repetition_is_refused() -> None:
    with pytest.raises(ValueError, match="echo_time_ms: expected more than 0 and less than"):
        Sequence(name="x", kind="spin_echo", repetition_time_ms=100, echo_time_ms=120)


def test_sequence_without_its_inversion_time_is_refused() -> None:
    with pytest.raises(ValueError, match="inversion_time_ms: expected a time for inversion"):
        Sequence(name="x", kind="inversion_recovery", repetition_time_ms=900, echo_time_ms=10)


def test_sequence_of_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"kind: expected one of spin_echo, .*got 'epi'"):
        Sequence(name="x", kind="epi", repetition_time_ms=900, echo_time_ms=10)


def test_varied_sequence_stays_near_and_repeats() -> None:
    sequence = SEQUENCES["T2w"]
    varied = [sequence.varied(np.random.default_rng(3)) for _ in range(2)]
    assert varied[0] == varied[1] != sequence
    assert varied[0].repetition_time_ms == pytest.approx(3300, rel=0.09)
    assert varied[0].echo_time_ms == pytest.approx(120, rel=0.09)
