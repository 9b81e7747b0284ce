"""nnU-Net's own commands with these trainers, from raw data to a prediction, on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from nnunet_triad.files import sha256

ROOT = Path(__file__).parents[2]
TRAINER = "nnUNetTrainerTriadSwinT_quick"
TRAINING = ("nnUNetv2_train", "500", "3d_fullres", "0", "-tr", TRAINER, "-device", "cpu")
SHAPE = (32, 32, 64)


class Workplace:
    """nnU-Net's three folders below `folder`, and its commands run on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.weights = folder / "weights.safetensors"

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command that is installed beside this Python."""
        name, *args = command
        folders = {f"nnUNet_{n}": str(self.folder / n) for n in ("raw", "preprocessed", "results")}
        settings = {
            "nnUNet_extTrainer": str(ROOT / "nnunet_triad" / "plugin"),
            "TRIAD_WEIGHTS": str(self.weights),
            "nnUNet_n_proc_DA": "1",  # planning fails with 0
            "nnUNet_compile": "f",
            "nnUNet_def_n_proc": "1",
            "OMP_NUM_THREADS": "1",
        }
        return subprocess.run(
            [Path(sys.executable).parent / name, *args],
            env={**os.environ, **folders, **settings},
            capture_output=True,
            text=True,
            check=False,
        )

    def succeed(self, *command: str | Path) -> str:
        """Run a command that must succeed; return its standard output."""
        done = self.run(*command)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr
        return done.stdout

    @property
    def output(self) -> Path:
        """The folder of the trained fold."""
        model = f"{TRAINER}__nnUNetPlans__3d_fullres"
        return self.folder / "results" / "Dataset500_Boxes" / model / "fold_0"


def write_boxes(raw: Path, *, num_training: int) -> None:
    """Write a raw dataset of bright boxes in noise, and one case without labels."""
    random = np.random.default_rng(0)
    dataset = raw / "Dataset500_Boxes"
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (dataset / folder).mkdir(parents=True)
    for case in range(num_training + 1):
        x, y, z = random.integers(4, 16, size=3)
        label = np.zeros(SHAPE, np.uint8)
        label[x : x + 10, y : y + 10, z : z + 20] = 1
        image = random.normal(100, 10, SHAPE) + 50 * label
        part = "Tr" if case < num_training else "Ts"
        save(image.astype(np.float32), dataset / f"images{part}" / f"box_{case}_0000.nii.gz")
        if part == "Tr":
            save(label, dataset / "labelsTr" / f"box_{case}.nii.gz")
    description = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "box": 1},
        "numTraining": num_training,
        "file_ending": ".nii.gz",
    }
    (dataset / "dataset.json").write_text(json.dumps(description))


def save(array: np.ndarray, path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory, weights_folder: Path) -> Workplace:
    """A planned and preprocessed dataset, and a weights file."""
    workplace = Workplace(tmp_path_factory.mktemp("nnunet"))
    write_boxes(workplace.folder / "raw", num_training=5)
    processes = ("-np", "1", "-npfp", "1")
    workplace.succeed("nnUNetv2_plan_and_preprocess", "-d", "500", "-c", "3d_fullres", *processes)
    workplace.weights.write_bytes((weights_folder / "triad_swin_t.safetensors").read_bytes())
    return workplace


@pytest.fixture(scope="module")
def trained(planned: Workplace) -> Workplace:
    """A training that ran to its end, after which the weights file was deleted."""
    planned.succeed(*TRAINING)
    planned.weights.unlink()
    return planned


@pytest.mark.slow
def test_train_logs_the_weights_and_validates(trained: Workplace, weights_folder: Path) -> None:
    (log,) = trained.output.glob("training_log_*.txt")
    assert sha256(weights_folder / "triad_swin_t.safetensors") in log.read_text()
    summary = json.loads((trained.output / "validation" / "summary.json").read_text())
    assert 0 <= summary["foreground_mean"]["Dice"] <= 1


def test_train_continues_without_the_weights(trained: Workplace) -> None:
    final = trained.output / "checkpoint_final.pth"
    epoch = torch.load(final, weights_only=False)["current_epoch"]
    final.unlink()
    assert "Starting a new training" not in trained.succeed(*TRAINING, "--c")
    assert torch.load(final, weights_only=False)["current_epoch"] == epoch == 3


def test_validation_of_final_and_best_needs_no_weights(trained: Workplace) -> None:
    summary = trained.output / "validation" / "summary.json"
    summary.unlink()
    # nnU-Net loads the final checkpoint for --val, and then the best one for --val_best
    trained.succeed(*TRAINING, "--val", "--val_best")
    assert summary.is_file()


def test_predict_finds_trainer_and_network_by_the_checkpoint(trained: Workplace) -> None:
    raw, out = trained.folder / "raw" / "Dataset500_Boxes", trained.folder / "predicted"
    options = ("-d", "500", "-c", "3d_fullres", "-f", "0", "-tr", TRAINER, "-device", "cpu")
    trained.succeed(
        "nnUNetv2_predict", "-i", raw / "imagesTs", "-o", out, *options, "-npp", "1", "-nps", "1"
    )
    segmentation = nibabel.load(out / "box_5.nii.gz")
    assert segmentation.shape == SHAPE
    assert set(np.unique(segmentation.get_fdata())) <= {0, 1}


def test_train_without_the_weights_names_the_variable(trained: Workplace) -> None:
    command = [word.replace("TriadSwinT", "TriadUNet") for word in TRAINING]
    done = trained.run(*command)
    assert done.returncode != 0
    assert "UserError: TRIAD_WEIGHTS: expected" in done.stderr.splitlines()[-1]
    assert not list(trained.folder.glob("results/*/nnUNetTrainerTriadUNet*/fold_0/*.pth"))
