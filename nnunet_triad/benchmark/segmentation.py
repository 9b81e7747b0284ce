"""Segmentation runs: nnU-Net's own commands, and its validation folder as a results table."""

from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_triad.architectures.families import networks_on
from nnunet_triad.benchmark.environment import Environment
from nnunet_triad.benchmark.overlay import draw_segmentation
from nnunet_triad.benchmark.paper import SCRATCH
from nnunet_triad.benchmark.runs import Run
from nnunet_triad.benchmark.steps import Requirement, Step, Task, missing
from nnunet_triad.benchmark.weights import (
    WEIGHTS_VARIABLE,
    versioned,
    weights_path,
    weights_requirement,
)
from nnunet_triad.errors import UserError
from nnunet_triad.evaluation.results import COLUMNS, Result
from nnunet_triad.texts import MOST_OF_A_LIST, read_json
from nnunet_triad.weights.origins import ANY_TRAINER, trainer_word

_CONFIGURATION = "3d_fullres"
_PLANS = "nnUNetPlans"
_FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")


def trainer_name(run: Run) -> str:
    """Return the trainer of a run; Pretrained takes the weights that have no trainer of theirs."""
    is_scratch = run.initialization == SCRATCH
    word = "Scratch" if is_scratch else trainer_word(run.initialization)
    return f"nnUNetTrainer{word}{networks_on(_encoder(run))[-1]}{run.variant}"


def requirements(run: Run, environment: Environment) -> list[Requirement]:
    """Return nnU-Net's folders, the dataset and the weights, there or not."""
    unset = [
        missing(name, f"{name}: expected a folder of nnU-Net's, got nothing; export {name}=FOLDER")
        for name in _FOLDERS
        if environment.path(name) is None
    ]
    return [
        *unset,
        _dataset_requirement(run, environment),
        *_weights_requirements(run, environment),
    ]


def steps(run: Run, environment: Environment) -> list[Step]:
    """Return the commands; which ones depends on what nnU-Net's folders hold already.

    The paper reports the model with the best validation score: `--val_best`.
    """
    number = run.nnunet_id or run.dataset
    result = []
    if not _is_preprocessed(run, environment):
        command = ("nnUNetv2_plan_and_preprocess", "-d", str(number), "-c", _CONFIGURATION)
        lock = environment.folder / "locks" / f"preprocess_{number}"
        result.append(
            Step(name="preprocess", command=(*command, "--verify_dataset_integrity"), lock=lock)
        )
    training = (
        *("nnUNetv2_train", str(number), _CONFIGURATION, str(run.fold), "-tr", trainer_name(run)),
        *("--val_best", "-device", environment.device, *_continuation(run, environment)),
    )
    variables = {**_own_results(run, environment), **_own_weights(run, environment)}
    result.append(Step(name="train", command=training, variables=variables))
    return result


def gather(run: Run, environment: Environment) -> pd.DataFrame:
    """Return the Dice of each validation case and label; draw the overlay of the first case.

    Raises:
        UserError: nnU-Net wrote no validation summary.
    """
    folder = _model_folder(run, environment)
    summary = folder / "validation" / "summary.json" if folder else None
    if summary is None or not summary.is_file():
        raise UserError(f"{run.name}: expected nnU-Net's validation/summary.json, got no file")
    preprocessed = _named_folder(run, environment.path("nnUNet_preprocessed"))
    assert preprocessed is not None  # it was trained on
    labels = label_names(read_json(preprocessed / "dataset.json")["labels"])
    table = read_summary(summary, labels, run)
    raw = _named_folder(run, environment.path("nnUNet_raw"))
    picture = environment.run_folder(run.name) / "overlay.png"
    draw_segmentation(picture, raw, preprocessed, summary.parent, labels)
    return table


