"""How long a quickstart takes on a CPU, before it begins."""

import math
import os

from nnunet_triad.architectures import encoder_spec, family_of
from nnunet_triad.quickstart.settings import QuickstartSettings
from nnunet_triad.quickstart.sizes import Sizes
from nnunet_triad.trainers.suffixes import SUFFIXES

# Seconds of one core of an AMD EPYC for 2^20 voxels, forward and backward: pre-training, nnU-Net.
_SECONDS = {"unet_t": (2.9, 4.2), "unet": (9.0, 12.6), "swin_t": (1.3, 4.4)}
_SPEED_UP = 0.7  # exponent of the cores
_START_S = 45.0  # of a training: imports, unpacking, the validation of its cases
_PATCH = 100_000  # voxels, at most, with which nnU-Net plans on a CPU
_PATCHES = 2  # an iteration


def estimate_minutes(
    settings: QuickstartSettings, sizes: Sizes, *, num_cases: int
) -> tuple[float, float] | None:
    """Return the minutes of the pre-training and of all trainings; None where nobody measured.

    Args:
        settings: of the run.
        sizes: of images and crops.
        num_cases: labelled ones.
    """
    if settings.device != "cpu" or settings.encoder not in _SECONDS:
        return None
    of_step, of_iteration = _SECONDS[settings.encoder]
    speed = (os.cpu_count() or 1) ** _SPEED_UP
    pretraining = 0.0
    if not settings.init:
        pretraining = settings.steps * sizes.batch * math.prod(sizes.crop) / 2**20 * of_step / speed
    patch = min(math.prod(sizes.shape), _PATCH)
    iterations = num_iterations(settings)
    training = _START_S + iterations * _PATCHES * patch / 2**20 * of_iteration / speed
    return pretraining / 60, 2 * min(settings.folds, num_cases) * training / 60


def num_iterations(settings: QuickstartSettings) -> int:
    """Return the iterations of a training by the trainer's suffixes, else by its family."""
    found = {"num_epochs": family_of(encoder_spec(settings.encoder)).epochs}
    for suffix in filter(None, settings.variant.split("_")):
        found |= SUFFIXES[suffix].settings
    return int(found["num_epochs"]) * int(found.get("num_iterations_per_epoch", 250))
