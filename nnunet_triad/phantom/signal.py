"""Signal equations of magnetic resonance: what a tissue looks like in a sequence."""

import numpy as np

from nnunet_triad.phantom.sequences import Sequence
from nnunet_triad.phantom.tissues import Tissue


def spin_echo(tissue: Tissue, *, repetition_time_ms: float, echo_time_ms: float) -> float:
    """Return PD (1 - e^(-TR/T1)) e^(-TE/T2), the signal of a spin echo with a 90 degree pulse.

    Source: Haacke et al., Magnetic Resonance Imaging (1999), for TE much shorter than TR.
    """
    recovery = 1 - np.exp(-repetition_time_ms / tissue.t1_ms)
    return float(tissue.proton_density * recovery * np.exp(-echo_time_ms / tissue.t2_ms))


def inversion_recovery(
    tissue: Tissue, *, repetition_time_ms: float, echo_time_ms: float, inversion_time_ms: float
) -> float:
    """Return PD |1 - 2 e^(-TI/T1) + e^(-TR/T1)| e^(-TE/T2), the magnitude of an inversion recovery.

    Source: Haacke et al. (1999), for TE much shorter than TR. The magnitude, as scanners store it.
    """
    recovery = (
        1
        - 2 * np.exp(-inversion_time_ms / tissue.t1_ms)
        + np.exp(-repetition_time_ms / tissue.t1_ms)
    )
    return float(tissue.proton_density * abs(recovery) * np.exp(-echo_time_ms / tissue.t2_ms))


def spoiled_gradient_echo(
    tissue: Tissue, *, repetition_time_ms: float, echo_time_ms: float, flip_angle_deg: float
) -> float:
    """Return PD sin(a) (1 - E1) / (1 - cos(a) E1) e^(-TE/T2*) with E1 = e^(-TR/T1).

    Source: Haacke et al. (1999), the steady state of an ideally spoiled gradient echo.
    """
    angle = np.deg2rad(flip_angle_deg)
    e1 = np.exp(-repetition_time_ms / tissue.t1_ms)
    steady_state = np.sin(angle) * (1 - e1) / (1 - np.cos(angle) * e1)
    decay = np.exp(-echo_time_ms / tissue.t2_star_ms)
    return float(tissue.proton_density * steady_state * decay)


def tissue_signal(tissue: Tissue, sequence: Sequence, *, field_strength_t: float) -> float:
    """Return the noiseless signal of a tissue, between 0 and its proton density.

    Args:
        tissue: its properties at 1.5 T.
        sequence: decides the equation, the times and whether there is contrast agent.
        field_strength_t: tesla.
    """
    tissue = tissue.at_field_strength(field_strength_t)
    if sequence.is_contrast_enhanced:
        tissue = tissue.with_contrast_agent()
    times = {
        "repetition_time_ms": sequence.repetition_time_ms,
        "echo_time_ms": sequence.echo_time_ms,
    }
    if sequence.kind == "spin_echo":
        return spin_echo(tissue, **times)
    if sequence.kind == "spoiled_gradient_echo":
        return spoiled_gradient_echo(tissue, **times, flip_angle_deg=sequence.flip_angle_deg)
    assert sequence.inversion_time_ms is not None  # Sequence checks it
    return inversion_recovery(tissue, **times, inversion_time_ms=sequence.inversion_time_ms)
