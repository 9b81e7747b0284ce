"""What a run reads: samples of the cache, in an order that follows from seed and epoch alone."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from classification.augment import build_augmentation
from classification.cache import Cache
from classification.manifest import Manifest
from classification.settings import TrainSettings
from nnunet_triad.architectures.cpu.allocator import keep_freed_memory

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

    def load(self, row: int, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return sample number `row`, (c, size, size, size); in `out` if that is given."""
        image, centers = int(self.manifest.image_of[row]), self.manifest.centers_mm
        if centers is None:
            return self.cache.load(image, out=out)
        extent = self.manifest.extent_mm
        return self.cache.load(image, centre_mm=centers[row], extent_mm=extent, out=out)

    def num_channels(self, row: int) -> int:
        """Return the channels of sample number `row`."""
        return self.cache.num_channels(int(self.manifest.image_of[row]))


class SampleDataset(Dataset):
    """Samples by key, whole batches at once; augmented when a training's settings are given."""

    def __init__(self, data: ClassificationData, settings: TrainSettings | None = None) -> None:
        self.data = data
        self.seed = settings.seed if settings else 0
        self.transform = build_augmentation(settings) if settings else None
        self._unchanged = torch.empty(0)  # the last sample as it is in the cache

    def __getitem__(self, key: Key) -> dict[str, torch.Tensor]:
        """Return image (c, x, y, z), label and row of a sample."""
        return {name: values[0] for name, values in self.batch([key]).items()}

    def batch(self, keys: Sequence[Key]) -> dict[str, torch.Tensor]:
        """Return images (b, c, x, y, z), labels and rows; each image is written to its place."""
        keep_freed_memory()
        rows = [row for _, _, row in keys]
        shape = (self.data.num_channels(rows[0]), *[self.data.cache.size] * 3)
        images = torch.empty(len(keys), *shape)
        for key, image in zip(keys, images, strict=True):
            self._write(key, image)
        labels = torch.from_numpy(self.data.manifest.labels[rows].astype(np.int64))
        return {"image": images, "label": labels, "row": torch.tensor(rows)}

    def _write(self, key: Key, out: torch.Tensor) -> None:
        epoch, place, row = key
        if self.transform is None:
            self.data.load(row, out)
            return
        if self._unchanged.shape != out.shape:
            self._unchanged = torch.empty_like(out)
        self.data.load(row, self._unchanged)
        self.transform(self._unchanged, (self.seed, epoch, place), out)


class Batches:
    """The keys of an epoch's batches, from one of them on."""

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


def _take(rows: NDArray[np.intp], number: int, generator: np.random.Generator) -> NDArray[np.intp]:
    """Return `number` of the rows in random order; all of them before any comes again."""
    rounds = -(-number // len(rows))
    return np.concatenate([generator.permutation(rows) for _ in range(rounds)])[:number]
