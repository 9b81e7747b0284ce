"""Fine-tune inside nnU-Net: its plan, preprocessing, sampling, augmentation, trainer and windows.

Differs from `nnUNetv2_train` in what makes trials short and comparable: a seed fixes the decoder's
weights and the batches; the plan's patch is cut down; the labelled subjects are drawn; windows are
predicted without mirroring and measured on the plan's grid.
"""

import json
import random
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch

from nnunet_triad.architectures import NETWORKS, encoder_spec
from nnunet_triad.evaluation.segmentation import dice
from nnunet_triad.files import write_json
from nnunet_triad.steps import environment
from nnunet_triad.trainers.base import TriadTrainer
from nnunet_triad.trainers.variants import make_trainer
from nnunet_triad.weights.file import save_tensors
from nnunet_triad.weights.locate import VARIABLE, load_weights
from studies.command import TRAIN_INSIDE, run
from studies.design import DATA, TRAININGS, Data, Scale, Trial
from studies.real import divide
from studies.simulate import LABELS

CONFIGURATION = "3d_fullres"
_COLUMNS = ["case", "label", "metric", "value", "iteration"]
# Voxels along nnU-Net's z y x, of which the coarsest level leaves two or more along some axis.
PATCHES = {"swin": (32, 64, 32), "plainconv": (32, 48, 32)}
_STAGES = 5  # of a network planned for phantoms


def run_inside(
    trial: Trial, work: Path, *, dataset: Path, weights: Path | None, scale: Scale
) -> pd.DataFrame:
    """Run a trial in a process of its own, since nnU-Net reads its folders as it is imported.

    Args:
        trial: what to do.
        work: folder of the run; deleted at its end.
        dataset: of `make_data`: nnU-Net's folders.
        weights: file to start the encoder from; None: from scratch.
        scale: how much of it.

    Returns:
        Columns iteration, case, label, metric, value: Dice of each test subject, and the mean of
        all values that were shown in training, which tells whether two trials saw the same.
    """
    shutil.rmtree(work, ignore_errors=True)  # of a trial that was stopped
    work.mkdir(parents=True)
    variables = {
        **environment(dataset),
        "nnUNet_results": str(work),
        "nnUNet_n_proc_DA": "0",  # in the trainer's process, whose seed it follows
    }
    if weights is not None:
        variables[VARIABLE] = str(claiming(weights, TRAININGS[trial.training].claimed_axes, work))
    data = DATA[trial.data]
    epochs = TRAININGS[trial.training].epochs or data.epochs
    settings = {
        "trial": asdict(trial),
        "is_scratch": weights is None,
        "data": asdict(replace(data, epochs=epochs).at(scale)),
    }
    write_json(work / "settings.json", settings)
    run(TRAIN_INSIDE, work / "settings.json", variables=variables)
    table = pd.read_csv(work / "scores.csv", keep_default_na=False, na_values={"value": [""]})
    shutil.rmtree(work)
    return table


def claiming(weights: Path, axes: str, work: Path) -> Path:
    """Return weights that say to have seen these axes, or what they say where none are given."""
    if not axes:
        return weights
    read = load_weights(weights)
    path = work / weights.name
    save_tensors(path, read.tensors, replace(read.info, axes=axes))
    return path


def train(settings: str) -> None:
    """Train, predict and measure as SETTINGS, a file, says; write scores.csv beside it."""
    torch.set_num_threads(1)
    read = json.loads(Path(settings).read_text(encoding="utf-8"))
    trainer = _make_trainer(
        Trial(**read["trial"]), Data(**read["data"]), is_scratch=read["is_scratch"]
    )
    trainer.run_training()
    rows = [*trainer.measured, ("", "", "shown_mean", float(np.mean(trainer.shown)))]
    iteration = trainer.num_epochs * trainer.num_iterations_per_epoch
    rows = [row if len(row) == len(_COLUMNS) else (*row, iteration) for row in rows]
    pd.DataFrame(rows, columns=_COLUMNS).to_csv(Path(settings).with_name("scores.csv"), index=False)


