"""A zip that stock nnU-Net installs and predicts with."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_triad.export import cli
from tests.export.conftest import write_images

FOLDS = ("-f", "0", "1")


def export(folder: Path, output: Path, *options: str) -> None:
    cli.app([str(folder), str(output), "--format", "nnunet", *options], standalone_mode=False)


def commands_without_this_project(tmp_path: Path) -> Path:
    """A folder that hides this project from a Python that has it."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import sys\n"
        "class Hidden:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'nnunet_triad' or name.endswith('variants.triad'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
    )
    importing = [sys.executable, "-c", "import nnunet_triad"]
    done = subprocess.run(importing, env={"PYTHONPATH": str(hidden)}, capture_output=True)
    assert b"ModuleNotFoundError: nnunet_triad" in done.stderr
    return hidden


def run_nnunet(command: str, *arguments: str, results: Path, hidden: Path | None) -> None:
    """Run a command of nnU-Net's, with this project's plugin or with the project hidden."""
    plugin = Path(__file__).parents[2] / "nnunet_triad" / "plugin"
    changed = {"nnUNet_results": str(results), "OMP_NUM_THREADS": "1", "nnUNet_compile": "f"}
    changed |= {"PYTHONPATH": str(hidden)} if hidden else {"nnUNet_extTrainer": str(plugin)}
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "nnUNet_extTrainer")}
    done = subprocess.run(
        [Path(sys.executable).parent / command, *arguments],
        env={**kept, **changed},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.long
@pytest.mark.parametrize(
    ("trainer", "network"),
    [
        ("nnUNetTrainerScratchUNet_quick", "PlainConvUNet"),
        ("nnUNetTrainerScratchResEncM", "PlainConvUNet"),  # a default plan: residual blocks
        ("nnUNetTrainerScratchResEncL", "ResidualEncoderUNet"),
    ],
)
def test_stock_nnunet_predicts_the_same_bits(
    trainer: str, network: str, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_model(trainer, network=network, folds=(0, 1), spacing=(1.5, 1.0, 0.8))
    write_images(tmp_path / "images")
    output = tmp_path / "model.zip"
    export(folder, output)
    images = ("-i", str(tmp_path / "images"), "-device", "cpu", "--save_probabilities")
    common = (*images, "-d", "500", "-c", "3d_fullres", *FOLDS, "-npp", "1", "-nps", "1")
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    run_nnunet(
        "nnUNetv2_predict",
        *common,
        *("-tr", trainer, "-o", str(ours)),
        results=tmp_path / "results",
        hidden=None,
    )
    hidden, installed = commands_without_this_project(tmp_path), tmp_path / "installed"
    installed.mkdir()
    run_nnunet(
        "nnUNetv2_install_pretrained_model_from_zip", str(output), results=installed, hidden=hidden
    )
    plans = f"nnUNetPlans{trainer.removeprefix('nnUNetTrainer')}"
    run_nnunet(
        "nnUNetv2_predict",
        *common,
        *("-tr", "nnUNetTrainer", "-p", plans, "-o", str(theirs)),
        results=installed,
        hidden=hidden,
    )
    a, b = (np.load(place / "case.npz")["probabilities"] for place in (ours, theirs))
    np.testing.assert_array_equal(a, b)
    a, b = (SimpleITK.ReadImage(str(place / "case.nii.gz")) for place in (ours, theirs))
    np.testing.assert_array_equal(*map(SimpleITK.GetArrayFromImage, (a, b)))
    assert len(np.unique(SimpleITK.GetArrayFromImage(a))) > 1


def test_zip_holds_what_prediction_reads_and_no_optimiser(
    make_model: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_model("nnUNetTrainerScratchUNet_5epochs", folds=(0, 1))
    summary = folder / "fold_1" / "validation" / "summary.json"
    summary.parent.mkdir()
    summary.write_text("{}")
    export(folder, tmp_path / "model.zip", "--folds", "1")
    root = "Dataset500_Phantom/nnUNetTrainer__nnUNetPlansScratchUNet_5epochs__3d_fullres"
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        assert sorted(archive.namelist()) == [
            f"{root}/dataset.json",
            f"{root}/fold_1/checkpoint_final.pth",
            f"{root}/fold_1/validation/summary.json",
            f"{root}/plans.json",
        ]
        with archive.open(f"{root}/fold_1/checkpoint_final.pth") as file:
            checkpoint = torch.load(file, weights_only=True)
    assert checkpoint["trainer_name"] == "nnUNetTrainer"
    assert checkpoint["inference_allowed_mirroring_axes"] == (0, 1, 2)
    assert "optimizer_state" not in checkpoint
    printed = capsys.readouterr().out
    assert "largest difference 0 of" in printed
    assert "-tr nnUNetTrainer -p nnUNetPlansScratchUNet_5epochs -f 1" in printed


def test_cross_validation_s_rules_go_along(make_model: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_model("nnUNetTrainerScratchUNet")
    rules = folder / "crossval_results_folds_0_1_2_3_4" / "postprocessing.json"
    rules.parent.mkdir()
    rules.write_text(json.dumps({"postprocessing_fns": []}))
    export(folder, tmp_path / "model.zip")
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        (found,) = (name for name in archive.namelist() if "postprocessing" in name)
        assert archive.read(found) == rules.read_bytes()


@pytest.mark.parametrize("network", ["PlainConvUNet", "ResidualEncoderUNet"])
def test_plan_of_a_resenc_is_one_that_nnunet_builds_it_from(
    network: str, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    export(make_model("nnUNetTrainerScratchResEncM", network=network), tmp_path / "model.zip")
    root = "Dataset500_Phantom/nnUNetTrainer__nnUNetPlansScratchResEncM__3d_fullres"
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        plans = json.loads(archive.read(f"{root}/plans.json"))
        with zipfile.Path(archive, f"{root}/fold_0/checkpoint_final.pth").open("rb") as file:
            weights = torch.load(file, weights_only=True)["network_weights"]
    manager = PlansManager(plans)
    configuration = manager.get_configuration("3d_fullres")
    stock = nnUNetTrainer.build_network_architecture(manager, configuration, 2, 3, False)
    assert type(stock).__name__ == "ResidualEncoderUNet"
    stock.load_state_dict(weights)


@pytest.mark.long
def test_primus_is_nnunet_s_own_where_the_patch_is_of_whole_tokens(
    make_model: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_model("nnUNetTrainerScratchPrimusM", patch=(32, 32, 40))
    export(folder, tmp_path / "model.zip")  # which compares the logits
    root = "Dataset500_Phantom/nnUNet_Primus_M_Trainer__nnUNetPlansScratchPrimusM__3d_fullres"
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        assert f"{root}/fold_0/checkpoint_final.pth" in archive.namelist()


def test_network_that_stock_nnunet_has_not_is_refused(
    make_model: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_model("nnUNetTrainerScratchSwinT", patch=(32, 32, 32))
    with pytest.raises(ValueError, match="got swin_t, patch 32x32x32, which needs this plugin"):
        export(folder, tmp_path / "model.zip")
    assert not (tmp_path / "model.zip").exists()
