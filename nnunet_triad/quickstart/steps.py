"""The quickstart's steps: commands that a user could type, in order."""

import csv
import io
import shlex
from collections.abc import Iterator
from pathlib import Path

from nnunet_triad.architectures import encoder_spec, family_of
from nnunet_triad.benchmark.paper import SCRATCH
from nnunet_triad.benchmark.runs import Run
from nnunet_triad.benchmark.segmentation import trainer_name
from nnunet_triad.benchmark.weights import ANY_FILE
from nnunet_triad.files import write_atomically
from nnunet_triad.quickstart.inputs import Inputs
from nnunet_triad.quickstart.settings import QuickstartSettings
from nnunet_triad.quickstart.sizes import Sizes
from nnunet_triad.steps import Step, make_step
from nnunet_triad.texts import read_json
from nnunet_triad.weights.catalogue import find_entry, is_catalogued
from nnunet_triad.weights.hub import is_hub_name
from nnunet_triad.weights.origins import TRIAD

DATASET_ID = 600
DATASET = "Dataset600_Quickstart"
# Given to nnU-Net's planner on a CPU: patches of some 40 x 56 x 40 voxels, two an iteration.
_PLANNED_MEMORY_GB = 0.6


def num_steps(settings: QuickstartSettings) -> int:
    """Return how many steps there will be."""
    if not settings.init:
        return 8
    return 7 if is_catalogued(settings.init) else 6


def weights_of(folder: Path, settings: QuickstartSettings) -> str:
    """Return what TRIAD_WEIGHTS names: the folder of the pre-training, or a file."""
    if not settings.init:
        return str(folder / "pretrained")
    if is_catalogued(settings.init):
        return str(find_entry(settings.init).path)
    if is_hub_name(settings.init):
        return settings.init
    return str(Path(settings.init).expanduser().resolve())


def steps(
    folder: Path, inputs: Inputs, settings: QuickstartSettings, sizes: Sizes, *, processes: int
) -> Iterator[Step]:
    """Yield the steps; the later ones follow from what the earlier ones have left.

    Args:
        folder: of the run.
        inputs: what is learnt from.
        settings: of the run.
        sizes: of images and crops.
        processes: of nnU-Net's preprocessing.
    """
    yield from _dataset_steps(folder, inputs, settings, sizes, processes)
    if not settings.init:
        yield from _pretraining_steps(folder, inputs, settings, sizes)
    elif is_catalogued(settings.init):
        yield make_step(
            "fetch", "Fetch the published encoder", "triad-weights", "fetch", settings.init
        )
    yield from _comparison_steps(folder, inputs, settings)


def _dataset_steps(
    folder: Path, inputs: Inputs, settings: QuickstartSettings, sizes: Sizes, processes: int
) -> Iterator[Step]:
    description = folder / "dataset.toml"
    yield make_step(
        "describe",
        "Write down how the labelled images lie in their folder",
        *("triad-dataset", "describe", str(inputs.labelled), str(description)),
        *("--id", str(DATASET_ID), "--name", DATASET.partition("_")[2]),
        result=description,
    )
    yield make_step(
        "convert",
        "Check them, and give them to nnU-Net",
        *("triad-dataset", "convert", str(description), "--source", str(inputs.labelled)),
    )
    spacing = sizes.target_spacing_mm
    yield make_step(
        "plan",
        "Plan and preprocess with nnU-Net",
        *("nnUNetv2_plan_and_preprocess", "-d", str(DATASET_ID), "-c", "3d_fullres"),
        *("-npfp", str(processes), "-np", str(processes), "--verify_dataset_integrity"),
        *(("-gpu_memory_target", str(_PLANNED_MEMORY_GB)) if settings.device == "cpu" else ()),
        *(("-overwrite_target_spacing", *map(str, spacing)) if spacing else ()),
    )
    yield make_step(
        "split",
        "Divide the cases: each is kept for validation once",
        *("triad-dataset", "split", str(description), "--folds", str(settings.folds)),
        "--overwrite",
    )


def _pretraining_steps(
    folder: Path, inputs: Inputs, settings: QuickstartSettings, sizes: Sizes
) -> Iterator[Step]:
    store = str(folder / "store")
    yield make_step(
        "curate",
        "Curate the unlabelled images into a volume store",
        *("triad-curate", str(inputs.images), store, "--dataset", "unlabelled", "--follow-links"),
        *("--shape", _listed(sizes.shape), "--spacing-mm", str(sizes.spacing_mm)),
    )
    yield make_step(
        "pretrain",
        "Pre-train an encoder: reconstruct what is masked (without the log-ratio loss)",
        *("triad-pretrain", store, str(folder / "pretrained"), "--encoder", settings.encoder),
        *("--steps", str(settings.steps), "--batch-size", str(sizes.batch)),
        *("--crop-size", _listed(sizes.crop), "--learning-rate", _rate(settings.encoder)),
        *("--log-ratio-weight", "0", "--checkpoint-every", "100", "--picture-every", "100"),
        *("--device", settings.device),
    )


