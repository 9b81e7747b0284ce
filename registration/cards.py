"""On which GPUs a training fits, before there is one: counted on tensors without values."""

from collections.abc import Iterator
from dataclasses import replace

from nnunet_triad.training.memory import GIB
from nnunet_triad.training.memory_estimate import can_fake_gpu
from nnunet_triad.training.settings import Triple
from registration.memory import counting
from registration.settings import RegistrationSettings

# What a process can get of them, GiB: GeForce RTX 4090, L40S with ECC, A100 or H100.
CARDS = {"24 GB": 23.6, "48 GB": 44.5, "80 GB": 79.2}


def describe_cards(settings: RegistrationSettings, size: Triple) -> Iterator[str]:
    """Yield a line on what a step takes on a GPU, and on which cards that fits.

    One line where activations are kept and one where they are computed again; none where this
    PyTorch cannot count a GPU's memory without one.

    Args:
        settings: of the training.
        size: voxels of a pair, x y z.
    """
    if not can_fake_gpu():
        return
    voxels = " x ".join(map(str, size))
    on_gpu = replace(settings, device="cuda")
    for recompute, words in ((False, "activations kept"), (True, "recomputed")):
        estimate = counting(on_gpu, size, recompute_activations=recompute)()
        yield (
            f"estimate for GPUs, {voxels}, {settings.precision}, {words}: {estimate}; "
            f"{fit(estimate.range)}"
        )


def fit(bounds: tuple[int, int]) -> str:
    """Return in words on which cards a range of bytes fits."""
    low, high = bounds
    verdicts = {
        name: "fits" if high <= gib * GIB else "may fit" if low <= gib * GIB else "does not fit"
        for name, gib in CARDS.items()
    }
    return ", ".join(f"{name}: {verdict}" for name, verdict in verdicts.items())
