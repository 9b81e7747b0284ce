"""The learning rate as a pure function of the step: nothing to save, nothing to resume."""

import math


def learning_rate_at(step: int, *, peak: float, warmup_steps: int, steps: int) -> float:
    """Return the learning rate of one step: linear warm-up, then half a cosine down to zero.

    Source: section 4.5 of the paper: zero at 200,000 steps, a warm-up of 1,000.

    Args:
        step: steps done before, 0 to `steps`; at `steps` the rate is exactly zero.
        peak: the rate at the end of the warm-up.
        warmup_steps: rises in equal parts from peak / warmup_steps; 0: starts at `peak`.
        steps: length of the whole run.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / (steps - warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * progress))
