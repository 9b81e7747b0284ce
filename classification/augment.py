"""Random changes of a training sample: MONAI's transforms, computed in one go.

MONAI's transforms hold what may happen, and draw whether and how, each with a random state of its
own. The work is done here: mirroring becomes part of the affine map, scale and shift one line, and
nothing is copied in between. The values are those of MONAI's own `Compose` with the same seed, but
for the noise, which has the same distribution.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from monai.transforms import (
    Compose,
    RandAffine,
    RandAffineGrid,
    RandFlip,
    RandGaussianNoise,
    RandomizableTransform,
    RandScaleIntensity,
    RandShiftIntensity,
)
from monai.transforms.utils import create_rotate, create_scale, create_translate
from numpy.typing import NDArray
from torch import Tensor

from classification.affine_sampling import sample_affine
from classification.settings import TrainSettings

_ROTATION = math.radians(10)  # largest, about each axis
_SCALE = 0.1  # largest relative change of size
_SHIFT = 0.05  # largest, of the cube's edge


@dataclass(frozen=True, kw_only=True)
class Change:
    """What happens to one sample, in the order of the fields.

    Attributes:
        flipped_axes: spatial axes that are mirrored.
        matrix: (4, 4), voxels from the centre of the result -> voxels from that of the image.
        factor, offset: intensities become factor * intensity + offset.
        noise: (c, x, y, z) float32.
    """

    flipped_axes: tuple[int, ...] = ()
    matrix: NDArray[np.float64] | None = None
    factor: float = 1.0
    offset: float = 0.0
    noise: Tensor | None = None

    def apply(self, image: Tensor, out: Tensor) -> None:
        """Write the changed image (c, x, y, z) to `out`, of the same shape, contiguous."""
        if self.matrix is not None:
            mirror = np.ones(4)
            mirror[list(self.flipped_axes)] = -1
            sample_affine(image, mirror[:, None] * self.matrix, out)
        elif self.flipped_axes:
            out.copy_(image.flip([axis + 1 for axis in self.flipped_axes]))
        else:
            out.copy_(image)
        if self.factor != 1:
            out.mul_(self.factor)
        if self.offset:
            out.add_(self.offset)
        if self.noise is not None:
            out.add_(self.noise)


class Augmentation:
    """Changes a sample as a pure function of a key: no state to save, none in workers."""

    def __init__(self, transforms: Compose) -> None:
        """Take the transforms of `monai_augmentation`."""
        self.transforms = transforms

    def __call__(self, image: Tensor, key: tuple[int, ...], out: Tensor) -> None:
        """Write a changed image to `out`; see `Change.apply`.

        Args:
            image: (c, x, y, z) float32.
            key: seed, epoch and place of the sample.
            out: of the same shape, contiguous.
        """
        self.draw(key, image).apply(image, out)

    def draw(self, key: tuple[int, ...], image: Tensor) -> Change:
        """Let MONAI's transforms draw what happens to a sample."""
        flipped: list[int] = []
        drawn: dict[str, object] = {}
        for transform in self.transforms.set_random_state(seed=seed_of(key)).transforms:
            RandomizableTransform.randomize(transform, None)  # whether it happens
            if not transform._do_transform:
                continue
            if isinstance(transform, RandFlip):
                flipped.append(transform.flipper.spatial_axis)  # type: ignore[arg-type]
            elif isinstance(transform, RandAffine):
                drawn["matrix"] = _draw_matrix(transform.rand_affine_grid)
            elif isinstance(transform, RandScaleIntensity):
                drawn["factor"] = 1 + transform.R.uniform(*transform.factors)
            elif isinstance(transform, RandShiftIntensity):
                drawn["offset"] = transform.R.uniform(*transform.offsets)
            elif isinstance(transform, RandGaussianNoise):
                drawn["noise"] = _draw_noise(transform, image.shape)
        return Change(flipped_axes=tuple(flipped), **drawn)  # type: ignore[arg-type]


def build_augmentation(settings: TrainSettings) -> Augmentation | None:
    """Return what changes a sample (c, x, y, z), or None when nothing is to change."""
    transforms = monai_augmentation(settings)
    return Augmentation(transforms) if transforms.transforms else None


def monai_augmentation(settings: TrainSettings) -> Compose:
    """Return MONAI's transforms of a sample (c, x, y, z)."""
    flips = [RandFlip(prob=0.5, spatial_axis="xyz".index(axis)) for axis in settings.flip_axes]
    if settings.augmentation == "none":
        return Compose(flips)
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


def seed_of(key: tuple[int, ...]) -> int:
    """Return the seed of MONAI's transforms for a key."""
    return int(np.random.SeedSequence(key).generate_state(1)[0])


def _draw_matrix(grid: RandAffineGrid) -> NDArray[np.float64]:
    grid.randomize()  # RandAffine's own call draws twice
    grid.randomize()
    turn = create_rotate(3, grid.rotate_params or ())
    move = create_translate(3, grid.translate_params or ())
    stretch = create_scale(3, grid.scale_params or ())
    return np.asarray(turn @ move @ stretch, dtype=np.float64)


def _draw_noise(transform: RandGaussianNoise, shape: torch.Size) -> Tensor:
    """Draw what MONAI draws, but with PyTorch's generator, which is four times as fast."""
    std = transform.R.uniform(0, transform.std)
    generator = torch.Generator().manual_seed(int(transform.R.randint(2**31)))
    return torch.randn(shape, generator=generator).mul_(std)
