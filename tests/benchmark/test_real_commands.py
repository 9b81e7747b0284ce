"""A run with nnU-Net's own commands, from raw data to the report."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from nnunet_triad.benchmark.cli import app
from nnunet_triad.evaluation import read_results

ROOT = Path(__file__).parents[2]


def save(array: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.diag((1.0, 1.0, 2.0, 1.0))), path)


@pytest.fixture
def boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A raw dataset of boxes in noise, some with a core; nnU-Net's folders are set."""
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    monkeypatch.setenv("nnUNet_extTrainer", str(ROOT / "nnunet_triad" / "plugin"))
    for name, value in (("n_proc_DA", "1"), ("compile", "f"), ("def_n_proc", "1")):
        monkeypatch.setenv(f"nnUNet_{name}", value)
    random = np.random.default_rng(0)
    dataset = tmp_path / "raw" / "Dataset555_Boxes"
    for case in range(5):
        x, y, z = random.integers(2, 14, size=3)
        label = np.zeros((32, 40, 24), np.uint8)
        label[x : x + 12, y : y + 16, z : z + 8] = 1
        label[x + 3 : x + 9, y + 3 : y + 13, z + 2 : z + 6] = 2
        image = random.normal(100, 10, label.shape) + 50 * label
        save(image.astype(np.float32), dataset / "imagesTr" / f"box_{case}_0000.nii.gz")
        save(label, dataset / "labelsTr" / f"box_{case}.nii.gz")
    description = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "whole": [1, 2], "core": 2},
        "regions_class_order": [1, 2],
        "numTraining": 5,
        "file_ending": ".nii.gz",
    }
    (dataset / "dataset.json").write_text(json.dumps(description))
    (tmp_path / "runs.csv").write_text(
        "task,dataset,architecture,initialization,variant\n"
        "segmentation,Dataset555_Boxes,unet,scratch,_quick\n"
    )
    return tmp_path


@pytest.mark.slow
def test_run_with_nnunet_ends_in_the_report(boxes: Path) -> None:
    folder, options = boxes / "benchmark", ["--runs", str(boxes / "runs.csv")]
    ran = CliRunner().invoke(app, ["run", str(folder), *options, "--device", "cpu"])
    name = "segmentation-Dataset555_Boxes-unet-scratch-fold0-quick"
    log = folder / "runs" / name / "log.txt"
    assert ran.exit_code == 0, log.read_text()[-3000:] if log.exists() else ran.output
    table = read_results(folder / "results" / f"{name}.csv")
    assert list(table["label"]) == ["whole", "core"]  # one validation case in fold 0
    (summary,) = (boxes / "results").rglob("validation/summary.json")
    dice = json.loads(summary.read_text())["mean"]["(1, 2)"]["Dice"]
    assert table["value"].iloc[0] == pytest.approx(dice)
    reported = CliRunner().invoke(app, ["report", str(folder), *options])
    assert reported.exit_code == 0, reported.output
    page = (folder / "report.html").read_text()
    assert "1 of 1 planned runs are finished" in page
    assert "the first validation case by name" in page
