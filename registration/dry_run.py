"""What a training will need, measured on random pairs instead of guessed."""

import torch

from nnunet_triad.training.dry_run import measure_steps
from nnunet_triad.training.fit import check_fits, no_more_than_free
from nnunet_triad.training.memory import GIB, explain_out_of_memory, num_parameters
from nnunet_triad.training.settings import Triple
from nnunet_triad.weights.file import EncoderWeights
from registration.loop import start_training, train_pair
from registration.memory import advice, counting, smaller_runs, with_recomputation
from registration.settings import RegistrationSettings
from registration.training_data import Batch, RegistrationData

PAPER_SIZE: Triple = (160, 192, 224)


def measure(
    data: RegistrationData,
    settings: RegistrationSettings,
    *,
    size: Triple = PAPER_SIZE,
    weights: EncoderWeights | None = None,
) -> str:
    """Estimate the memory; where it suffices, train on random pairs of a size, and report.

    Nothing is written, and on a CPU no more memory is taken than there is.

    Raises:
        UserError: a step needs more memory than the device has free.
    """
    settings, device = with_recomputation(settings, size), torch.device(settings.device)
    smaller = smaller_runs(settings, size)
    estimate = check_fits(counting(settings, size), device, smaller=smaller)
    with explain_out_of_memory(advice(settings)), no_more_than_free(device):
        return f"{estimate}\n{_measure(data, settings, size=size, weights=weights)}"


def _measure(
    data: RegistrationData,
    settings: RegistrationSettings,
    *,
    size: Triple,
    weights: EncoderWeights | None,
) -> str:
    training = start_training(data, settings, weights)
    batch = random_pair(size, has_labels=settings.needs_labels)
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
