"""Classification and registration of phantoms by the commands that a user could type.

The encoder is the one that segmentation starts from, so one pre-training stands the test of all
three tasks.
"""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from nnunet_triad.evaluation.results import read_results
from nnunet_triad.files import write_atomically
from studies.design import SLOW_ENCODER, Scale, TaskTrial
from studies.images import run

MEASURES = {"classification": "correct", "registration": "endpoint_error_mm"}
BEFORE = "before"  # network of the rows that say how far apart a pair was


def make_task_data(folder: Path, task: str, scale: Scale) -> Path:
    """Simulate a task's subjects; what is there stays. Return the manifest."""
    if task == "registration":
        return _make_pairs(folder / task, scale)
    return _make_classes(folder / task, scale)


def _make_pairs(folder: Path, scale: Scale) -> Path:
    if not (folder / "manifest.csv").exists():
        run(
            *("triad-phantom", "registration", folder, "--aligned"),
            *("--subjects", scale.registration_subjects, "--seed", scale.registration_seed),
            *("--spacing-mm", scale.registration_spacing_mm),
        )
    return folder / "manifest.csv"


def _make_classes(folder: Path, scale: Scale) -> Path:
    """Write a manifest whose test part is larger than the phantom's own."""
    manifest = folder / "evidence.csv"
    if not manifest.exists():
        run(
            *("triad-phantom", "classification", folder, "--task", "sequence"),
            *("--subjects", scale.classification_subjects, "--seed", scale.classification_seed),
            *("--spacing-mm", scale.classification_spacing_mm),
        )
        table = pd.read_csv(folder / "manifest.csv")
        train, val = scale.classification_parts
        place = np.arange(len(table))  # the classes come in turn, so each part is balanced
        table["split"] = np.select([place < train, place < train + val], ["train", "val"], "test")
        with write_atomically(manifest) as temporary:
            table.to_csv(temporary, index=False)
    return manifest


def run_task_trial(
    trial: TaskTrial, work: Path, *, manifest: Path, weights: Path | None, scale: Scale
) -> pd.DataFrame:
    """Train a network and measure it on the test part.

    Args:
        trial: what to do.
        work: folder of the run; deleted at its end, and gone on with when it is there.
        manifest: of `make_task_data`.
        weights: file to start the encoder from; None: from scratch.
        scale: how much of it.

    Returns:
        Columns network (the trial's, or `BEFORE`), case, metric, value.
    """
    init = weights or "scratch"
    if trial.task == "registration":
        rows = _register(trial, work, manifest, init, scale)
    else:
        rows = _classify(trial, work, manifest, init, scale)
    rows = rows[rows.metric == MEASURES[trial.task]]
    shutil.rmtree(work)
    return rows[["network", "case", "metric", "value"]]


def _classify(
    trial: TaskTrial, work: Path, manifest: Path, init: Path | str, scale: Scale
) -> pd.DataFrame:
    epochs = scale.classification_epochs
    mode = "finetune" if trial.mode == SLOW_ENCODER else trial.mode
    run(
        *("triad-classify", "train", manifest, work, "--encoder", trial.network, "--init", init),
        *("--mode", mode, "--encoder-rate", 0.1 if trial.mode == SLOW_ENCODER else 1),
        *("--size", scale.classification_size, "--epochs", epochs),
        *("--warmup-epochs", min(2, epochs - 1), "--batch-size", 4),
        *("--select", "balanced-accuracy", "--seed", trial.seed, "--device", "cpu"),
        *("--cache", work / "cache"),
    )
    return read_results(work / "results.csv").assign(network=trial.network)


def _register(
    trial: TaskTrial, work: Path, manifest: Path, init: Path | str, scale: Scale
) -> pd.DataFrame:
    run(
        *("triad-register", "train", manifest, work, "--network", trial.network, "--init", init),
        *("--epochs", scale.registration_epochs, "--learning-rate", 2e-3),
        *("--lncc-window", 5, "--gradient-weight", 2),
        *("--intensity", "zscore"),  # as the encoders were pre-trained, from scratch too
        *("--no-flips", "--half-resolution", "--picture-every", 1000),
        *("--seed", trial.seed, "--device", "cpu"),
    )
    results = work / "results.csv"
    results.unlink(missing_ok=True)  # of an evaluation that was stopped
    run(
        *("triad-register", "evaluate", manifest, "--output", results, "--model", work),
        *("--reference", BEFORE, "--device", "cpu"),
    )
    table = read_results(results)
    return table.assign(network=np.where(table.architecture == BEFORE, BEFORE, trial.network))
