"""From the published layout to a training, for each of the 17 datasets, by nnU-Net's own code."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import (
    DatasetFingerprintExtractor,
)
from nnunetv2.experiment_planning.plan_and_preprocess_api import (
    extract_fingerprint_dataset,
    plan_experiment_dataset,
    preprocess_dataset,
)
from nnunetv2.training.logging.nnunet_logger import LocalLogger

from nnunet_triad.datasets import DatasetSpec, known_datasets
from nnunet_triad.datasets.convert import convert_dataset
from nnunet_triad.trainers import variants
from nnunet_triad.trainers.base import TriadTrainer
from tests.layouts import LAYOUTS


class QuickFingerprintExtractor(DatasetFingerprintExtractor):
    """Samples fewer intensities than nnU-Net's 100 million, which is most of its time here."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.num_foreground_voxels_for_intensitystats = 10_000


@pytest.fixture
def train(
    nnunet_folders: Path, in_process: None, weights_file: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[DatasetSpec], TriadTrainer]:
    """Verify, plan and preprocess a converted dataset, and train for two iterations."""
    monkeypatch.setenv("TRIAD_WEIGHTS", str(weights_file))
    monkeypatch.setattr(LocalLogger, "plot_progress_png", lambda *_: None)

    def run(spec: DatasetSpec) -> TriadTrainer:
        extract_fingerprint_dataset(
            spec.id,
            QuickFingerprintExtractor,
            num_processes=1,
            check_dataset_integrity=True,
            show_progress_bar=False,
        )
        plan_experiment_dataset(spec.id, gpu_memory_target_in_gb=1)
        preprocess_dataset(
            spec.id, configurations=["3d_fullres"], num_processes=[1], show_progress_bar=False
        )
        folder = nnunet_folders / "preprocessed" / spec.folder_name
        plans = json.loads((folder / "nnUNetPlans.json").read_text())
        trainer = variants.nnUNetTrainerTriadSwinT(
            {**plans, "continue_training": False},
            "3d_fullres",
            0,
            json.loads((folder / "dataset.json").read_text()),
            torch.device("cpu"),
        )
        trainer.num_epochs = 1
        trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 2, 1
        torch.manual_seed(0)
        monkeypatch.setenv("nnUNet_n_proc_DA", "0")
        trainer.run_training()
        return trainer

    return run


@pytest.mark.parametrize("dataset_id", LAYOUTS)
def test_dataset_converts_verifies_plans_and_trains(
    dataset_id: int, layout_trees: Callable[[int], Path], train, capsys
) -> None:
    spec = known_datasets()[dataset_id]
    summary = convert_dataset(spec, layout_trees(spec.id))
    trainer = train(spec)
    output = capsys.readouterr().out
    assert "verify_dataset_integrity Done" in output
    assert "Warning" not in output.partition("verify_dataset_integrity Done")[0]
    assert trainer.num_input_channels == len(spec.channels)
    assert trainer.label_manager.num_segmentation_heads == len(spec.labels) - bool(
        spec.regions_class_order
    )
    (loss,) = trainer.logger.get_value("train_losses", step=None)
    assert torch.isfinite(torch.tensor(loss))
    splits = json.loads(
        (Path(trainer.preprocessed_dataset_folder_base) / "splits_final.json").read_text()
    )
    assert len(splits) == 5
    assert len(splits[0]["train"] + splits[0]["val"]) == summary.num_training
    assert trainer.transfer_report["loaded"]["tensors"] > 0
