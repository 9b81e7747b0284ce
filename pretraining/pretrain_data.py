"""What a pre-training run reads: crops from a volume store, and the texts' embeddings."""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from nnunet_triad.errors import UserError
from nnunet_triad.training.distributed import World
from nnunet_triad.training.stop_signal import leave_signals_to_parent
from pretraining.sampling import CropDataset, StepBatches
from pretraining.settings import PretrainSettings
from pretraining.store import VolumeStore
from pretraining.text_embeddings import EmbeddingTable


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
    names: tuple[str, ...]  # DATASET/SUBJECT/STUDY/SERIES of each volume
    texts: TextTargets | None  # None: the log-ratio loss is off
    spacing_mm: tuple[float, float, float]

    @property
    def fingerprint(self) -> str:
        """A hash of the volumes' names and of their texts, in their order."""
        digest = hashlib.sha256("\n".join(self.names).encode())
        if self.texts is not None:
            digest.update(self.texts.rows.numpy().tobytes())
            digest.update(self.texts.vectors.numpy().tobytes())
        return digest.hexdigest()

    @property
    def summary(self) -> str:
        """How many volumes, and of which datasets."""
        datasets = sorted({name.split("/")[0] for name in self.names})
        return f"{len(self.names)} volumes of {', '.join(datasets)}"


def load_data(store_path: Path, settings: PretrainSettings) -> PretrainData:
    """Open a store for a run.

    Raises:
        UserError: the store is missing or empty, or its descriptions are not embedded.
    """
    store = VolumeStore.open(store_path)
    if len(store) == 0:
        raise UserError(
            f"{store_path}: expected at least one volume, got an empty store; "
            "see its table of rejected series, then run triad-curate again"
        )
    texts = None
    if settings.log_ratio_weight > 0:
        texts = load_texts(store_path, list(store.records["description"]))
    return PretrainData(
        dataset=CropDataset(
            functools.partial(VolumeStore.open, store_path),
            crop_size=settings.crop_size,
            seed=settings.seed,
            mask_ratio=settings.mask_ratio,
        ),
        names=tuple(store.records["series_id"]),
        texts=texts,
        spacing_mm=store.spacing_mm,
    )


def load_texts(store_path: Path, descriptions: Sequence[str]) -> TextTargets:
    """Look up the embedding of each volume's description.

    Raises:
        UserError: the store has no embeddings, or lacks one of them.
    """
    unique = sorted(set(descriptions))
    try:
        table = EmbeddingTable.open(store_path)
        vectors = np.stack([table.vector(description) for description in unique])
    except UserError as error:
        raise UserError(f"{error} first, or pretrain with --log-ratio-weight 0") from error
    row_of = {description: row for row, description in enumerate(unique)}
    return TextTargets(
        vectors=torch.from_numpy(vectors.astype(np.float32)),
        rows=torch.tensor([row_of[description] for description in descriptions]),
    )


def make_loader(
    data: PretrainData, settings: PretrainSettings, *, steps: range, world: World
) -> DataLoader:
    """Return the batches of `steps` in their order, read ahead by worker processes."""
    batches = StepBatches(steps, settings.batch_size, rank=world.rank, num_processes=world.size)
    return DataLoader(
        data.dataset,
        batch_sampler=batches,
        num_workers=settings.workers,
        # Not fork: the training process may hold CUDA and threads, which a fork cannot copy.
        multiprocessing_context="spawn" if settings.workers else None,
        worker_init_fn=leave_signals_to_parent,
        pin_memory=world.device.type == "cuda",
    )
