"""From images to rows of pooled features: image by image, window by window.

Memory holds the images that were read ahead, a batch of windows and their features; never the
features of a whole image.
"""

import hashlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nnunet_triad.architectures import family_of
from nnunet_triad.architectures.cpu.accelerate import accelerate_on_cpu
from nnunet_triad.architectures.padding import pad_to_stride
from nnunet_triad.architectures.spec import Triple
from nnunet_triad.errors import UserError, reason_of, require
from nnunet_triad.features.first_order import first_order
from nnunet_triad.features.journal import Rows
from nnunet_triad.features.regions import Regions, find_regions, read_mask, shares
from nnunet_triad.features.samples import Sample
from nnunet_triad.features.settings import FeatureSettings
from nnunet_triad.features.table import feature_names
from nnunet_triad.features.windows import Tiling, tile
from nnunet_triad.files import content_digest
from nnunet_triad.images import Nan, image_files, read_volume
from nnunet_triad.pretrained import PretrainedEncoder
from nnunet_triad.weights.file import EncoderWeights

_AHEAD = 2  # images that each thread may be ahead
Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """An image of which there are no features."""

    case: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class _Image:
    """An image as the encoder sees it."""

    case: str
    content: str
    shown: Tensor  # (c, x, y, z), padded
    regions: Regions
    first_order: NDArray[np.float64]  # (regions, numbers)
    tiling: Tiling
    totals: dict[tuple[int, int], float]  # (region, level) -> sum of weights


@dataclass(kw_only=True)
class _Sums:
    """What is summed up of an image while its windows pass."""

    image: _Image
    num_left: int  # windows
    sums: list[NDArray[np.float64]]  # a level: (regions, channels)


class Extractor:
    """Computes the rows of images."""

    def __init__(
        self, weights: EncoderWeights, settings: FeatureSettings, *, num_channels: int
    ) -> None:
        """Build the encoder.

        Raises:
            UserError: weights do not fill it, or it has not the levels that are wanted.
        """
        self.settings, self.device = settings, torch.device(settings.device)
        self.encoder = PretrainedEncoder(weights, input_channels=num_channels)
        self.encoder.requires_grad_(False).to(self.device)
        accelerate_on_cpu(self.encoder, self.device)
        spec = self.encoder.spec
        self.levels = settings.levels or tuple(range(len(spec.channels)))
        rule = f"levels from 0 to {len(spec.channels) - 1}, each once"
        is_good = max(self.levels) < len(spec.channels) and len(set(self.levels)) == len(
            self.levels
        )
        require("levels", ",".join(map(str, self.levels)), rule, is_good)
        self.names = feature_names({level: spec.channels[level] for level in self.levels})

    def run(
        self, samples: Iterable[Sample], is_kept: Callable[[Sample, str], bool]
    ) -> Iterator[Rows | Rejected | None]:
        """Yield what becomes of each sample, in their order.

        Args:
            samples: the images.
            is_kept: tells of a sample and its content whether its rows are there already.

        Yields:
            None for a sample that is kept.
        """
        prepared = _ahead(
            lambda sample: self._prepare(sample, is_kept), samples, self.settings.workers
        )
        queue: deque[_Sums | Rejected | None] = deque()
        batch: list[tuple[_Sums, Triple, Tensor]] = []
        for found in prepared:
            if not isinstance(found, _Image):
                queue.append(found)
            else:
                tiling, seen = found.tiling, found.regions.seen
                windows = [one for one in tiling if seen[tiling.slices(one)].any()]
                sums = _Sums(image=found, num_left=len(windows), sums=self._nothing(found))
                queue.append(sums)
                for window in windows:
                    crop = found.shown[(slice(None), *tiling.slices(window))]
                    if batch and batch[0][2].shape != crop.shape:
                        self._pass(batch)
                    batch.append((sums, window, crop))
                    if len(batch) == self.settings.batch_size:
                        self._pass(batch)
            yield from _finished(queue)
        self._pass(batch)
        yield from _finished(queue)

    def _nothing(self, image: _Image) -> list[NDArray[np.float64]]:
        """Return zeros to sum up from, a level; NaN for regions that the encoder cannot see."""
        names, lost = image.regions.names.values(), image.regions.missing()
        start = np.array([np.nan if name in lost else 0.0 for name in names])
        channels = self.encoder.spec.channels
        return [np.tile(start[:, None], channels[level]) for level in self.levels]

    @torch.no_grad()
    def _pass(self, batch: list[tuple[_Sums, Triple, Tensor]]) -> None:
        """Let the encoder see a batch of windows, and empty it."""
        if not batch:
            return
        levels = self.encoder(torch.stack([crop for *_, crop in batch]).to(self.device))
        for number, (sums, window, _) in enumerate(batch):
            self._add(sums, window, [level[number] for level in levels])
        batch.clear()

    def _add(self, sums: _Sums, window: Triple, levels: Sequence[Tensor]) -> None:
        image = sums.image
        values = list(image.regions.names)
        weights = self._weights(image, window)
        for (value, level), weight in weights:
            feature = levels[level]
            weighted = feature.flatten(1) @ torch.from_numpy(weight.ravel()).to(feature)
            sums.sums[self.levels.index(level)][values.index(value)] += (
                weighted.double().cpu().numpy()
            )
        sums.num_left -= 1

    def _weights(
        self, image: _Image, window: Triple
    ) -> Iterator[tuple[tuple[int, int], NDArray[np.float32]]]:
        """Yield (region, level) and the weight of each of the window's features; they sum to 1."""
        strides = self.encoder.spec.strides
        places = image.tiling.slices(window)
        seen = image.regions.seen[places]
        start = (places[0].start, places[1].start, places[2].start)
        lines = [
            [
                along[number]
                for along, number in zip(image.tiling.weights(step), window, strict=True)
            ]
            for step in itertools.accumulate(strides, _times)
        ]
        for value in set(np.unique(seen).tolist()) & set(image.regions.names):
            covered = shares(seen, value, strides, start=start, inside=image.regions.inside)
            for level, share in enumerate(covered):
                total = image.totals[value, level]
                if level in self.levels and total:
                    x, y, z = lines[level]
                    weight = share * x[:, None, None] * y[:, None] * z / total
                    yield (value, level), weight.astype(np.float32)

    def _prepare(
        self, sample: Sample, is_kept: Callable[[Sample, str], bool]
    ) -> _Image | Rejected | None:
        try:
            content = content_of(sample)
            if is_kept(sample, content):
                return None
            return self._read(sample, content)
        except Exception as error:  # one image does not cost the others theirs
            return Rejected(case=sample.case, reason=reason_of(error))

    def _read(self, sample: Sample, content: str) -> _Image:
        volumes = [read_volume(path, nan=Nan.REFUSE) for path in sample.images]
        for volume in volumes:
            if volume.voxels.min() == volume.voxels.max():
                raise UserError(
                    f"{volume.name}: expected an image with contrast, got "
                    f"{volume.voxels.flat[0]:g} everywhere; leave it out"
                )
        mask = read_mask(sample.mask, volumes[0]) if sample.mask is not None else None
        image, affine = self.encoder.prepare(volumes)
        spec = self.encoder.spec
        shape = (image.shape[2], image.shape[3], image.shape[4])
        padded = pad_to_stride(
            image, spec.total_stride, min_voxels=family_of(spec).min_bottleneck_voxels
        )
        regions = find_regions(
            volumes[0],
            mask,
            affine,
            shape=shape,
            padded=(padded.shape[2], padded.shape[3], padded.shape[4]),
        )
        tiling = tile(
            tuple(padded.shape[2:]),
            window=self.settings.window,
            stride=spec.total_stride,
            overlap=self.settings.overlap,
        )
        rows = [first_order(volumes, regions.own == value) for value in regions.names]
        return _Image(
            case=sample.case,
            content=content,
            shown=padded[0],
            regions=regions,
            first_order=np.stack(rows),
            tiling=tiling,
            totals=_totals(regions, spec.strides),
        )


