"""Classification of phantoms: encoders pre-trained or random, and what helps rare classes.

    python -m studies.classification_phantom WORK [--minutes 4] [--only TEXT]

Makes three sets of simulated brains (kind of lesion; sequence; slightly wider ventricles) and a
fourth in which two classes are rare; pre-trains two small encoders on other simulated brains by two
recipes; trains and tests classifiers; writes WORK/results.csv, tables and a figure. What is there
already is not made again, so a run that was stopped goes on, and `--minutes` cuts it into pieces.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from classification.features import probe
from classification.loop import finetune
from classification.manifest import read_manifest
from classification.model_file import load_model
from classification.predict import PREDICTIONS_NAME, write_predictions
from classification.run import load_data, predict_samples
from classification.settings import PreprocessSettings, TrainSettings
from nnunet_triad.architectures import ENCODERS, plainconv_spec
from nnunet_triad.demo.steps import sentence_model
from nnunet_triad.phantom.population import Population
from nnunet_triad.phantom.writers.classification import TASKS, write_classification
from nnunet_triad.training.distributed import join_process_group
from pretraining.loop import pretrain, weights_path
from pretraining.pretrain_data import load_data as load_store
from pretraining.settings import PretrainSettings
from studies.classification_phantom_report import report

# The four upper levels of `unet_t`: at 32 voxels their last feature has 4^3 voxels, where that of
# `unet` and `unet_t` would have one, which instance norm cannot take.
SMALL_UNET = plainconv_spec("unet_4", (16, 32, 64, 128))
SIZE = 32  # voxels
SPACING_MM = 6.0
SUBJECTS, TRAIN, VAL = 160, 60, 20  # the rest is the test set
SEEDS = (0, 1, 2)
MORE_SEEDS = (*SEEDS, 3, 4)
# Task, encoder: fine-tuned with more seeds, and from a longer pre-training, too.
CLOSER_LOOK = ("sequence", "unet_4")
EPOCHS = 24
# Initialisation -> recipe of the pre-training, steps.
PRETRAININGS = {
    "triad": ("paper", 100),
    "triad-masked": ("masked", 100),
    "triad-masked-long": ("masked", 1000),
}
# Encoder -> shape of stored volumes, and of crops; a Swin's bottleneck needs two voxels.
PRETRAINING_SHAPES = {
    "swin_t": ((64, 40, 36), (64, 32, 32)),
    "unet_4": ((36, 40, 36), (32, 32, 32)),
}
PRETRAINING_SUBJECTS = 60
RARE = "rare"
# Class -> subjects in train, val and test.
RARE_COUNTS = {"T1w": (35, 10, 25), "T1ce": (10, 3, 25), "PDw": (5, 2, 25)}
REMEDIES: dict[str, dict[str, str]] = {
    "plain": {},
    "balanced sampling": {"sampling": "balanced"},
    "weighted loss": {"loss": "weighted"},
    "focal loss": {"loss": "focal"},
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training."""

    task: str
    encoder: str
    mode: str
    initialization: str
    seed: int = 0
    remedy: str = "plain"

    @property
    def name(self) -> str:
        """Of its folder; the report reads it back."""
        parts = (self.task, self.encoder, self.mode, self.initialization, self.remedy, self.seed)
        return "__".join(map(str, parts)).replace(" ", "-")


RARE_RUN = Run(task=RARE, encoder="unet_4", mode="finetune", initialization="scratch")


