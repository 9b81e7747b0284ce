"""nnU-Net's own commands with these trainers, from raw data to a prediction, on the CPU."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from nnunet_triad.architectures import build_encoder, build_network, encoder_spec
from nnunet_triad.files import sha256
from nnunet_triad.weights.file import WeightsInfo, save_weights
from nnunet_triad.weights.locate import load_weights

ROOT = Path(__file__).parents[2]
TRAINER = "nnUNetTrainerTriadSwinT_quick"
TRAINING = ("nnUNetv2_train", "500", "3d_fullres", "0", "-tr", TRAINER, "-device", "cpu")
MODEL = ("-d", "500", "-c", "3d_fullres", "-tr", TRAINER, "-f", "0")
SHAPE = (32, 32, 64)
# Sagittal slices: the axes of the file run along y, z and x; nnU-Net's arrays along x, z and y.
AFFINE = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], float)
# several commands in one process: importing PyTorch for each takes longer than their work
ONE_AFTER_ANOTHER = """
import json, sys
from importlib.metadata import entry_points
for command in json.loads(sys.argv[1]):
    (script,) = entry_points(group="console_scripts", name=command[0])
    sys.argv = command
    print("COMMAND", *command, flush=True)
    script.load()()
"""


class Workplace:
    """nnU-Net's three folders below `folder`, and its commands run on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.weights = folder / "weights.safetensors"
        self.texts: list[str] = []  # what each of several commands printed
        self.digest = ""  # of the weights

    def run(self, *command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command that is installed beside this Python, with environment variables."""
        name, *args = command
        folders = {f"nnUNet_{n}": str(self.folder / n) for n in ("raw", "preprocessed", "results")}
        settings = {
            "nnUNet_extTrainer": str(ROOT / "nnunet_triad" / "plugin"),
            "TRIAD_WEIGHTS": str(self.weights),
            "nnUNet_n_proc_DA": "0",
            "nnUNet_compile": "f",
            "nnUNet_def_n_proc": "1",
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",  # nnU-Net takes all cores, which others may use
        }
        return subprocess.run(
            [Path(sys.executable).parent / name, *args],
            env={**os.environ, **folders, **settings, **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    def succeed(self, *command: str | Path) -> str:
        """Run a command that must succeed; return its standard output."""
        done = self.run(*command)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr
        return done.stdout

    def succeed_all(self, *commands: tuple[str | Path, ...], **variables: str) -> str:
        """Run commands that must succeed, one after another; return their standard output."""
        texts = json.dumps([list(map(str, command)) for command in commands])
        done = self.run("python", "-c", ONE_AFTER_ANOTHER, texts, **variables)
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
    nibabel.save(nibabel.Nifti1Image(array, AFFINE), path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A training that ran to its end, after which the weights file was deleted.

    The weights are of another order of axes, another patch merging and another intensity scale.
    """
    workplace = Workplace(tmp_path_factory.mktemp("nnunet"))
    write_boxes(workplace.folder / "raw", num_training=5)
    spec = replace(encoder_spec("swin_t"), merging="old")
    save_weights(
        workplace.weights,
        build_encoder(spec),
        WeightsInfo(spec=spec, axes="xyz", intensity_normalization="percentiles 0.5 99.5"),
    )
    workplace.digest = sha256(workplace.weights)
    plan = ("nnUNetv2_plan_and_preprocess", "-d", "500", "-c", "3d_fullres", "-np", "1")
    # planning fails without processes for augmentation
    workplace.succeed_all((*plan, "-npfp", "1"), nnUNet_n_proc_DA="1")
    workplace.succeed_all(TRAINING)
    workplace.weights.unlink()
    return workplace


@pytest.fixture(scope="module")
def used(trained: Workplace) -> Workplace:
    """The model after the commands that use it, by name and arguments in `texts`."""
    folder = trained.folder
    images, out = folder / "raw" / "Dataset500_Boxes" / "imagesTs", folder / "predicted"
    (trained.output / "checkpoint_final.pth").unlink()
    options = ("-device", "cpu", "--save_probabilities", "-npp", "0", "-nps", "0")
    best = ("nnUNetv2_find_best_configuration", "500", *MODEL[2:], "--disable_ensembling")
    text = trained.succeed_all(
        (*TRAINING, "--c"),
        # nnU-Net loads the final checkpoint for --val, and then the best one for --val_best
        (*TRAINING, "--val", "--val_best"),
        ("nnUNetv2_predict", "-i", images, "-o", out, *MODEL, *options),
        (*best, "-np", "1"),
        ("nnUNetv2_ensemble", "-i", out, out, "-o", folder / "ensemble", "-np", "1"),
        ("nnUNetv2_export_model_to_zip", *MODEL, "-o", folder / "model.zip"),
    )
    trained.texts = text.split("COMMAND ")[1:]
    return trained


@pytest.mark.slow
def test_train_logs_the_weights_and_validates(trained: Workplace) -> None:
    text = read_log(trained)
    assert trained.digest in text
    summary = json.loads((trained.output / "validation" / "summary.json").read_text())
    assert 0 <= summary["foreground_mean"]["Dice"] <= 1


def read_log(trained: Workplace) -> str:
    """The log of the training's start."""
    return min(trained.output.glob("training_log_*.txt")).read_text()


def test_encoder_sees_sagittal_images_as_its_weights_did(trained: Workplace) -> None:
    text = read_log(trained)
    assert "(xzy in 5 cases)" in text
    assert "axes      xzy here, xyz there: exact, by permuting the image on its way in" in text
    assert "merging   as MONAI before 1.5.0" in text
    assert "intensity zscore here, made percentiles 0.5 99.5 by the first layer" in text


def test_checkpoint_keeps_how_the_encoder_computes(used: Workplace) -> None:
    """As weights it is what it was; as a model its order of axes and merging are in its state."""
    weights = load_weights(used.output / "checkpoint_final.pth")
    assert (weights.info.axes, weights.info.spec.merging) == ("xyz", "old")
    network = build_network(encoder_spec("swin_t"), input_channels=1, output_channels=2)
    final = torch.load(used.output / "checkpoint_final.pth", weights_only=False)
    network.load_state_dict(final["network_weights"])
    assert (network.swinViT.order, network.swinViT.merging) == ((0, 2, 1), "old")


def test_prediction_computes_what_the_validation_of_the_training_did(used: Workplace) -> None:
    """The validation ran in the network that was trained, the prediction builds its own."""
    validated = sorted((used.output / "validation").glob("*.nii.gz"))
    source, out = used.folder / "again", used.folder / "predicted_again"
    source.mkdir()
    for path in validated:
        name = path.name.replace(".nii.gz", "_0000.nii.gz")
        (source / name).symlink_to(used.folder / "raw" / "Dataset500_Boxes" / "imagesTr" / name)
    used.succeed_all(
        ("nnUNetv2_predict", "-i", source, "-o", out, *MODEL, "-device", "cpu", "-npp", "0",
         "-nps", "0"),
    )  # fmt: skip
    for path in validated:
        alone, again = (nibabel.load(p).get_fdata() for p in (path, out / path.name))
        np.testing.assert_array_equal(alone, again)


def test_train_continues_without_the_weights(used: Workplace) -> None:
    assert "Starting a new training" not in used.texts[0]
    final = torch.load(used.output / "checkpoint_final.pth", weights_only=False)
    assert final["current_epoch"] == 3
    assert final["init_args"]["triad_transfer"]["architecture"] == "swin_t"


def test_validation_of_final_and_best_needs_no_weights(used: Workplace) -> None:
    assert "--val_best" in used.texts[1].splitlines()[0]
    assert "Validation complete" in used.texts[1]
    assert "Epoch" not in used.texts[1]


def test_predict_finds_trainer_and_network_by_the_checkpoint(used: Workplace) -> None:
    segmentation = nibabel.load(used.folder / "predicted" / "box_5.nii.gz")
    assert segmentation.shape == SHAPE
    assert set(np.unique(segmentation.get_fdata())) <= {0, 1}


def test_find_best_configuration_takes_the_model(used: Workplace) -> None:
    path = used.folder / "results" / "Dataset500_Boxes" / "inference_information.json"
    found = json.loads(path.read_text())["best_model_or_ensemble"]
    assert found["selected_model_or_models"][0]["trainer"] == TRAINER


def test_ensemble_of_a_prediction_with_itself_is_the_prediction(used: Workplace) -> None:
    alone, together = (
        nibabel.load(folder / "box_5.nii.gz").get_fdata()
        for folder in (used.folder / "predicted", used.folder / "ensemble")
    )
    np.testing.assert_array_equal(alone, together)


def test_exported_zip_predicts_where_the_plugin_is(used: Workplace) -> None:
    elsewhere, out = used.folder / "elsewhere", used.folder / "from_zip"
    images = used.folder / "raw" / "Dataset500_Boxes" / "imagesTs"
    predict = ("nnUNetv2_predict", "-i", images, "-o", out, *MODEL, "-device", "cpu")
    used.succeed_all(
        ("nnUNetv2_install_pretrained_model_from_zip", used.folder / "model.zip"),
        (*predict, "-npp", "0", "-nps", "0"),
        nnUNet_results=str(elsewhere),
    )
    alone, from_zip = (
        nibabel.load(folder / "box_5.nii.gz").get_fdata()
        for folder in (used.folder / "predicted", out)
    )
    np.testing.assert_array_equal(alone, from_zip)
    missing = used.run(
        *(*predict, "-npp", "0", "-nps", "0"),
        nnUNet_results=str(elsewhere),
        nnUNet_extTrainer=str(used.folder),
    )
    assert missing.returncode != 0
    last = missing.stderr.splitlines()[-1]
    assert f"Could not find requested nnunet trainer {TRAINER}" in last
    assert "nnUNet_extTrainer" in last


def test_train_without_the_weights_names_the_variable(trained: Workplace) -> None:
    command = [word.replace("TriadSwinT", "TriadUNet") for word in TRAINING]
    done = trained.run(*command)
    assert done.returncode == 1  # nnU-Net's, not our commands' 2
    assert "UserError: TRIAD_WEIGHTS: expected" in done.stderr.splitlines()[-1]
    assert not list(trained.folder.glob("results/*/nnUNetTrainerTriadUNet*/fold_0/*.pth"))
