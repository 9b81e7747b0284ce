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

from nnunet_triad.images.intensity import ZSCORE, Intensity, Scale
from nnunet_triad.training.settings import Triple
from pretraining.volume_table import VolumeDraw, VolumeTable

Views = Callable[[Tensor, np.random.Generator], dict[str, Tensor]]

# Independent streams of random numbers, so that an objective's views do not change the crops.
_CROP_STREAM, _VIEW_STREAM = 0, 1


class CropSource(Protocol):
    """What reading a crop needs of a volume store."""

    volume_shape: Triple

    def read_box(self, series_id: str, start: Triple, size: Triple) -> np.ndarray:
        """Return stored values (x, y, z), uint16 or float32."""


@dataclass(frozen=True, kw_only=True)
class CropPlan:
    """One crop: all that a worker must know to read it."""

    step: int
    k: int  # place in the step's batch
    volume: int  # index in the table of volumes
    name: str  # of the volume
    mean: float  # of the whole volume
    std: float
    start: Triple  # first voxel
    is_flipped: tuple[bool, bool, bool]  # mirrored along x, y, z


def sample_generator(seed: int, step: int, k: int, *, stream: int = 0) -> np.random.Generator:
    """Return the random generator of sample `k` of step `step`.

    Source: Philox, a counter-based generator (Salmon et al., SC 2011): the seed is its key, and
    sample, step and stream are the upper words of its counter, so no two samples overlap.
    """
    philox = np.random.Philox(key=[seed, 0], counter=[0, stream, k, step])
    return np.random.Generator(philox)


