"""Which crop is trained on when: a pure function of the seed, the step and the place in the batch.

No generator has a state that could be lost or split, so a run that resumes, and a run on any
number of processes, sees the same crops.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from pretraining.settings import MASK_BLOCK, Triple

# Independent streams of random numbers, so that masking does not change the crops.
_CROP_STREAM, _MASK_STREAM = 0, 1


class CropSource(Protocol):
    """What the sampler needs of a volume store."""

    def __len__(self) -> int:
        """Return the number of volumes."""

    def shape(self, index: int) -> Triple:
        """Return the size of a volume, voxels."""

    def normalization(self, index: int) -> tuple[float, float]:
        """Return the mean and the standard deviation of a whole volume."""

    def read_crop(self, index: int, start: Triple, size: Triple) -> np.ndarray:
        """Return stored values (x, y, z)."""


@dataclass(frozen=True, kw_only=True)
class CropPlan:
    """One crop: the volume's index, its first voxel, and the axes along which it is mirrored."""

    volume: int
    start: Triple
    is_flipped: tuple[bool, bool, bool]


def sample_generator(seed: int, step: int, k: int, *, stream: int = 0) -> np.random.Generator:
    """Return the random generator of sample `k` of step `step`.

    Source: Philox, a counter-based generator (Salmon et al., SC 2011): the seed is its key, and
    sample, step and stream are the upper words of its counter, so no two samples overlap.
    """
    philox = np.random.Philox(key=[seed, 0], counter=[0, stream, k, step])
    return np.random.Generator(philox)


def plan_crop(source: CropSource, seed: int, step: int, *, k: int, size: Triple) -> CropPlan:
    """Draw a volume (with replacement), a position (uniform) and a flip of each axis (1 in 2).

    Differs: the paper names neither positions nor augmentations.
    """
    random = sample_generator(seed, step, k, stream=_CROP_STREAM)
    volume = int(random.integers(len(source)))
    room = [max(have - want, 0) for have, want in zip(source.shape(volume), size, strict=True)]
    x, y, z = (int(start) for start in random.integers(0, np.array(room) + 1))
    flips = [bool(flip) for flip in random.integers(0, 2, size=3)]
    return CropPlan(volume=volume, start=(x, y, z), is_flipped=(flips[0], flips[1], flips[2]))


def plan_centre_crop(source: CropSource, volume: int, *, size: Triple) -> CropPlan:
    """Return the unmirrored crop in the middle of a volume."""
    shape = source.shape(volume)
    x, y, z = (max(have - want, 0) // 2 for have, want in zip(shape, size, strict=True))
    return CropPlan(volume=volume, start=(x, y, z), is_flipped=(False, False, False))


def read_crop(source: CropSource, plan: CropPlan, *, size: Triple) -> np.ndarray:
    """Read a planned crop, z-scored with the statistics of its whole volume.

    A volume that is smaller than the crop stands in its middle; around it are zeros, the mean
    after the z-score, as nnU-Net pads.

    Returns:
        (x, y, z) of `size`, float32.
    """
    shape = source.shape(plan.volume)
    x, y, z = (min(have, want) for have, want in zip(shape, size, strict=True))
    mean, std = source.normalization(plan.volume)
    values = source.read_crop(plan.volume, plan.start, (x, y, z)).astype(np.float32)
    values = (values - np.float32(mean)) / np.float32(max(std, 1e-8))
    missing = [want - have for have, want in zip(values.shape, size, strict=True)]
    values = np.pad(values, [(gap // 2, gap - gap // 2) for gap in missing])
    axes = tuple(axis for axis in range(3) if plan.is_flipped[axis])
    return np.ascontiguousarray(np.flip(values, axes))


def plan_mask(seed: int, step: int, *, k: int, size: Triple, ratio: float) -> np.ndarray:
    """Draw which blocks are hidden: exactly round(ratio x number of blocks) of them.

    Returns:
        Booleans, one for each block of 8x8x8 voxels, (x/8, y/8, z/8); True is hidden.
    """
    grid = tuple(length // MASK_BLOCK for length in size)
    num_blocks = int(np.prod(grid))
    is_hidden = np.zeros(num_blocks, dtype=bool)
    if ratio > 0:
        random = sample_generator(seed, step, k, stream=_MASK_STREAM)
        is_hidden[random.permutation(num_blocks)[: round(ratio * num_blocks)]] = True
    return is_hidden.reshape(grid)


def hide_blocks(image: Tensor, is_hidden: Tensor) -> Tensor:
    """Set the hidden blocks of a batch to zero, the mean after the z-score.

    Args:
        image: (b, 1, x, y, z).
        is_hidden: (b, x/8, y/8, z/8), booleans.
    """
    for axis in (1, 2, 3):
        is_hidden = is_hidden.repeat_interleave(MASK_BLOCK, dim=axis)
    return image.masked_fill(is_hidden[:, None], 0)


class CropDataset(Dataset):
    """The crops of a run, addressed by (step, k); the store is opened once in each process."""

    def __init__(
        self,
        open_source: Callable[[], CropSource],
        *,
        crop_size: Triple,
        seed: int,
        mask_ratio: float = 0.0,
    ) -> None:
        """Keep what a sample depends on.

        Args:
            open_source: opens the store; picklable when worker processes are used.
            crop_size: voxels, x y z.
            seed: the run's.
            mask_ratio: share of blocks to hide.
        """
        self.open_source = open_source
        self.crop_size = crop_size
        self.seed = seed
        self.mask_ratio = mask_ratio
        self._source: CropSource | None = None

    @property
    def source(self) -> CropSource:
        """The store, opened at the first use in this process."""
        if self._source is None:
            self._source = self.open_source()
        return self._source

    def plan(self, step: int, k: int) -> CropPlan:
        """Return which crop sample `k` of step `step` is, without reading it."""
        return plan_crop(self.source, self.seed, step, k=k, size=self.crop_size)

    def __getitem__(self, address: tuple[int, int]) -> dict[str, Tensor]:
        """Return sample k of a step.

        Returns:
            volume: its index, a scalar.
            image: (1, x, y, z), float32, z-scored, nothing hidden.
            is_hidden: (x/8, y/8, z/8), booleans.
        """
        step, k = address
        plan = self.plan(step, k)
        mask = plan_mask(self.seed, step, k=k, size=self.crop_size, ratio=self.mask_ratio)
        return {
            "volume": torch.tensor(plan.volume),
            "image": torch.from_numpy(read_crop(self.source, plan, size=self.crop_size))[None],
            "is_hidden": torch.from_numpy(mask),
        }

    def __getstate__(self) -> dict[str, object]:
        """Leave the open store behind when a worker process is started."""
        return {**self.__dict__, "_source": None}


class StepBatches(Sampler):
    """The addresses (step, k) of each step's batch that fall to one of several processes."""

    def __init__(
        self, steps: range, batch_size: int, *, rank: int = 0, num_processes: int = 1
    ) -> None:
        """Give each process an equal, contiguous share of every batch.

        Args:
            steps: the steps still to be done.
            batch_size: over all processes; divisible by their number.
            rank: of this process.
            num_processes: that share the batch.
        """
        share = batch_size // num_processes
        self.steps = steps
        self.places = range(rank * share, (rank + 1) * share)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Yield one list of addresses a step."""
        for step in self.steps:
            yield [(step, k) for k in self.places]

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.steps)
