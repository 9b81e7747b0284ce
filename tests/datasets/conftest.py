"""nnU-Net's folders, the layouts' trees, and nnU-Net without further processes."""

import multiprocessing
import shutil
from collections.abc import Callable
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from nnunetv2.utilities import utils

from nnunet_triad.architectures import build_encoder, encoder_spec
from nnunet_triad.weights.file import WeightsInfo, save_weights
from tests.layouts import write_layout


@pytest.fixture(scope="session")
def layout_trees(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Trees in the layouts of the datasets, each written once and then left alone."""
    root = tmp_path_factory.mktemp("layouts")

    def tree(dataset_id: int) -> Path:
        folder = root / str(dataset_id)
        return folder if folder.exists() else write_layout(dataset_id, folder)

    return tree


@pytest.fixture
def make_source(layout_trees: Callable[[int], Path], tmp_path: Path) -> Callable[[int], Path]:
    """A tree of a dataset's layout that a test may spoil."""

    def make(dataset_id: int) -> Path:
        return shutil.copytree(layout_trees(dataset_id), tmp_path / "source" / str(dataset_id))

    return make


@pytest.fixture
def nnunet_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that holds nnU-Net's three."""
    for name in ("raw", "preprocessed", "results"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    monkeypatch.setenv("nnUNet_compile", "f")
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")  # nnU-Net's planner does not take 0
    return tmp_path


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads in place of the processes that nnU-Net starts, each of which would load torch."""
    threads = SimpleNamespace(Pool=ThreadPool)
    monkeypatch.setattr(multiprocessing, "get_context", lambda *_: threads)
    monkeypatch.setattr(utils, "Pool", ThreadPool)


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of random weights for the smallest Swin encoder."""
    spec = encoder_spec("swin_t")
    path = tmp_path_factory.mktemp("weights") / "triad_swin_t.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(1)
        save_weights(path, build_encoder(spec), WeightsInfo(spec=spec, source="triad"))
    return path
