"""The memory of a pre-training step, and what to do where it does not suffice."""

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nnunet_triad.architectures import encoder_spec, family_of
from nnunet_triad.architectures.meta import build_on_meta
from nnunet_triad.errors import UserError
from nnunet_triad.training.distributed import ProcessGroup
from nnunet_triad.training.fit import Count, must_recompute
from nnunet_triad.training.memory_estimate import (
    MemoryEstimate,
    estimate_step_memory,
    most_memory,
)
from nnunet_triad.training.settings import Triple
from pretraining.network import PretrainNetwork
from pretraining.settings import PretrainSettings


def with_recomputation(settings: PretrainSettings, group: ProcessGroup) -> PretrainSettings:
    """Return settings that say whether activations are recomputed: by memory, if left open."""
    spec = encoder_spec(settings.encoder)
    if settings.recompute_activations is not None:
        return settings
    share = settings.batch_size // group.size
    is_needed = family_of(spec).can_recompute and must_recompute(
        counting(settings, group, recompute_activations=False),
        group.device,
        at_most=most_memory(spec, share, settings.crop_size),
    )
    return replace(settings, recompute_activations=is_needed)


def counting(settings: PretrainSettings, group: ProcessGroup, **changes: Any) -> Count:
    """Return what counts the memory of a process of a run with other settings."""
    return functools.partial(_count, replace(settings, **changes), group.size, group.device.type)


def smaller_runs(settings: PretrainSettings, group: ProcessGroup) -> dict[str, Count]:
    """Return what needs less memory, what helps most first: the option -> its estimate."""
    found: dict[str, Count] = {}
    if family_of(encoder_spec(settings.encoder)).can_recompute:
        if not settings.recompute_activations:
            count = counting(settings, group, recompute_activations=True)
            found["--recompute-activations"] = count
        settings = replace(settings, recompute_activations=True)
    half = settings.batch_size // 2
    if half >= group.size and half % group.size == 0:
        found[f"--batch-size {half}"] = counting(settings, group, batch_size=half)
    stride = encoder_spec(settings.encoder).total_stride
    x, y, z = (max(n // 2 // s * s, s) for n, s in zip(settings.crop_size, stride, strict=True))
    size = (x, y, z)
    if size not in (settings.crop_size, stride) and _is_possible(settings, size):
        name = f"--crop-size {','.join(map(str, size))}"
        found[name] = counting(settings, group, crop_size=size)
    return found


def _is_possible(settings: PretrainSettings, size: Triple) -> bool:
    try:
        settings.objective.check_crop_size(size)
    except UserError:
        return False
    return True


def advice(settings: PretrainSettings) -> str:
    """Return what to do where memory has run out, what helps most first."""
    can_recompute = family_of(encoder_spec(settings.encoder)).can_recompute
    if can_recompute and not settings.recompute_activations:
        return (
            "try --recompute-activations, then a smaller --batch-size or more processes, then "
            "a smaller --crop-size"
        )
    # Swin in bf16 takes as much as in fp32 where attention keeps its maps; convolutions take half.
    is_half = settings.precision != "fp32"
    also = "" if can_recompute or is_half else ", or --precision bf16"
    return f"try a smaller --batch-size or more processes, then a smaller --crop-size{also}"


@functools.cache
def _count(settings: PretrainSettings, num_processes: int, device: str) -> MemoryEstimate:
    objective, spec = settings.objective, encoder_spec(settings.encoder)
    batch_size = settings.batch_size // num_processes
    crop = torch.zeros(1, *settings.crop_size)
    views = objective.views(crop, np.random.default_rng(0))

    def compute_loss(network: nn.Module, device: str) -> Tensor:
        batch = {
            name: torch.empty(batch_size, *view.shape, dtype=view.dtype, device=device)
            for name, view in {"image": crop, **views}.items()
        }
        outputs = network(batch).values()  # the objective's own loss may talk to other processes
        return torch.stack([value.float().square().mean() for value in outputs]).sum()

    recompute = bool(settings.recompute_activations)
    return estimate_step_memory(
        build_on_meta(lambda: PretrainNetwork(objective, spec, recompute=recompute)),
        compute_loss,
        device=device,
        precision=settings.precision,
        optimizer_values=1 if settings.optimizer == "sgd" else 2,
    )
