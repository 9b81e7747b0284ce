"""What a run will need, measured on its first steps instead of guessed."""

import time
from datetime import timedelta

import torch

from classification.data import ClassificationData
from classification.features import compute
from classification.loop import Training, epoch_loader, start_training, train_step
from classification.settings import TrainSettings
from nnunet_triad.training.memory import GIB, num_parameters, peak_memory

_NUM_STEPS = 2  # the first one also allocates and tunes, so the second one is timed


def measure(data: ClassificationData, settings: TrainSettings, device: torch.device) -> str:
    """Do two steps, write nothing, and report sizes, memory and time.

    Raises:
        UserError: the weights do not fit, or the memory is too small.
    """
    training = start_training(data, settings, device)
    if settings.mode == "finetune":
        seconds = _time_steps(training) * training.batches_per_epoch * settings.epochs
        what = f"{settings.epochs} epochs of {training.batches_per_epoch} steps"
    else:
        num_batches = -(-len(data.manifest) // settings.batch_size)
        seconds = _time_passes(training) * num_batches
        what = f"one pass over {len(data.manifest)} samples"
    encoder = num_parameters(training.network.encoder)
    return "\n".join(
        [
            f"parameters: encoder {encoder / 1e6:.2f} M, "
            f"head {num_parameters(training.network.head) / 1e3:.1f} thousand",
            f"peak memory: {peak_memory(device) / GIB:.2f} GiB on {device}",
            f"time: about {timedelta(seconds=round(seconds))} for {what}, besides validation",
        ]
    )


def _time_steps(training: Training) -> float:
    seconds, start = 0.0, time.perf_counter()
    for number, batch in enumerate(epoch_loader(training)):
        train_step(training, batch)
        seconds, start = time.perf_counter() - start, time.perf_counter()
        if number + 1 == _NUM_STEPS:
            break
    return seconds


def _time_passes(training: Training) -> float:
    rows = training.data.manifest.rows("train")[: training.settings.batch_size]
    seconds = 0.0
    for _ in range(_NUM_STEPS):
        start = time.perf_counter()
        compute(training.network, training.data, rows, settings=training.settings)
        seconds = time.perf_counter() - start
    return seconds
