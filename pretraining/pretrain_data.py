"""What a pre-training run reads: crops from a volume store, and the texts' embeddings."""

import functools
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from nnunet_triad.errors import UserError
from nnunet_triad.images.intensity import Intensity
from nnunet_triad.training.distributed import ProcessGroup
from nnunet_triad.training.loader import collate, make_loader
from pretraining.crop_fit import check_crop_fits
from pretraining.objective import Objective
from pretraining.sampling import CropDataset, CropSampler, StepBatches
from pretraining.settings import PretrainSettings
from pretraining.store import VolumeStore
from pretraining.text_embeddings import EmbeddingTable
from pretraining.volume_table import (
    VolumeTable,
    balanced_draw,
    choose_held_out,
    default_held_out,
    read_volume_table,
)

Spacing = tuple[float, float, float]

_MIN_TRIPLET = 3  # crops
_NUM_SPACINGS = 1_000  # sidecars that are read for the median: all of a huge store would take long


@dataclass(frozen=True, kw_only=True)
class TextTargets:
    """The embedded description of each volume; equal descriptions share a row."""

    vectors: Tensor  # (descriptions, e)
    rows: Tensor  # (volumes,), into `vectors`

    def __call__(self, volumes: Tensor) -> Tensor:
        """Return the embeddings (b, e) of volumes (b,)."""
        return self.vectors[self.rows[volumes]]


@dataclass(frozen=True, kw_only=True)
class PretrainData:
    """All inputs of a run."""

    dataset: CropDataset
    sampler: CropSampler
    held_out: np.ndarray  # indices of the volumes that are never drawn
    texts: TextTargets | None  # None: the descriptions are not embedded
    spacing_mm: Spacing | None  # of the stored voxels, the median; None: the store does not say
    checksums: Callable[[], Sequence[str]] = tuple  # of each volume's voxels; none of made-up ones

    @property
    def table(self) -> VolumeTable:
        """All volumes of the store."""
        return self.sampler.table

    @property
    def num_drawn(self) -> int:
        """How many volumes are trained on."""
        return len(self.table) - len(self.held_out)

    def fingerprint(self, *, has_texts: bool) -> str:
        """Hash the volumes, their names and voxels, in their order, and which are held out.

        Args:
            has_texts: the texts' embeddings matter to the run too.
        """
        text = "\n".join([self.earlier_fingerprint(has_texts=has_texts), *self.checksums()])
        return hashlib.sha256(text.encode()).hexdigest()

    def earlier_fingerprint(self, *, has_texts: bool) -> str:
        """Hash the same but for the voxels, as an earlier version did."""
        digest = hashlib.sha256("\n".join(self.table.names).encode())
        digest.update(self.held_out.astype(np.int64).tobytes())
        if has_texts and self.texts is not None:
            digest.update(self.texts.rows.numpy().tobytes())
            digest.update(self.texts.vectors.numpy().tobytes())
        return digest.hexdigest()

    @property
    def summary(self) -> str:
        """How many volumes, and of which datasets, for the weights file."""
        text = f"{self.num_drawn} volumes of {', '.join(self.table.datasets.categories)}"
        return f"{text}; {len(self.held_out)} more held out" if len(self.held_out) else text


def load_data(store_path: Path, settings: PretrainSettings) -> PretrainData:
    """Open a store for a run.

    Raises:
        UserError: the store is missing or empty, its volumes are smaller than a crop, its
            descriptions are not embedded, or it has no organs to balance.
    """
    store = VolumeStore.open(store_path)
    if len(store) == 0:
        raise UserError(
            f"{store_path}: expected at least one volume, got an empty store; "
            "see its table of rejected series, then run triad-curate again"
        )
    check_crop_fits(store.volume_shape, settings)
    table = read_volume_table(store)
    number = settings.held_out
    held_out = choose_held_out(table, default_held_out(len(table)) if number is None else number)
    return PretrainData(
        dataset=CropDataset(
            functools.partial(VolumeStore.open, store_path),
            crop_size=settings.crop_size,
            seed=settings.seed,
            views=settings.objective.views,
            intensity=Intensity.parse(settings.objective.scale),
        ),
        sampler=CropSampler(
            table=table,
            draw=balanced_draw(table, settings.balance, held_out=held_out),
            crop_size=settings.crop_size,
            seed=settings.seed,
        ),
        held_out=held_out,
        texts=load_texts(store_path, table.descriptions, objective=settings.objective),
        checksums=functools.cache(store.voxel_checksums),
        spacing_mm=median_spacing(store),
    )


def median_spacing(store: VolumeStore) -> Spacing | None:
    """Return the median spacing of the stored voxels along x, y and z, mm.

    Each volume has its own: the resize to the store's shape stretches one and the same number of
    voxels over what was scanned. Of a large store volumes at even distances count.

    Returns:
        None where no volume's sidecar says it.
    """
    names = store.records["series_id"]
    every = math.ceil(len(names) / _NUM_SPACINGS)
    found = [_stored_spacing(store, str(name)) for name in names[::every]]
    known = [spacing for spacing in found if spacing is not None]
    if not known:
        return None
    x, y, z = (round(float(median), 4) for median in np.median(known, axis=0))
    return x, y, z


def _stored_spacing(store: VolumeStore, series_id: str) -> Spacing | None:
    try:
        x, y, z = map(float, (store.read_sidecar(series_id) or {})["spacing_mm"])
    except (KeyError, TypeError, ValueError):
        return None
    return (x, y, z) if all(0 < step < math.inf for step in (x, y, z)) else None


def share_without_triplets(data: PretrainData, batch_size: int) -> float:
    """Return the share of the steps in which the log-ratio loss has nothing to compare.

    It is zero where all crops have one description, and where there are fewer than three.

    Args:
        data: of the run; its volumes count as drawn equally often.
        batch_size: crops a step, of all processes.
    """
    if batch_size < _MIN_TRIPLET:
        return 1.0
    drawn = np.setdiff1d(np.arange(len(data.table)), data.held_out)
    counts = np.bincount(data.table.descriptions.codes[drawn])
    return float(((counts / len(drawn)) ** batch_size).sum())


def load_texts(
    store_path: Path, descriptions: pd.Categorical, *, objective: Objective
) -> TextTargets | None:
    """Look up the embedding of each volume's description.

    Args:
        store_path: the store, with the table of embeddings.
        descriptions: one a volume.
        objective: where it needs no texts, they only serve to measure the alignment, and None is
            good enough.

    Raises:
        UserError: they are needed, and the store has none, lacks one, or its file is damaged.
    """
    try:
        table = EmbeddingTable.open(store_path)
        vectors = np.stack([table.vector(str(text)) for text in descriptions.categories])
    except UserError as error:
        if not objective.needs_texts:
            return None
        instead = f", or pretrain with {objective.without_texts}" if objective.without_texts else ""
        raise UserError(f"{error} first{instead}") from error
    return TextTargets(
        vectors=torch.from_numpy(vectors.astype(np.float32)),
        rows=torch.from_numpy(descriptions.codes.astype(np.int64)),
    )


def crop_loader(
    data: PretrainData, settings: PretrainSettings, *, steps: range, group: ProcessGroup
) -> DataLoader:
    """Return the batches of `steps` in their order, read ahead by worker processes."""
    plans = StepBatches(
        data.sampler.plan, steps, settings.batch_size, rank=group.rank, num_processes=group.size
    )
    read = functools.partial(collate, data.dataset)
    return make_loader(read, plans, workers=settings.workers, device=group.device)
