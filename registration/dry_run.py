"""What a training will need, measured on two steps instead of guessed."""

import time
from datetime import timedelta

import torch

from nnunet_triad.training.memory import GIB, num_parameters, peak_memory
from nnunet_triad.training.settings import Triple
from nnunet_triad.weights import EncoderWeights
from registration.loop import start_training, train_pair
from registration.settings import RegistrationSettings
from registration.training_data import Batch, RegistrationData

PAPER_SIZE: Triple = (160, 192, 224)
_NUM_STEPS = 2  # the first one also allocates and tunes, so the second one is timed


def measure(
    data: RegistrationData,
    settings: RegistrationSettings,
    *,
    size: Triple = PAPER_SIZE,
    weights: EncoderWeights | None = None,
) -> str:
    """Train on two random pairs of a size, write nothing, and report sizes, memory and time.

    Returns:
        Lines of text: data, parameters, peak memory, time a pair and for the whole run, disk.
    """
    training = start_training(data, settings, weights)
    seconds = 0.0
    for _ in range(_NUM_STEPS):
        batch = random_pair(size, has_labels=settings.dice_weight > 0)
        start = time.perf_counter()
        train_pair(training, batch)
        if training.device.type == "cuda":
            torch.cuda.synchronize(training.device)
        seconds = time.perf_counter() - start
    num_encoder = num_parameters(training.network.encoder)
    num_all = num_parameters(training.network)
    pairs = settings.epochs * len(data.train)
    # Weights and three moments of Adam with amsgrad, float32 each.
    checkpoint_gib = 4 * 4 * num_all / GIB
    return "\n".join(
        [
            f"data: {data.summary}",
            f"parameters: encoder {num_encoder / 1e6:.2f} M, "
            f"decoder {(num_all - num_encoder) / 1e6:.2f} M",
            f"peak memory: {peak_memory(training.device) / GIB:.2f} GiB on {training.device} "
            f"at {' x '.join(map(str, size))}",
            f"time: {seconds:.2f} s a pair, {timedelta(seconds=round(seconds * pairs))} "
            f"for {pairs} pairs, without reading and validation",
            f"disk: {checkpoint_gib:.2f} GiB a checkpoint, twice that while one is written, and "
            f"{4 * num_all / GIB:.2f} GiB for the model",
        ]
    )


def random_pair(size: Triple, *, has_labels: bool, num_labels: int = 35) -> Batch:
    """Return a pair of noise, with as many labels as OASIS has where they are wanted."""
    generator = torch.Generator().manual_seed(0)
    batch: Batch = {"name": "random"}
    for key in ("moving", "fixed"):
        batch[key] = torch.rand(1, 1, *size, generator=generator)
        if has_labels:
            labels = torch.randint(0, num_labels + 1, (1, 1, *size), generator=generator)
            batch[f"{key}_labels"] = labels.int()
    return batch
