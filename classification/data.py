"""What a run reads: samples of the cache, in an order that follows from seed and epoch alone."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from classification.augment import augment, build_augmentation
from classification.cache import Cache
from classification.manifest import Manifest
from classification.settings import TrainSettings
from nnunet_triad.training.stop_signal import leave_signals_to_parent

Key = tuple[int, int, int]  # epoch, place in the epoch, number of the sample


@dataclass(frozen=True, kw_only=True)
class ClassificationData:
    """All inputs of a run."""

    manifest: Manifest
    cache: Cache

    @property
    def fingerprint(self) -> str:
        """A hash of the images' contents (by the cache's names), labels and splits."""
        digest = hashlib.sha256()
        for files in self.cache.files:
            digest.update(" ".join(path.stem for path in files).encode())
        for array in (self.manifest.image_of, self.manifest.labels, self.manifest.splits):
            digest.update(np.ascontiguousarray(array).tobytes())
        if self.manifest.centers_mm is not None:
            digest.update(self.manifest.centers_mm.tobytes())
        return digest.hexdigest()

    def load(self, row: int) -> torch.Tensor:
        """Return sample number `row`, (c, size, size, size)."""
        image, centers = int(self.manifest.image_of[row]), self.manifest.centers_mm
        if centers is None:
            return self.cache.load(image)
        return self.cache.load(image, centre_mm=centers[row], extent_mm=self.manifest.extent_mm)


class SampleDataset(Dataset):
    """Samples by key; augmented when a training's settings are given."""

    def __init__(self, data: ClassificationData, settings: TrainSettings | None = None) -> None:
        self.data = data
        self.seed = settings.seed if settings else 0
        self.transform = build_augmentation(settings) if settings else None

    def __getitem__(self, key: Key) -> dict[str, torch.Tensor]:
        """Return image (c, x, y, z), label and row of the sample."""
        epoch, place, row = key
        image = self.data.load(row)
        if self.transform is not None:
            image = augment(self.transform, image, (self.seed, epoch, place))
        label = int(self.data.manifest.labels[row])
        return {"image": image, "label": torch.tensor(label), "row": torch.tensor(row)}


class Batches:
    """A batch sampler: the batches of an epoch from one of them on."""

    def __init__(
        self, rows: NDArray[np.intp], batch_size: int, *, epoch: int = 0, first_batch: int = 0
    ) -> None:
        self.rows, self.batch_size = rows, batch_size
        self.epoch, self.first_batch = epoch, first_batch

    def __len__(self) -> int:
        """Return the number of batches that are left."""
        return -(-len(self.rows) // self.batch_size) - self.first_batch

    def __iter__(self) -> Iterator[list[Key]]:
        """Yield lists of keys."""
        for start in range(self.first_batch * self.batch_size, len(self.rows), self.batch_size):
            places = range(start, min(start + self.batch_size, len(self.rows)))
            yield [(self.epoch, place, int(self.rows[place])) for place in places]


def epoch_rows(data: ClassificationData, settings: TrainSettings, epoch: int) -> NDArray[np.intp]:
    """Return the samples of a training epoch, in order: a pure function of seed and epoch.

    Natural: each sample once. Balanced: each class equally often (to one sample), its samples in
    turn, so that rare ones repeat.
    """
    generator = np.random.default_rng([settings.seed, epoch])
    rows = data.manifest.rows("train")
    number = settings.samples_per_epoch or len(rows)
    if settings.sampling == "natural":
        return _take(rows, number, generator)
    labels = data.manifest.labels[rows]
    classes = np.unique(labels)
    shares = np.full(len(classes), number // len(classes))
    shares[: number % len(classes)] += 1
    drawn = [
        _take(rows[labels == label], share, generator)
        for label, share in zip(classes, generator.permutation(shares), strict=True)
    ]
    return generator.permutation(np.concatenate(drawn))


def make_loader(
    dataset: SampleDataset, batches: Batches, *, workers: int, is_cuda: bool
) -> DataLoader:
    """Return the batches in their order, read ahead by worker processes."""
    return DataLoader(
        dataset,
        batch_sampler=batches,  # yields keys, not indices
        num_workers=workers,
        # Not fork: the training process may hold CUDA and threads, which a fork cannot copy.
        multiprocessing_context="spawn" if workers else None,
        worker_init_fn=leave_signals_to_parent,
        pin_memory=is_cuda,
    )


def _take(rows: NDArray[np.intp], number: int, generator: np.random.Generator) -> NDArray[np.intp]:
    """Return `number` of the rows in random order; all of them before any comes again."""
    rounds = -(-number // len(rows))
    return np.concatenate([generator.permutation(rows) for _ in range(rounds)])[:number]