def _rate(encoder: str) -> str:
    """Return the learning rate of a short run; the paper's are for 200,000 steps."""
    return "1e-4" if family_of(encoder_spec(encoder)).can_recompute else "1e-3"


def _comparison_steps(folder: Path, inputs: Inputs, settings: QuickstartSettings) -> Iterator[Step]:
    table, benchmark = folder / "runs.csv", str(folder / "benchmark")
    write_runs(table, runs(folder, settings))
    yield make_step(
        "train",
        "Train each fold twice, from random values and from the pre-trained encoder",
        *("triad-benchmark", "run", benchmark, "--runs", str(table), "--device", settings.device),
    )
    picture = folder / "pretrained" / "reconstructions.png"
    yield make_step(
        "report",
        "Report both, on the same cases",
        *("triad-benchmark", "report", benchmark, "--runs", str(table)),
        *("--title", f"{inputs.labelled.name}: pre-trained against scratch"),
        *(word for note in notes(folder, inputs, settings) for word in ("--note", note)),
        *(("--figure", str(picture), "--caption", _CAPTION) if picture.is_file() else ()),
        *("--output", str(folder / "report.html")),
    )


_CAPTION = (
    "Crops of unlabelled images that were held out, what the encoder saw of them, and what was "
    "made of it."
)


def runs(folder: Path, settings: QuickstartSettings) -> list[Run]:
    """Return the trainings, fold by fold; the dataset has been split."""
    splits = folder / "nnUNet_preprocessed" / DATASET / "splits_final.json"
    initializations = (SCRATCH, ANY_FILE if settings.init else TRIAD.initialization)
    return [
        Run(
            task="segmentation",
            dataset=DATASET,
            architecture=settings.encoder,
            initialization=initialization,
            fold=fold,
            variant=settings.variant,
        )
        for fold in range(len(read_json(splits)))
        for initialization in initializations
    ]


def write_runs(path: Path, all_runs: list[Run]) -> None:
    """Write the table that triad-benchmark reads."""
    text = io.StringIO()
    names = ["task", "dataset", "architecture", "initialization", "fold", "variant"]
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(vars(run) for run in all_runs)
    with write_atomically(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def notes(folder: Path, inputs: Inputs, settings: QuickstartSettings) -> list[str]:
    """Return the paragraphs above the report's results."""
    num_folds = len(runs(folder, settings)) // 2
    start = (
        f"the published encoder {settings.init}"
        if settings.init
        else f"{settings.steps} steps of pre-training on unlabelled images"
    )
    found = [
        f"{len(inputs.labels)} labelled cases, {num_folds} folds: each case was segmented by "
        f"networks that had not been trained on it. Pre-trained: {start} ({settings.encoder}). "
        f"Trainer: {trainer_name(runs(folder, settings)[-1])}.",
        "Each training was run once. A second one may differ by more than the interval says.",
    ]
    if inputs.shared_names:
        found.append(shared_names_warning(inputs))
    return found


def shared_names_warning(inputs: Inputs) -> str:
    """Return the warning of cases that bear the name of an unlabelled image."""
    names = ", ".join(inputs.shared_names[:3])
    return (
        f"Warning: {len(inputs.shared_names)} labelled cases are named as unlabelled images are "
        f"({names}). If these are the same patients, the pre-training has seen the test cases."
    )


def predict_command(folder: Path, settings: QuickstartSettings) -> str:
    """Return the line that segments new images by the pre-trained models of all folds.

    The models of a published encoder lie in a folder each: there it is the first one's.
    """
    pretrained = runs(folder, settings)[1::2]
    model, variable = pretrained[0], ""
    if settings.init:
        results = folder / "benchmark" / "runs" / model.name / "nnUNet_results"
        variable, pretrained = f"nnUNet_results={shlex.quote(str(results))} ", pretrained[:1]
    device = () if settings.device == "cuda" else ("-device", settings.device)
    words = (
        *("nnUNetv2_predict", "-i", "NEW_IMAGES", "-o", "PREDICTIONS", "-d", str(DATASET_ID)),
        *("-c", "3d_fullres", "-f", *(str(run.fold) for run in pretrained)),
        *("-tr", trainer_name(model), "-chk", "checkpoint_best.pth", *device),
    )
    return variable + shlex.join(words)


def _listed(values: tuple[int, int, int]) -> str:
    return ",".join(map(str, values))
