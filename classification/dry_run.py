"""What a run will need, measured on its first steps instead of guessed."""

import numpy as np
import torch

from classification.data import ClassificationData
from classification.features import batch_features
from classification.loop import (
    Training,
    epoch_loader,
    start_training,
    train_step,
)
from classification.memory import advice, counting, smaller_runs, with_recomputation
from classification.settings import TrainSettings
from nnunet_triad.training.dry_run import measure_steps
from nnunet_triad.training.fit import check_fits, no_more_than_free
from nnunet_triad.training.loader import batches
from nnunet_triad.training.memory import explain_out_of_memory, num_parameters
from nnunet_triad.weights.file import EncoderWeights


def measure(
    data: ClassificationData,
    settings: TrainSettings,
    device: torch.device,
    weights: EncoderWeights | None = None,
) -> str:
    """Estimate the memory; where it suffices, do a few steps, and report sizes, memory and time.

    Nothing is written, and on a CPU no more memory is taken than there is.

    Raises:
        UserError: the weights do not fit, or the memory is too small.
    """
    estimate = ""
    if settings.mode == "finetune":
        channels = data.manifest.num_channels
        settings = with_recomputation(settings, channels, device)
        smaller = smaller_runs(settings, channels, device)
        estimate = check_fits(counting(settings, channels, device), device, smaller=smaller) + "\n"
    with explain_out_of_memory(advice(settings)), no_more_than_free(device):
        return estimate + _measure(data, settings, device, weights)


def _measure(
    data: ClassificationData,
    settings: TrainSettings,
    device: torch.device,
    weights: EncoderWeights | None,
) -> str:
    training = start_training(data, settings, device, weights)
    network = training.network
    parameters = (
        f"parameters: encoder {num_parameters(network.encoder) / 1e6:.2f} M, "
        f"head {num_parameters(network.head) / 1e3:.1f} thousand"
    )
    fit = _measure_training if settings.mode == "finetune" else _measure_passes
    return f"{parameters}\n{fit(training)}"


def _measure_training(training: Training) -> str:
    epochs, steps = training.settings.epochs, training.batches_per_epoch
    return measure_steps(
        (train_step(training, batch) for batch in batches(epoch_loader(training))),
        device=training.device,
        unit="step",
        total=epochs * steps,
        whole=f"{epochs} epochs of {steps} steps, besides validation",
        state=training.state,
    )


def _measure_passes(training: Training) -> str:
    data, settings = training.data, training.settings
    num_samples = len(data.manifest)
    return measure_steps(
        batch_features(training.network, data, np.arange(num_samples), settings=settings),
        device=training.device,
        unit="batch",
        total=-(-num_samples // settings.batch_size),
        whole=f"one pass over {num_samples} samples",
    )