def _make_trainer(trial: Trial, data: Data, *, is_scratch: bool) -> Any:
    """Return the trainer of a trial: this project's, with a seed and short epochs."""
    from nnunetv2.paths import nnUNet_preprocessed

    (folder,) = Path(str(nnUNet_preprocessed)).glob("Dataset*")
    plans = json.loads((folder / "nnUNetPlans.json").read_text(encoding="utf-8"))
    dataset = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    cases = sorted(f.name.removesuffix(".nii.gz") for f in (folder / "gt_segmentations").iterdir())
    pool, tests = divide(cases, data)
    chosen = np.random.default_rng(trial.seed).permutation(len(pool))[: trial.labelled]
    base = _named(trial, is_scratch=is_scratch)
    rate = TRAININGS[trial.training].learning_rate

    class Inside(base):  # type: ignore[misc, valid-type]
        encoder = encoder_spec(trial.network)
        settings: ClassVar = {
            "num_epochs": data.epochs[0],
            "num_iterations_per_epoch": data.epochs[1],
            "num_val_iterations_per_epoch": 1,
            "disable_checkpointing": True,
            **({"initial_lr": rate} if rate else {}),
        }

        def do_split(self) -> tuple[list[str], list[str]]:
            return [pool[k] for k in chosen], tests

        def on_epoch_start(self) -> None:
            _seed(trial.seed, 1 + self.current_epoch)
            super().on_epoch_start()

        def train_step(self, batch: dict) -> dict:
            self.shown.append(float(batch["data"].mean()))
            return super().train_step(batch)

        def on_epoch_end(self) -> None:
            super().on_epoch_end()
            self.measured += _measure(self)

    _seed(trial.seed, 0)
    plans = cut_down(plans, trial.network, is_planned=data.is_real)
    trainer = Inside(plans, CONFIGURATION, 0, dataset, torch.device("cpu"))
    trainer.shown, trainer.measured = [], []
    return trainer


def _named(trial: Trial, *, is_scratch: bool) -> type[TriadTrainer]:
    """Return the trainer that a user would name; `unet_4` is the first four stages of `unet_t`."""
    names = {encoder: network for network, encoder in NETWORKS.items()}
    network = names.get(trial.network, "UNetT")
    initialization = "Scratch" if is_scratch else "Pretrained"
    suffixes = "".join(f"_{suffix}" for suffix in TRAININGS[trial.training].suffixes)
    return make_trainer(f"nnUNetTrainer{initialization}{network}{suffixes}")


def _seed(*numbers: int) -> None:
    """Seed all that nnU-Net draws from."""
    first = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    random.seed(first)
    np.random.seed(first)  # noqa: NPY002 - nnU-Net's own draws
    torch.manual_seed(first)


def cut_down(plans: dict, network: str, *, is_planned: bool = False) -> dict:
    """Return nnU-Net's plans with a small patch; the trainer makes it as wide as its encoder.

    Args:
        plans: nnU-Net's.
        network: the encoder's name.
        is_planned: the network has as many stages as nnU-Net planned, not five.
    """
    spec = encoder_spec(network)
    settings = plans["configurations"][CONFIGURATION]
    architecture = settings["architecture"]
    stages = architecture["arch_kwargs"]["n_stages"] if is_planned else _STAGES
    arguments = {
        **architecture["arch_kwargs"],
        "n_stages": stages,
        "features_per_stage": list(encoder_spec("unet").channels[:stages]),
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1]] + [[2, 2, 2]] * (stages - 1),
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
    }
    changed = {
        **settings,
        "patch_size": list(PATCHES[spec.family]),
        "batch_size": 2,
        "architecture": {**architecture, "arch_kwargs": arguments},
    }
    return {**plans, "configurations": {CONFIGURATION: changed}, "continue_training": False}


def _measure(trainer: Any) -> list[tuple[str, str, str, float, int]]:
    """Return (case, label, "dice", value, iteration) of the test subjects.

    Before the end a third of them is measured. A lesion's parts are one label.
    """
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(use_mirroring=False, device=trainer.device, allow_tqdm=False)
    trainer.set_deep_supervision_enabled(False)
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        None,
        trainer.dataset_json,
        type(trainer).__name__,
        None,
    )
    _, tests = trainer.get_tr_and_val_datasets()
    labels = _labels(trainer.dataset_json)
    is_last = trainer.current_epoch == trainer.num_epochs
    measured = tests.identifiers if is_last else tests.identifiers[::3]
    iteration = trainer.current_epoch * trainer.num_iterations_per_epoch
    rows = []
    for case in measured:
        image, truth, *_ = tests.load_case(case)
        with torch.no_grad():
            logits = predictor.predict_sliding_window_return_logits(torch.from_numpy(image[:]))
        predicted = np.minimum(logits.argmax(0).numpy(), len(labels))
        wanted = np.minimum(truth[0], len(labels))
        rows += [
            (case, label, "dice", dice(predicted == value, wanted == value), iteration)
            for value, label in enumerate(labels, start=1)
        ]
    trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)
    trainer.network.train()
    return rows


def _labels(dataset: dict) -> tuple[str, ...]:
    """Return the names of the labels from 1 on; a phantom's fourth has the lesion's parts."""
    names = [name for name, _ in sorted(dataset["labels"].items(), key=lambda pair: pair[1])]
    return tuple(names[1:]) if len(names) <= len(LABELS) else LABELS