def read_summary(path: Path, labels: dict[frozenset[int], str], run: Run) -> pd.DataFrame:
    """Read nnU-Net's summary.json as rows of the results table; Dice is NaN where both are empty.

    A variant of the trainer becomes part of the initialisation's name: `triad-frozen`.

    Args:
        path: the summary.
        labels: label values -> name, as `label_names` returns them.
        run: fills the other columns.
    """
    cases = read_json(path, most_bytes=MOST_OF_A_LIST)["metric_per_case"]
    rows = [
        Result(
            task=run.task,
            dataset=run.dataset,
            architecture=run.architecture,
            initialization=run.initialization + run.variant.replace("_", "-"),
            fold=run.fold,
            seed=run.seed,
            case=Path(case["prediction_file"].removesuffix(".gz")).stem,
            label=labels[_values(key)],
            metric="dice",
            value=float(metrics["Dice"]),
        )
        for case in cases
        for key, metrics in case["metrics"].items()
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def label_names(labels: dict[str, Any]) -> dict[frozenset[int], str]:
    """Return the name of each set of label values, without the background and the ignore label."""
    named = {
        frozenset(values if isinstance(values, list) else [values]): name
        for name, values in labels.items()
        if name != "ignore"
    }
    named.pop(frozenset({0}), None)
    return named


def _values(key: str) -> frozenset[int]:
    """Parse nnU-Net's key of a label or a region: `3` or `(1, 2, 3)`."""
    return frozenset(int(part) for part in key.strip("()").split(",") if part.strip())


def _dataset_requirement(run: Run, environment: Environment) -> Requirement:
    number = run.nnunet_id
    if number is None:
        return missing(
            "dataset", f"dataset: expected one of the paper's or DatasetNNN_NAME, got {run.dataset}"
        )
    for variable in ("nnUNet_preprocessed", "nnUNet_raw"):
        folder = _named_folder(run, environment.path(variable))
        if folder is not None and (folder / "dataset.json").is_file():
            return Requirement(name="dataset", found=str(folder))
    return missing(
        "dataset",
        f"dataset: expected Dataset{number:03d}_NAME in nnUNet_raw, got none; "
        f"triad-dataset convert {number} --source FOLDER",
    )


def _weights_requirements(run: Run, environment: Environment) -> list[Requirement]:
    if run.initialization == SCRATCH:
        return []
    return [weights_requirement(run.initialization, _encoder(run), environment)]


def _encoder(run: Run) -> str:
    return versioned(run.architecture, run.initialization)


def _is_preprocessed(run: Run, environment: Environment) -> bool:
    folder = _named_folder(run, environment.path("nnUNet_preprocessed"))
    if folder is None:
        return False
    # nnU-Net writes the plans first, then dataset.json, and copies the labels last.
    if not all((folder / name).is_file() for name in (f"{_PLANS}.json", "dataset.json")):
        return False
    num_cases = read_json(folder / "dataset.json")["numTraining"]
    return len(list(folder.glob("gt_segmentations/*"))) >= num_cases


def _named_folder(run: Run, parent: Path | None) -> Path | None:
    if parent is None or run.nnunet_id is None:
        return None
    return next(iter(sorted(parent.glob(f"Dataset{run.nnunet_id:03d}_*"))), None)


def _own_results(run: Run, environment: Environment) -> dict[str, str]:
    """Trainings by one trainer would share nnU-Net's folder: each gets one of its own."""
    if not run.seed and _has_own_trainer(run):
        return {}
    return {"nnUNet_results": str(environment.run_folder(run.name) / "nnUNet_results")}


def _own_weights(run: Run, environment: Environment) -> dict[str, str]:
    """The Pretrained trainer takes the file that it is shown."""
    if _has_own_trainer(run):
        return {}
    return {WEIGHTS_VARIABLE: weights_path(run.initialization, _encoder(run), environment)}


def _has_own_trainer(run: Run) -> bool:
    return run.initialization == SCRATCH or trainer_word(run.initialization) != ANY_TRAINER


def _model_folder(run: Run, environment: Environment) -> Path | None:
    own = _own_results(run, environment).get("nnUNet_results")
    dataset = _named_folder(run, Path(own) if own else environment.path("nnUNet_results"))
    if dataset is None:
        return None
    return dataset / f"{trainer_name(run)}__{_PLANS}__{_CONFIGURATION}" / f"fold_{run.fold}"


def _continuation(run: Run, environment: Environment) -> tuple[str, ...]:
    """Return the flag with which nnU-Net goes on where an earlier training stopped."""
    folder = _model_folder(run, environment)
    if folder is None:
        return ()
    if (folder / "checkpoint_final.pth").is_file():
        return ("--val",)
    started = ("checkpoint_latest.pth", "checkpoint_best.pth")  # nnU-Net goes on with the first
    return ("--c",) if any((folder / name).is_file() for name in started) else ()


SEGMENTATION = Task(requirements=requirements, steps=steps, gather=gather)
