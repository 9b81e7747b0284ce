"""A real volume store with tiny volumes, and settings that train on it in a second or two."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from nnunet_triad.training.distributed import ProcessGroup
from pretraining.pretrain_data import PretrainData, crop_loader, load_data
from pretraining.settings import PretrainSettings
from pretraining.store import VolumeStore
from pretraining.text_embeddings import EmbeddingTable
from pretraining.training import start_training

STORE_SHAPE = (72, 40, 48)
DESCRIPTIONS = ("T1-weighted brain", "T2-weighted brain", "FLAIR brain")
NUM_VOLUMES = 5


def write_store(path: Path, *, num_volumes: int = NUM_VOLUMES) -> Path:
    """Write a store of ellipsoids with a ripple; no two volumes are alike."""
    store = VolumeStore.create(path, shape=STORE_SHAPE, spacing_mm=4.0)
    for number in range(num_volumes):
        volume = _draw_volume(number)
        sidecar = {
            "series_id": f"DATASET/sub-{number}/ses-1/anat",
            "dataset": "DATASET",
            "subject": f"sub-{number}",
            "study": "ses-1",
            "series": "anat",
            "organ": "brain",
            "description": DESCRIPTIONS[number % len(DESCRIPTIONS)],
            "dtype": str(volume.dtype),
            "dtype_reason": "",
            "source": "",
            "spacing_mm": [2.0, 3.5, 4.25],
            "mean": float(volume.mean()),
            "std": float(volume.std()),
            "minimum": float(volume.min()),
            "maximum": float(volume.max()),
        }
        store.write_series(sidecar["series_id"], volume, sidecar)
    store.rebuild_index()
    return path


def _draw_volume(number: int) -> np.ndarray:
    random = np.random.default_rng(number)
    axes = np.meshgrid(*(np.linspace(-1, 1, length) for length in STORE_SHAPE), indexing="ij")
    radius = np.sqrt(
        sum((axis / scale) ** 2 for axis, scale in zip(axes, (0.8, 0.7, 0.9), strict=True))
    )
    signal = 400 * (radius < 1) * (1.5 + np.sin((4 + number) * axes[0] + 3 * axes[2]))
    return (signal + 20 * random.random(STORE_SHAPE)).astype(np.uint16)


def write_embeddings(path: Path) -> None:
    """Embed the descriptions with random vectors."""
    vectors = np.random.default_rng(0).normal(size=(len(DESCRIPTIONS), 6)).astype(np.float32)
    table = EmbeddingTable(
        model_name="random", revision="0", descriptions=DESCRIPTIONS, vectors=vectors
    )
    table.save(path)


@pytest.fixture(scope="session")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with five volumes, three descriptions, and their embeddings."""
    path = write_store(tmp_path_factory.mktemp("stores") / "store")
    write_embeddings(path)
    return path


@pytest.fixture
def make_settings() -> Callable[..., PretrainSettings]:
    """Settings of a tiny run; keyword arguments replace them, and the objective's."""

    def make(**changes: object) -> PretrainSettings:
        values: dict[str, object] = {
            "encoder": "swin_t",
            "steps": 2,
            "batch_size": 2,
            "crop_size": (64, 32, 32),
            "learning_rate": 1e-3,
            "warmup_steps": 1,
            "checkpoint_every": 1,
            "objective_name": "paper",
        }
        return PretrainSettings.from_dict({**values, **changes})

    return make


@pytest.fixture
def make_data(store_path: Path) -> Callable[[PretrainSettings], PretrainData]:
    """Open the store for a run with given settings."""
    return lambda settings: load_data(store_path, settings)


@pytest.fixture
def group() -> ProcessGroup:
    """One process on the CPU."""
    return ProcessGroup(device=torch.device("cpu"))


@pytest.fixture
def start(make_data, make_settings, group):
    """A run before its first step, and its first batches."""

    def start(num_batches: int = 1, **changes):
        settings = make_settings(**changes)
        training = start_training(make_data(settings), settings, group)
        batches = crop_loader(training.data, settings, steps=range(num_batches), group=group)
        return training, list(batches)

    with torch.random.fork_rng():
        yield start


@pytest.fixture(autouse=True)
def _one_thread():
    """Sums in one order, as in the subprocesses that are compared with; restored afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
