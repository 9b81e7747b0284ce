"""The memory of a step of fine-tuning a classifier, and what to do where it does not suffice."""

import functools
from dataclasses import replace

import torch
from torch import Tensor, nn

from classification.model_file import Description, build_network
from classification.settings import TrainSettings
from nnunet_triad.architectures import encoder_spec, family_of
from nnunet_triad.architectures.meta import build_on_meta
from nnunet_triad.training.fit import Count, must_recompute
from nnunet_triad.training.memory_estimate import (
    MemoryEstimate,
    estimate_step_memory,
    most_memory,
)
from nnunet_triad.training.run_folder import SCRATCH

PROBE_ADVICE = "try a smaller --batch-size, then a smaller --size or --encoder"


def with_recomputation(
    settings: TrainSettings, num_channels: int, device: torch.device
) -> TrainSettings:
    """Return settings that say whether activations are recomputed: by memory, if left open."""
    if settings.recompute_activations is not None:
        return settings
    spec = encoder_spec(settings.encoder)
    is_needed = (
        family_of(spec).can_recompute
        and settings.mode == "finetune"
        and must_recompute(
            counting(settings, num_channels, device, recompute_activations=False),
            device,
            at_most=most_memory(spec, settings.batch_size, (settings.preprocess.size,) * 3),
        )
    )
    return replace(settings, recompute_activations=is_needed)


def counting(
    settings: TrainSettings, num_channels: int, device: torch.device, **changes: object
) -> Count:
    """Return what counts the memory of a fine-tuning with other settings."""
    changed = replace(settings, **changes)  # type: ignore[arg-type]  # checked there
    return functools.partial(_count, changed, num_channels, device.type)


def smaller_runs(
    settings: TrainSettings, num_channels: int, device: torch.device
) -> dict[str, Count]:
    """Return what needs less memory, what helps most first: the option -> its estimate."""
    found: dict[str, Count] = {}
    can_recompute = family_of(encoder_spec(settings.encoder)).can_recompute
    if can_recompute and not settings.recompute_activations:
        settings = replace(settings, recompute_activations=True)
        found["--recompute-activations"] = counting(settings, num_channels, device)
    if settings.batch_size > 1:
        half = settings.batch_size // 2
        found[f"--batch-size {half}"] = counting(settings, num_channels, device, batch_size=half)
    return found


def advice(settings: TrainSettings) -> str:
    """Return what to do where memory has run out, what helps most first."""
    can_recompute = family_of(encoder_spec(settings.encoder)).can_recompute
    is_first = can_recompute and not settings.recompute_activations
    if settings.mode == "finetune" and is_first:
        return PROBE_ADVICE.replace("try ", "try --recompute-activations, then ", 1)
    return PROBE_ADVICE


@functools.cache
def _count(settings: TrainSettings, num_channels: int, device: str) -> MemoryEstimate:
    some = Description(
        classes=("a", "b"),
        num_channels=num_channels,
        initialization=SCRATCH,
    )
    shape = (settings.batch_size, num_channels, *(settings.preprocess.size,) * 3)

    def compute_loss(network: nn.Module, device: str) -> Tensor:
        logits: Tensor = network(torch.empty(shape, device=device))
        return logits.float().logsumexp(1).sum()

    def build() -> nn.Module:
        network = build_network(settings, some)
        recompute = bool(settings.recompute_activations)
        family_of(network.spec).set_recompute(network, recompute)
        return network

    return estimate_step_memory(
        build_on_meta(build),
        compute_loss,
        device=device,
        precision=settings.precision,
        optimizer_values=2,
    )