def main() -> None:
    """Do what is missing, in order of importance, then report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="of CPU, to stop after")
    parser.add_argument("--report", action="store_true", help="report what is there, and no more")
    parser.add_argument("--only", default="", help="runs whose name (of their folder) has this")
    options = parser.parse_args()
    torch.set_num_threads(1)
    ENCODERS.setdefault(SMALL_UNET.name, SMALL_UNET)
    runs = [] if options.report else planned_runs()
    for run in (run for run in runs if options.only in run.name):
        if time.process_time() > 60 * options.minutes:
            print("stopped: run the same command again to go on, or with --report")
            return
        if not (options.work / "runs" / run.name / PREDICTIONS_NAME).exists():
            start = time.process_time()
            train(run, options.work)
            print(f"{run.name}: {time.process_time() - start:.0f} s of CPU", flush=True)
    report(options.work)


def planned_runs() -> Iterator[Run]:
    """Yield all runs, what says most for its time first."""
    pairs = list(product(("sequence", "lesion", "ventricles"), PRETRAINING_SHAPES))
    for task, encoder in pairs:
        what = Run(task=task, encoder=encoder, mode="linear-probe", initialization="scratch")
        yield from (replace(what, seed=seed) for seed in SEEDS)
        yield replace(what, initialization="triad")  # frozen: nothing is left to a seed
    for remedy, seed in product(REMEDIES, SEEDS):
        yield replace(RARE_RUN, remedy=remedy, seed=seed)
    for (task, encoder), seed, initialization in product(pairs, SEEDS, ("scratch", "triad")):
        what = Run(task=task, encoder=encoder, mode="finetune", initialization=initialization)
        yield replace(what, seed=seed)
    for task, encoder in pairs:
        what = Run(task=task, encoder=encoder, mode="linear-probe", initialization="triad-masked")
        yield what
        if task == "sequence":
            yield from (replace(what, mode="finetune", seed=seed) for seed in SEEDS)
    task, encoder = CLOSER_LOOK
    what = Run(task=task, encoder=encoder, mode="finetune", initialization="triad-masked-long")
    yield replace(what, mode="linear-probe")
    yield from (replace(what, seed=seed) for seed in MORE_SEEDS)
    for name, seed in product(("scratch", "triad", "triad-masked"), MORE_SEEDS[len(SEEDS) :]):
        yield replace(what, initialization=name, seed=seed)


def train(run: Run, work: Path) -> None:
    """Train and test one classifier; OUTPUT/predictions.csv says that it is done."""
    output = work / "runs" / run.name
    output.mkdir(parents=True, exist_ok=True)
    scratch = run.initialization == "scratch"
    settings = TrainSettings(
        encoder=run.encoder,
        init="scratch" if scratch else str(pretrained(run.encoder, run.initialization, work)),
        mode=run.mode,
        preprocess=PreprocessSettings(size=SIZE),
        encoder_rate=1.0,  # the paper's
        epochs=EPOCHS,
        warmup_epochs=2,
        batch_size=4,
        precision="bf16",
        select="balanced-accuracy",
        seed=run.seed,
        **REMEDIES[run.remedy],  # type: ignore[arg-type]
    )
    manifest = make_rare_set(work) if run.task == RARE else make_set(run.task, work)
    data = load_data(read_manifest(manifest), settings, manifest.parent / "cache", is_quiet=True)
    fit = finetune if run.mode == "finetune" else probe
    device = torch.device("cpu")
    path = fit(data, output, settings=settings, device=device, is_quiet=True)
    test = data.manifest.rows("test")
    predictions = predict_samples(load_model(path), data, test, device=device, is_quiet=True)
    write_predictions(output / PREDICTIONS_NAME, predictions)


def make_set(task: str, work: Path) -> Path:
    """Simulate a balanced set with a large test part; return its manifest."""
    folder = work / "sets" / task
    manifest = folder / "comparison.csv"
    if not manifest.exists():
        table = pd.read_csv(_simulate(folder, task, subjects=SUBJECTS, seed=21))
        place = np.arange(SUBJECTS)  # the classes come in turn, so each part is balanced
        parts = [place < TRAIN, place < TRAIN + VAL]
        table["split"] = np.select(parts, ["train", "val"], "test")
        table.to_csv(manifest, index=False)
    return manifest


def make_rare_set(work: Path) -> Path:
    """Simulate sequences of which two are rare in train and val; the test part is balanced."""
    folder = work / "sets" / RARE
    manifest = folder / "comparison.csv"
    if not manifest.exists():
        subjects = len(TASKS["sequence"]) * max(map(sum, RARE_COUNTS.values()))
        table = pd.read_csv(_simulate(folder, "sequence", subjects=subjects, seed=22))
        parts = []
        for label, counts in RARE_COUNTS.items():
            rows = table[table["label"] == label].iloc[: sum(counts)]
            parts.append(rows.assign(split=np.repeat(["train", "val", "test"], counts)))
        pd.concat(parts).to_csv(manifest, index=False)
    return manifest


def _simulate(folder: Path, task: str, *, subjects: int, seed: int) -> Path:
    population = Population(num_subjects=subjects, seed=seed, spacing_mm=SPACING_MM, lesion=None)
    return write_classification(folder, population, task=task)


def pretrained(encoder: str, initialization: str, work: Path) -> Path:
    """Pre-train an encoder on other simulated subjects, unless that is done; return its weights."""
    crop_size = PRETRAINING_SHAPES[encoder][1]
    output = work / "pretrained" / f"{encoder}_{initialization}"
    recipe, steps = PRETRAININGS[initialization]
    settings = PretrainSettings(
        encoder=encoder,
        steps=steps,
        batch_size=8,
        crop_size=crop_size,
        learning_rate=1e-3,  # the paper's rates are for 200,000 steps
        warmup_steps=max(15, steps // 10),
        precision="bf16",
        checkpoint_every=steps // 4,
        objective_name=recipe,
    )
    path = weights_path(output, settings)
    if not path.exists():
        store = _make_store(encoder, work)
        with join_process_group("cpu") as group:
            data = load_store(store, settings)
            pretrain(data, output, settings=settings, group=group, is_quiet=True)
    return path


def _make_store(encoder: str, work: Path) -> Path:
    """Simulate, curate and embed the volumes of an encoder's pre-training."""
    bids, store = work / "bids", work / f"store_{encoder}"
    if not (bids / "done").exists():
        size = ("--subjects", PRETRAINING_SUBJECTS, "--spacing-mm", SPACING_MM)
        _command("nnunet_triad.phantom.cli", "bids", bids, *size, "--seed", 11)
        (bids / "done").touch()
    if not (store / "embeddings.safetensors").exists():
        shape = ",".join(map(str, PRETRAINING_SHAPES[encoder][0]))
        options = ("--shape", shape, "--spacing-mm", SPACING_MM, "--max-spacing-mm", "inf")
        _command("pretraining.curate_cli", bids, store, *options, "--workers", 1)
        _command("pretraining.embed_cli", store, "--model", sentence_model())
    return store


def _command(module: str, *arguments: object) -> None:
    """Run one of the installed commands in a process of its own."""
    script = f"from {module} import main; main()"
    subprocess.run([sys.executable, "-c", script, *map(str, arguments)], check=True)


if __name__ == "__main__":
    main()
