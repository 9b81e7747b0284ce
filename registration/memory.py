"""The memory of a training step of registration, and what to do where it does not suffice."""

import functools
from dataclasses import replace

import torch
from torch import Tensor, nn

from nnunet_triad.architectures import family_of
from nnunet_triad.architectures.meta import build_on_meta
from nnunet_triad.training.fit import Count, must_recompute
from nnunet_triad.training.memory_estimate import (
    MemoryEstimate,
    estimate_step_memory,
    most_memory,
)
from nnunet_triad.training.settings import Triple
from registration.losses import WarpedPair, total_loss
from registration.model_file import build_network
from registration.networks import network_spec
from registration.settings import RegistrationSettings


def with_recomputation(settings: RegistrationSettings, size: Triple) -> RegistrationSettings:
    """Return settings that say whether activations are recomputed: by memory, if left open.

    Args:
        settings: of the training.
        size: voxels of a pair, x y z.
    """
    _, spec = network_spec(settings.network)
    if settings.recompute_activations is not None:
        return settings
    is_needed = family_of(spec).can_recompute and must_recompute(
        counting(settings, size, recompute_activations=False),
        torch.device(settings.device),
        at_most=most_memory(spec, 2, size),
    )
    return replace(settings, recompute_activations=is_needed)


def counting(settings: RegistrationSettings, size: Triple, **changes: object) -> Count:
    """Return what counts the memory of a training with other settings on pairs of a size."""
    changed = replace(settings, **changes)  # type: ignore[arg-type]  # checked there
    return functools.partial(_count, changed, size)


def smaller_runs(settings: RegistrationSettings, size: Triple) -> dict[str, Count]:
    """Return what needs less memory, what helps most first: the option -> its estimate."""
    found: dict[str, Count] = {}
    if not settings.recompute_activations:
        settings = replace(settings, recompute_activations=True)
        found["--recompute-activations"] = counting(settings, size)
    half = (size[0] // 2, size[1] // 2, size[2] // 2)
    found["--spacing of twice as much"] = counting(settings, half)
    return found


def advice(settings: RegistrationSettings) -> str:
    """Return what to do where memory has run out, what helps most first."""
    ways = [
        *(["--recompute-activations"] if not settings.recompute_activations else []),
        "a coarser --spacing",
        # Attention at half the image's size is what takes most, and stays.
        *(["--half-resolution"] if not settings.is_half_resolution else []),
    ]
    return f"try {', then '.join(ways)}"


@functools.cache
def _count(settings: RegistrationSettings, size: Triple) -> MemoryEstimate:
    def compute_loss(network: nn.Module, device: str) -> Tensor:
        moving, fixed = (torch.empty(1, 1, *size, device=device) for _ in range(2))
        displacement = network(moving, fixed)
        pair = WarpedPair(moving=moving, fixed=fixed, displacement=displacement)
        return total_loss(pair, settings)["loss"]

    return estimate_step_memory(
        build_on_meta(lambda: build_network(settings)),
        compute_loss,
        device=torch.device(settings.device).type,
        precision=settings.precision,
        optimizer_values=3,  # amsgrad's
    )
