"""A manifest of small volumes, its cache, and settings of tiny runs."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from classification.manifest import read_manifest
from classification.run import load_data
from classification.settings import PreprocessSettings, TrainSettings
from nnunet_triad.evaluation import classification as metrics
from tests.classification.volumes import write_dataset


@pytest.fixture(scope="session", autouse=True)
def few_resamples():
    """A hundred resamples an interval instead of two thousand."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "_NUM_RESAMPLES", 100)
        yield


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Sums in one order, so that runs are equal to the bit; and no quarrel with other programs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def manifest_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifteen volumes of three classes."""
    return write_dataset(tmp_path_factory.mktemp("classification"))


@pytest.fixture
def make_settings() -> Callable[..., TrainSettings]:
    """Settings of a tiny run; keyword arguments replace them."""

    def make(**changes: object) -> TrainSettings:
        values: dict = {
            "encoder": "swin_t",
            "preprocess": PreprocessSettings(size=32),
            "epochs": 2,
            "batch_size": 3,
            "warmup_epochs": 1,
            **changes,
        }
        return TrainSettings(**values)

    return make


@pytest.fixture(scope="session")
def data(manifest_path: Path, tmp_path_factory: pytest.TempPathFactory):
    """The volumes, cached at 32 voxels."""
    settings = TrainSettings(encoder="swin_t", preprocess=PreprocessSettings(size=32))
    cache = tmp_path_factory.mktemp("cache")
    return load_data(read_manifest(manifest_path), settings, cache, is_quiet=True)
