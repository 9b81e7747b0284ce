"""What a run knows of a store's volumes, in the training process alone.

The workers that read crops get all that they need with each crop's plan: their memory does not
depend on the number of volumes.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from nnunet_triad.errors import UserError
from nnunet_triad.training.settings import Triple
from pretraining.store import VolumeStore

Balance = Literal["volume", "dataset", "organ"]

MAX_HELD_OUT = 64  # volumes, by default; more would only make measuring slower
_HELD_OUT_SHARE = 0.1  # of the store, at most, by default
_MIN_HELD_OUT = 4  # by default; fewer volumes have too few pairs for a correlation


@dataclass(frozen=True, kw_only=True)
class VolumeTable:
    """The columns of a store's index that a run needs, without the store's other text."""

    shape: Triple  # voxels of every volume
    names: tuple[str, ...]  # DATASET/SUBJECT/STUDY/SERIES
    means: np.ndarray  # of each whole volume, float64
    stds: np.ndarray
    datasets: pd.Categorical
    organs: pd.Categorical  # "" where it is not known
    subjects: pd.Categorical  # DATASET/SUBJECT
    descriptions: pd.Categorical

    def __len__(self) -> int:
        return len(self.names)


def read_volume_table(store: VolumeStore) -> VolumeTable:
    """Read the index of a store, ordered by name."""
    records = store.records
    return VolumeTable(
        shape=store.volume_shape,
        names=tuple(records["series_id"]),
        means=records["mean"].to_numpy(dtype=float),
        stds=records["std"].to_numpy(dtype=float),
        datasets=pd.Categorical(records["dataset"]),
        organs=pd.Categorical(records["organ"]),
        subjects=pd.Categorical((records["dataset"] + "/" + records["subject"]).astype(object)),
        descriptions=pd.Categorical(records["description"]),
    )


@dataclass(frozen=True, kw_only=True)
class VolumeDraw:
    """Which volumes are drawn, and how often: a group first, then a volume of it, evenly both."""

    order: np.ndarray  # (volumes,), those of a group side by side
    starts: np.ndarray  # (groups + 1,), into `order`

    def __call__(self, random: np.random.Generator) -> int:
        """Draw the index of a volume."""
        group = int(random.integers(len(self.starts) - 1))
        first, end = self.starts[group], self.starts[group + 1]
        return int(self.order[random.integers(first, end)])


def balanced_draw(table: VolumeTable, balance: Balance, *, held_out: np.ndarray) -> VolumeDraw:
    """Return how the volumes that are not held out are drawn.

    Differs: the paper does not say; "volume", each as often as any other, is the plain reading.
        The others keep a collection of 18,000 series from crowding out one of 100.

    Args:
        table: all volumes.
        balance: volume: each equally often; dataset, organ: each of these equally often.
        held_out: indices that are never drawn.

    Raises:
        UserError: nothing is left to draw, or the store names no organ.
    """
    volumes = np.setdiff1d(np.arange(len(table)), held_out)
    if not len(volumes):
        raise UserError(
            f"held_out: expected fewer than the store's {len(table)} volumes, got all of them; "
            "hold out fewer",
            setting="held_out",
        )
    if balance == "volume":
        return VolumeDraw(order=volumes, starts=np.array([0, len(volumes)]))
    labels = table.datasets if balance == "dataset" else table.organs
    if balance == "organ" and list(labels.categories) == [""]:
        raise UserError(
            "balance: expected a store that names the organs of its volumes, got none; "
            "curate with --organ, or balance by dataset",
            setting="balance",
        )
    codes = labels.codes[volumes]
    order = volumes[np.argsort(codes, kind="stable")]
    _, starts = np.unique(np.sort(codes), return_index=True)
    return VolumeDraw(order=order, starts=np.append(starts, len(order)))


def default_held_out(num_volumes: int) -> int:
    """Return how many volumes are held out unless told: a tenth, at most 64, or none below 4."""
    number = min(MAX_HELD_OUT, int(num_volumes * _HELD_OUT_SHARE))
    return number if number >= _MIN_HELD_OUT else 0


def choose_held_out(table: VolumeTable, number: int) -> np.ndarray:
    """Choose volumes to measure on: those of whole subjects, so that none is trained on.

    The choice follows from the subjects' names alone, so it is the same in every run and, for the
    subjects that stay, in a store that has grown.

    Args:
        table: all volumes.
        number: of volumes, at most; a subject with more of them than are left is passed over.

    Returns:
        Sorted indices.
    """
    codes = table.subjects.codes
    names = table.subjects.categories
    counts = np.bincount(codes, minlength=len(names))
    chosen, left = [], number
    for code in sorted(range(len(names)), key=lambda code: _digest(str(names[code]))):
        if counts[code] <= left:
            chosen.append(code)
            left -= counts[code]
        if left == 0:
            break
    return np.flatnonzero(np.isin(codes, chosen))


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