def content_of(sample: Sample) -> str:
    """Return a hash of the bytes of a sample's files.

    Raises:
        UserError: one is not there.
    """
    digest = hashlib.sha256()
    for path in sample.files:
        if not path.is_file():
            what = "the image's mask" if path == sample.mask else "an image"
            raise UserError(f"{path}: expected {what}, got no file")
        for part in image_files(path):
            digest.update(content_digest(part).encode())
    return digest.hexdigest()[:16]


def _finished(queue: "deque[_Sums | Rejected | None]") -> Iterator[Rows | Rejected | None]:
    while queue and not (isinstance(queue[0], _Sums) and queue[0].num_left):
        found = queue.popleft()
        yield _rows(found) if isinstance(found, _Sums) else found


def _rows(sums: _Sums) -> Rows:
    image = sums.image
    return Rows(
        case=image.case,
        content=image.content,
        regions=tuple(image.regions.names.values()),
        first_order=image.first_order,
        features=np.concatenate(sums.sums, axis=1).astype(np.float32),
    )


def _totals(regions: Regions, strides: Sequence[Triple]) -> dict[tuple[int, int], float]:
    return {
        (value, level): float(share.sum(dtype=np.float64))
        for value in regions.names
        for level, share in enumerate(
            shares(regions.seen, value, strides, start=(0, 0, 0), inside=regions.inside)
        )
    }


def _times(first: Triple, second: Triple) -> Triple:
    (a, b, c), (x, y, z) = first, second
    return a * x, b * y, c * z


def _ahead(make: Callable[[Item], Made], items: Iterable[Item], workers: int) -> Iterator[Made]:
    """Yield what is made of items, in their order, made by threads ahead of its use."""
    if not workers:
        yield from map(make, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Made]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(make, item))
                if len(waiting) >= _AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
