"""Random changes of a training sample, with MONAI's transforms."""

import math

import numpy as np
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    RandAffine,
    RandFlip,
    RandGaussianNoise,
    RandScaleIntensity,
    RandShiftIntensity,
)
from torch import Tensor

from classification.settings import TrainSettings

_ROTATION = math.radians(10)  # largest, about each axis
_SCALE = 0.1  # largest relative change of size
_SHIFT = 0.05  # largest, of the cube's edge


def build_augmentation(settings: TrainSettings) -> Compose | None:
    """Return the transform of a sample (c, x, y, z), or None when nothing is to change."""
    flips = [RandFlip(prob=0.5, spatial_axis="xyz".index(axis)) for axis in settings.flip_axes]
    if settings.augmentation == "none":
        return Compose(flips) if flips else None
    affine = RandAffine(
        prob=0.8,
        rotate_range=(_ROTATION,) * 3,
        scale_range=(_SCALE,) * 3,
        translate_range=(_SHIFT * settings.preprocess.size,) * 3,
        padding_mode="border",
        cache_grid=True,
        spatial_size=(settings.preprocess.size,) * 3,
    )
    return Compose(
        [
            *flips,
            affine,
            RandScaleIntensity(factors=0.1, prob=0.5),
            RandShiftIntensity(offsets=0.1, prob=0.5),
            RandGaussianNoise(prob=0.3, std=0.1),
        ]
    )


def augment(transform: Compose, image: Tensor, key: tuple[int, ...]) -> Tensor:
    """Change an image as a pure function of `key`: no state to save, none in workers.

    Args:
        transform: from `build_augmentation`.
        image: (c, x, y, z).
        key: seed, epoch and place of the sample.
    """
    seed = int(np.random.SeedSequence(key).generate_state(1)[0])
    changed = transform.set_random_state(seed=seed)(image)
    return changed.as_tensor() if isinstance(changed, MetaTensor) else changed
