"""The learning rate as a pure function of the step: nothing to save, nothing to resume."""

import math
from typing import Literal

_EXPONENT = 0.9  # nnU-Net's


def learning_rate_at(
    step: int,
    *,
    peak: float,
    warmup_steps: int,
    steps: int,
    decay: Literal["cosine", "polynomial"] = "cosine",
) -> float:
    """Return the learning rate of one step: linear warm-up, then a fall to zero.

    Source: section 4.5 of the paper: zero at 200,000 steps, a warm-up of 1,000.

    Args:
        step: steps done before, 0 to `steps`; at `steps` the rate is exactly zero.
        peak: the rate at the end of the warm-up.
        warmup_steps: rises in equal parts from peak / warmup_steps; 0: starts at `peak`.
        steps: length of the whole run.
        decay: half a cosine, or nnU-Net's (1 - t/T)^0.9.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / (steps - warmup_steps)
    if decay == "polynomial":
        return float(peak * (1 - progress) ** _EXPONENT)
    return peak * 0.5 * (1 + math.cos(math.pi * progress))
