"""Pairs for training and validation: which pair comes when, read from disk."""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from nnunet_triad.errors import UserError
from nnunet_triad.files import content_digest
from nnunet_triad.images import image_files
from nnunet_triad.training.loader import make_loader
from registration.manifest import Pair, read_manifest
from registration.pairs import (
    NoOverlapError,
    prepare_labels,
    prepare_pair,
    read_image,
    read_labels,
)
from registration.settings import RegistrationSettings

Batch = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class RegistrationData:
    """The pairs of a manifest."""

    train: tuple[Pair, ...]
    val: tuple[Pair, ...]
    test: tuple[Pair, ...]
    earlier_fingerprint: str  # of the paths, as an earlier version took it

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of what is trained and validated on: the contents of the files, in their order."""
        digest = hashlib.sha256()
        digests = functools.cache(_content)  # an atlas is in all pairs
        for pair in (*self.train, *self.val):
            files = (pair.moving, pair.fixed, pair.moving_labels, pair.fixed_labels)
            contents = [None if file is None else digests(file) for file in files]
            digest.update(f"{pair.split} {contents}\n".encode())
        return digest.hexdigest()

    @property
    def summary(self) -> str:
        """Return the numbers of pairs in words."""
        return (
            f"{len(self.train)} training, {len(self.val)} validation, {len(self.test)} test pairs"
        )


def _content(image: Path) -> str:
    return " ".join(map(content_digest, image_files(image)))


def load_data(manifest: Path, settings: RegistrationSettings | None = None) -> RegistrationData:
    """Read a manifest for a training.

    Raises:
        UserError: the manifest is wrong, has no train row, or no labels for a loss that compares
            them.
    """
    pairs = read_manifest(manifest)
    by_split = {
        split: tuple(pair for pair in pairs if pair.split == split)
        for split in ("train", "val", "test")
    }
    if settings is not None and not by_split["train"]:
        raise UserError(f"{manifest}: expected rows with the split train, got none")
    if settings is not None and settings.needs_labels:
        for pair in by_split["train"]:
            is_drawn = pair.fixed is None and pair.moving_labels is not None
            if not (pair.has_labels or is_drawn):
                raise UserError(
                    f"{manifest}: expected labels of both images of {pair.name} for a loss that "
                    "compares them, got none; add moving_labels and fixed_labels, or set "
                    "--dice-weight 0 and leave such --losses out"
                )
    text = "\n".join(f"{pair}" for pair in pairs)
    earlier = hashlib.sha256(text.encode()).hexdigest()
    return RegistrationData(**by_split, earlier_fingerprint=earlier)


def order_of_epoch(num_pairs: int, *, seed: int, epoch: int) -> list[int]:
    """Return the order of the training pairs in an epoch: a pure function of seed and epoch."""
    return np.random.default_rng([seed, epoch]).permutation(num_pairs).tolist()


def plan_pair(
    pairs: Sequence[Pair], index: int, *, seed: int, epoch: int, has_flips: bool
) -> tuple[Pair, tuple[int, ...]]:
    """Return a training pair with its partner and the axes to flip, from its arguments alone.

    A partner is the moving image of any row that has another one, each row as likely; each axis is
    flipped with a chance of one half.
    """
    random = np.random.default_rng([seed, epoch, index])
    pair = pairs[index]
    if pair.fixed is None:
        others = [other for other in pairs if other.moving != pair.moving]
        partner = others[int(random.integers(len(others)))]
        pair = Pair(
            moving=pair.moving,
            fixed=partner.moving,
            moving_labels=pair.moving_labels,
            fixed_labels=partner.moving_labels,
            split=pair.split,
        )
    flips = random.random(3) < 0.5
    return pair, tuple(np.flatnonzero(flips).tolist()) if has_flips else ()


def read_pair(
    pair: Pair,
    settings: RegistrationSettings,
    *,
    flips: Sequence[int] = (),
    has_labels: bool = True,
) -> Batch:
    """Read and prepare a pair.

    Returns:
        moving and fixed (1, 1, x, y, z) float32; moving_labels and fixed_labels, int32 of the same
        shape, where the pair has them and they are wanted, and classes, their values and that of
        the background; name; spacing_mm (3,).

    Raises:
        UserError: a file is wrong, or the images do not overlap.
    """
    assert pair.fixed is not None
    try:
        prepared = prepare_pair(
            read_image(pair.moving),
            read_image(pair.fixed),
            spacing_mm=settings.spacing_mm,
            percentile=settings.intensity_percentile,
        )
    except NoOverlapError as error:
        raise UserError(f"{pair.name}: {error}") from None
    batch: Batch = {
        "name": pair.name,
        "spacing_mm": prepared.grid.spacing_mm,
        "moving": _flip(prepared.moving, flips),
        "fixed": _flip(prepared.fixed, flips),
    }
    if has_labels and pair.moving_labels is not None and pair.fixed_labels is not None:
        for key, path in (("moving", pair.moving_labels), ("fixed", pair.fixed_labels)):
            labels = prepare_labels(read_labels(path), prepared.grid)
            tensor = torch.from_numpy(np.ascontiguousarray(labels))[None, None]
            batch[f"{key}_labels"] = _flip(tensor, flips)
        both = np.concatenate([np.unique(batch[f"{key}_labels"]) for key in ("moving", "fixed")])
        batch["classes"] = tuple(map(int, np.unique([0, *both])))
    return batch


def _flip(volume: Tensor, axes: Sequence[int]) -> Tensor:
    return volume.flip([2 + axis for axis in axes]).contiguous() if axes else volume


def training_loader(
    data: RegistrationData, settings: RegistrationSettings, *, first_step: int
) -> DataLoader:
    """Return the pairs of the steps that are left, in order."""
    num_pairs = len(data.train)
    keys = [
        (epoch, index)
        for epoch in range(first_step // num_pairs, settings.epochs)
        for index in order_of_epoch(num_pairs, seed=settings.seed, epoch=epoch)
    ][first_step % num_pairs :]
    read = functools.partial(_read_planned, data.train, settings)
    return make_loader(read, keys, workers=settings.workers, device=torch.device(settings.device))


def validation_loader(data: RegistrationData, settings: RegistrationSettings) -> DataLoader:
    """Return the validation pairs, in order."""
    read = functools.partial(read_pair, settings=settings)
    device = torch.device(settings.device)
    return make_loader(read, data.val, workers=settings.workers, device=device)


def _read_planned(
    pairs: Sequence[Pair], settings: RegistrationSettings, key: tuple[int, int]
) -> Batch:
    """Read the pair of a step: (epoch, place in the manifest)."""
    epoch, index = key
    pair, flips = plan_pair(
        pairs, index, seed=settings.seed, epoch=epoch, has_flips=settings.has_flips
    )
    return read_pair(pair, settings, flips=flips, has_labels=settings.needs_labels)
