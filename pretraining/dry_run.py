"""What a run will need, measured on its first two steps instead of guessed."""

import resource
import sys
import time
from datetime import timedelta

import torch

from pretraining.distributed import World
from pretraining.loop import start_training, train_step
from pretraining.pretrain_data import PretrainData, make_loader
from pretraining.settings import PretrainSettings

_NUM_STEPS = 2  # the first one also allocates and tunes, so the second one is timed
_GIB = 2**30


def measure(data: PretrainData, settings: PretrainSettings, world: World) -> str:
    """Do two steps, write nothing, and report sizes, memory and time.

    Returns:
        Lines of text: data, parameters, peak memory of this process, time a step and for the
        whole run, size of a checkpoint.
    """
    training = start_training(data, settings, world)
    loader = make_loader(data, settings, steps=range(_NUM_STEPS), world=world)
    seconds = 0.0
    start = time.perf_counter()
    for batch in loader:
        train_step(training, batch)
        seconds, start = time.perf_counter() - start, time.perf_counter()
    num_encoder = _num_parameters(training.model.encoder)
    num_decoder = _num_parameters(training.model.decoder)
    # Weights and AdamW's two moments, float32 each.
    checkpoint_gib = 3 * 4 * (num_encoder + num_decoder) / _GIB
    return "\n".join(
        [
            f"data: {data.summary}",
            f"parameters: encoder {num_encoder / 1e6:.2f} M, decoder {num_decoder / 1e6:.2f} M",
            f"peak memory: {_peak_memory(world.device) / _GIB:.2f} GiB on {world.device}",
            f"time: {seconds:.2f} s a step, {timedelta(seconds=round(seconds * settings.steps))} "
            f"for {settings.steps} steps",
            f"disk: {checkpoint_gib:.2f} GiB a checkpoint, twice that while one is written",
        ]
    )


def _num_parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _peak_memory(device: torch.device) -> int:
    """Return the most bytes held so far: of the accelerator, or of this process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
