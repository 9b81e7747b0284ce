"""What a training will need, measured on random pairs instead of guessed."""

import torch

from nnunet_triad.training.dry_run import measure_steps
from nnunet_triad.training.memory import GIB, explain_out_of_memory, num_parameters
from nnunet_triad.training.settings import Triple
from nnunet_triad.weights.file import EncoderWeights
from registration.loop import MEMORY_ADVICE, start_training, train_pair
from registration.settings import RegistrationSettings
from registration.training_data import Batch, RegistrationData

PAPER_SIZE: Triple = (160, 192, 224)


@explain_out_of_memory(MEMORY_ADVICE)
def measure(
    data: RegistrationData,
    settings: RegistrationSettings,
    *,
    size: Triple = PAPER_SIZE,
    weights: EncoderWeights | None = None,
) -> str:
    """Train on random pairs of a size, write nothing, and report sizes, memory and time."""
    training = start_training(data, settings, weights)
    batch = random_pair(size, has_labels=settings.dice_weight > 0)
    num_pairs = settings.epochs * len(data.train)
    lines = measure_steps(
        (train_pair(training, batch) for _ in range(num_pairs)),
        device=training.device,
        unit="pair",
        total=num_pairs,
        whole=f"{num_pairs} pairs, without reading and validation",
        state=training.state,
        place=f" at {' x '.join(map(str, size))}",
    )
    num_encoder, num_all = map(num_parameters, (training.network.encoder, training.network))
    return "\n".join(
        [
            f"data: {data.summary}",
            f"parameters: encoder {num_encoder / 1e6:.2f} M, "
            f"decoder {(num_all - num_encoder) / 1e6:.2f} M",
            f"{lines}, and {4 * num_all / GIB:.2f} GiB for the model",
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
            batch["classes"] = tuple(range(num_labels + 1))
    return batch