@dataclass(frozen=True, kw_only=True)
class CropSampler:
    """Plans the crops of a run."""

    table: VolumeTable
    draw: VolumeDraw
    crop_size: Triple
    seed: int

    def plan(self, step: int, k: int) -> CropPlan:
        """Draw a volume (with replacement), a position (uniform) and flips (1 in 2, each axis).

        Differs: the paper names neither positions nor augmentations.
        """
        random = sample_generator(self.seed, step, k, stream=_CROP_STREAM)
        volume = self.draw(random)
        x, y, z = (int(start) for start in random.integers(0, np.array(self._room) + 1))
        flips = [bool(flip) for flip in random.integers(0, 2, size=3)]
        return self._plan(
            volume, step=step, k=k, start=(x, y, z), is_flipped=(flips[0], flips[1], flips[2])
        )

    def plan_centre(self, volume: int) -> CropPlan:
        """Return the unmirrored crop in the middle of a volume."""
        x, y, z = (gap // 2 for gap in self._room)
        no_flip = (False, False, False)
        return self._plan(volume, step=0, k=volume, start=(x, y, z), is_flipped=no_flip)

    @property
    def _room(self) -> list[int]:
        """Voxels by which a volume is longer than a crop."""
        pairs = zip(self.table.shape, self.crop_size, strict=True)
        return [max(have - want, 0) for have, want in pairs]

    def _plan(
        self, volume: int, *, step: int, k: int, start: Triple, is_flipped: tuple[bool, bool, bool]
    ) -> CropPlan:
        return CropPlan(
            step=step,
            k=k,
            volume=volume,
            name=self.table.names[volume],
            mean=float(self.table.means[volume]),
            std=float(self.table.stds[volume]),
            start=start,
            is_flipped=is_flipped,
        )


def read_crop(
    source: CropSource, plan: CropPlan, *, size: Triple, limits: tuple[float, float] | None = None
) -> np.ndarray:
    """Read a planned crop, z-scored with the statistics of its whole volume.

    A volume that is smaller than the crop stands in its middle; around it are zeros, the mean
    after the z-score, as nnU-Net pads.

    Args:
        source: of the voxels.
        plan: of the crop.
        size: voxels, x y z.
        limits: the stored values that become 0 and 1, and beyond which all are clipped, instead
            of a z-score.

    Returns:
        (x, y, z) of `size`, float32.

    Raises:
        UserError: the volume's file is gone or damaged.
    """
    x, y, z = (min(have, want) for have, want in zip(source.volume_shape, size, strict=True))
    stored = source.read_box(plan.name, plan.start, (x, y, z))
    low, extent = (plan.mean, plan.std) if limits is None else (limits[0], limits[1] - limits[0])
    values = np.subtract(stored, np.float32(low), dtype=np.float32)
    values /= np.float32(max(extent, 1e-8))
    if limits is not None:
        np.clip(values, 0, 1, out=values)
    missing = [want - have for have, want in zip(values.shape, size, strict=True)]
    if any(missing):
        values = np.pad(values, [(gap // 2, gap - gap // 2) for gap in missing])
    axes = tuple(axis for axis in range(3) if plan.is_flipped[axis])
    return np.ascontiguousarray(np.flip(values, axes))


class CropDataset(Dataset):
    """The crops of a run, addressed by their plans; the store is opened once in each process."""

    def __init__(
        self,
        open_source: Callable[[], CropSource],
        *,
        crop_size: Triple,
        seed: int,
        views: Views,
        intensity: Intensity = ZSCORE,
    ) -> None:
        """Keep what a sample depends on besides its plan.

        Args:
            open_source: opens the store; picklable when worker processes are used.
            crop_size: voxels, x y z.
            seed: of the views.
            views: of the objective; picklable when worker processes are used.
            intensity: scale of the crops, z-scores or percentiles. The percentiles of a volume
                are measured at its first crop in each process.
        """
        self.open_source = open_source
        self.crop_size = crop_size
        self.seed = seed
        self.views = views
        self.intensity = intensity
        self._limits: dict[str, tuple[float, float]] = {}
        self._source: CropSource | None = None

    @property
    def source(self) -> CropSource:
        """The store, opened at the first use in this process."""
        if self._source is None:
            self._source = self.open_source()
        return self._source

    def __getitem__(self, plan: CropPlan) -> dict[str, Tensor]:
        """Return a planned sample.

        Returns:
            volume: its index, a scalar.
            image: (1, x, y, z), float32, on the scale `intensity`.
            The views of the objective under their names.
        """
        image = torch.from_numpy(self.read(plan))[None]
        random = sample_generator(self.seed, plan.step, plan.k, stream=_VIEW_STREAM)
        return {
            "volume": torch.tensor(plan.volume),
            "image": image,
            **self.views(image, random),
        }

    def read(self, plan: CropPlan) -> np.ndarray:
        """Return a planned crop (x, y, z), float32."""
        limits = None
        if self.intensity.scale is Scale.PERCENTILES:
            limits = self._limits.get(plan.name) or self._measure(plan.name)
        return read_crop(self.source, plan, size=self.crop_size, limits=limits)

    def _measure(self, name: str) -> tuple[float, float]:
        volume = self.source.read_box(name, (0, 0, 0), self.source.volume_shape)
        both = (self.intensity.first, self.intensity.second)
        low, high = np.percentile(volume.astype(np.float32, copy=False), both)
        self._limits[name] = (float(low), float(high))
        return self._limits[name]

    def __getstate__(self) -> dict[str, object]:
        """Leave the open store behind when a worker process is started."""
        return {**self.__dict__, "_source": None}


class StepBatches(Sampler):
    """The plans of each step's batch that fall to one of several processes."""

    def __init__(
        self,
        plan: Callable[[int, int], CropPlan],
        steps: range,
        batch_size: int,
        *,
        rank: int = 0,
        num_processes: int = 1,
    ) -> None:
        """Give each process an equal, contiguous share of every batch.

        Args:
            plan: from (step, k), a pure function.
            steps: the steps still to be done.
            batch_size: over all processes; divisible by their number.
            rank: of this process.
            num_processes: that share the batch.
        """
        share = batch_size // num_processes
        self.plan = plan
        self.steps = steps
        self.places = range(rank * share, (rank + 1) * share)

    def __iter__(self) -> Iterator[list[CropPlan]]:
        """Yield one list of plans a step."""
        for step in self.steps:
            yield [self.plan(step, k) for k in self.places]

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.steps)
