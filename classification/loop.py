"""The fine-tuning loop: data -> step -> validation -> log -> checkpoint, and the best model."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from classification.data import Batches, ClassificationData, SampleDataset, epoch_rows
from classification.initialization import fill_encoder, read_weights, shown_by
from classification.losses import build_loss
from classification.memory import advice, with_recomputation
from classification.model import Classifier
from classification.model_file import MODEL_NAME, Description, build_network, save_model
from classification.predict import predict_logits
from classification.settings import TrainSettings
from nnunet_triad.architectures import family_of
from nnunet_triad.architectures.cpu.accelerate import accelerate_on_cpu
from nnunet_triad.errors import UserError
from nnunet_triad.evaluation.classification import accuracy, as_rows, balanced_accuracy
from nnunet_triad.training.best import is_better
from nnunet_triad.training.device import use_fast_kernels
from nnunet_triad.training.encoder_rate import parameter_groups, set_learning_rate
from nnunet_triad.training.loader import batches, make_loader
from nnunet_triad.training.memory import explain_out_of_memory
from nnunet_triad.training.precision import autocast
from nnunet_triad.training.run_folder import SCRATCH, Checkpoint, RunFolder, open_run
from nnunet_triad.training.schedule import learning_rate_at
from nnunet_triad.training.state_file import restore_optimizer
from nnunet_triad.training.stop_signal import StopSignal, TrainingStopped
from nnunet_triad.training.training_log import TrainingLog
from nnunet_triad.weights.file import EncoderWeights

LOG_COLUMNS = (
    "epoch",
    "loss",
    "val_loss",
    "val_accuracy",
    "val_balanced_accuracy",
    "learning_rate",
    "seconds",
)


@dataclass(kw_only=True)
class Training:
    """A run in memory."""

    settings: TrainSettings
    data: ClassificationData
    device: torch.device
    network: Classifier
    optimizer: torch.optim.Optimizer
    loss: Callable[[Tensor, Tensor], Tensor]
    description: Description
    initialization: str = SCRATCH  # or the SHA-256 of the weights file
    epoch: int = 0  # epochs done
    batch: int = 0  # batches done of the next epoch
    loss_sum: float = 0.0  # of those batches, over their samples
    best: tuple[float, ...] = ()

    @property
    def batches_per_epoch(self) -> int:
        """Number of optimiser steps of an epoch."""
        number = self.settings.samples_per_epoch or len(self.data.manifest.rows("train"))
        return -(-number // self.settings.batch_size)

    def learning_rate(self, batch: int | None = None) -> float:
        """Return the rate of a step of the current epoch, by default of the next one.

        It rises linearly over whole epochs, then falls along half a cosine.
        """
        epochs = self.settings.epochs
        warmup = min(self.settings.warmup_epochs, epochs // 2)
        return learning_rate_at(
            self.epoch * self.batches_per_epoch + (self.batch if batch is None else batch),
            peak=self.settings.learning_rate,
            warmup_steps=warmup * self.batches_per_epoch,
            steps=epochs * self.batches_per_epoch,
        )

    def checkpoint(self) -> Checkpoint:
        """Return the state to save."""
        return Checkpoint(
            settings=self.settings,
            data_fingerprint=self.data.fingerprint,
            initialization=self.initialization,
            step=self.epoch,
            state=self.state(),
        )

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds besides what the run was begun with."""
        return {
            "batch": self.batch,
            "loss_sum": self.loss_sum,
            "best": list(self.best),
            "model": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "description": self.description.to_dict(),
        }

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from what `checkpoint` returned."""
        self.epoch, state = checkpoint.step, checkpoint.state
        self.batch, self.loss_sum = state["batch"], state["loss_sum"]
        self.best = tuple(state["best"])
        self.network.load_state_dict(state["model"])
        restore_optimizer(self.optimizer, state["optimizer"])


def start_training(
    data: ClassificationData,
    settings: TrainSettings,
    device: torch.device,
    weights: EncoderWeights | None = None,
) -> Training:
    """Build network and optimiser as they are before the first step.

    Args:
        data: from `load_data`.
        settings: of the run.
        device: where the network runs.
        weights: those of `settings.init`; None: they are read here.

    Raises:
        UserError: the weights are missing, or do not fit.
    """
    torch.manual_seed(settings.seed)
    manifest = data.manifest
    description = Description(
        classes=manifest.classes,
        num_channels=manifest.num_channels,
        initialization=SCRATCH,
        extent_mm=manifest.extent_mm,
    )
    network = build_network(settings, description)
    family_of(network.spec).set_recompute(network, bool(settings.recompute_activations))
    accelerate_on_cpu(network, device)
    weights = weights or read_weights(settings)
    if weights is not None:
        shown = shown_by(data, settings, weights)
        description = fill_encoder(network, weights, description, shown)
    network.to(device)
    counts = manifest.counts(manifest.rows("train"))
    groups = parameter_groups(network, network.encoder, encoder_rate=settings.encoder_rate)
    fused = True if device.type == "cuda" else None
    use_fast_kernels(device, settings.precision, has_fixed_shapes=True)
    return Training(
        settings=settings,
        data=data,
        device=device,
        network=network,
        optimizer=torch.optim.Adam(groups, lr=settings.learning_rate, fused=fused),
        loss=build_loss(settings.loss, counts, gamma=settings.focal_gamma, device=device),
        description=description,
        initialization=SCRATCH if weights is None else weights.sha256,
    )


def open_folder(data: ClassificationData, output: Path) -> AbstractContextManager[RunFolder]:
    """Hold the folder of a run; see `open_run`."""
    return open_run(
        output,
        command="triad-classify train",
        data=("MANIFEST", "images, labels and splits"),
        about={"manifest": str(data.manifest.path)},
    )


def finetune(
    data: ClassificationData,
    output: Path,
    *,
    settings: TrainSettings,
    device: torch.device,
    weights: EncoderWeights | None = None,
    is_quiet: bool = False,
) -> Path:
    """Train all of the network, or continue where the run in `output` stopped.

    Source: section 4.3.2 of the paper.

    Returns:
        OUTPUT/model.pt, the model of the best epoch on validation.

    Raises:
        UserError: the checkpoint is of another run; the loss was not finite; the disk is full.
        TrainingStopped: a signal asked for it; the state is saved.
    """
    settings = with_recomputation(settings, data.manifest.num_channels, device)
    with explain_out_of_memory(advice(settings)), open_folder(data, output) as folder:
        training = start_training(data, settings, device, weights)
        found = folder.begin(training.checkpoint())
        if found:
            training.restore(found)
        with (
            StopSignal() as stop,
            TrainingLog(
                output,
                LOG_COLUMNS,
                first_step=training.epoch,
                steps=settings.epochs,
                unit="epoch",
                is_quiet=is_quiet,
            ) as log,
        ):
            while training.epoch < settings.epochs:
                run_epoch(training, folder, log, stop)
    return output / MODEL_NAME


def run_epoch(training: Training, folder: RunFolder, log: TrainingLog, stop: StopSignal) -> None:
    """Do what is left of an epoch, validate, keep the model if it is the best, save the state.

    Raises:
        UserError: the loss was not finite, or the disk is full.
        TrainingStopped: a signal asked for it; the state is saved.
    """
    start = time.perf_counter()
    for batch in batches(epoch_loader(training)):
        train_step(training, batch)
        if stop.is_requested or training.batch % training.settings.checkpoint_every == 0:
            folder.save(training.checkpoint())
        if stop.is_requested:
            raise TrainingStopped(f"stopped in epoch {training.epoch + 1}")
    num_samples = training.settings.samples_per_epoch or len(training.data.manifest.rows("train"))
    values = {
        "loss": training.loss_sum / num_samples,
        **validate(training),
        "learning_rate": training.learning_rate(training.batch - 1),
    }
    training.epoch, training.batch, training.loss_sum = training.epoch + 1, 0, 0.0
    candidate = selection_scores(values, training.settings.select)
    if is_better(candidate, training.best):
        training.best = candidate
        save_model(
            folder.path / MODEL_NAME,
            training.network,
            training.settings,
            training.description,
            epoch=training.epoch,
        )
    log.write(training.epoch, {**values, "seconds": time.perf_counter() - start})
    log.sync()
    folder.save(training.checkpoint())


def epoch_loader(training: Training) -> torch.utils.data.DataLoader:
    """Return the batches that are left of the current epoch."""
    keys = Batches(
        epoch_rows(training.data, training.settings, training.epoch),
        training.settings.batch_size,
        epoch=training.epoch,
        first_batch=training.batch,
    )
    dataset = SampleDataset(training.data, training.settings)
    workers = training.settings.workers
    return make_loader(dataset.batch, keys, workers=workers, device=training.device)


def train_step(training: Training, batch: dict[str, Tensor]) -> float:
    """Do one optimiser step; return its loss.

    Raises:
        UserError: the loss is not finite.
    """
    training.network.train()
    set_learning_rate(training.optimizer, training.learning_rate())
    training.optimizer.zero_grad()
    loss = _compute_loss(training, batch)
    loss.backward()
    value = loss.item()
    if not np.isfinite(value):
        cases = training.data.manifest.cases[batch["row"].numpy()]
        raise UserError(
            f"loss: expected a finite number in epoch {training.epoch + 1}, got {value}; try a "
            f"lower --learning-rate (samples: {', '.join(cases[:4])})"
        )
    training.optimizer.step()
    training.batch += 1
    training.loss_sum += value * len(batch["label"])
    return value


def _compute_loss(training: Training, batch: dict[str, Tensor]) -> Tensor:
    image = batch["image"].to(training.device, non_blocking=True)
    labels = batch["label"].to(training.device, non_blocking=True)
    with autocast(training.device, training.settings.precision):
        logits = training.network(image)
    return training.loss(logits.float(), labels)


def validate(training: Training) -> dict[str, float]:
    """Return loss (unweighted cross-entropy), accuracy and balanced accuracy on validation."""
    manifest, rows = training.data.manifest, training.data.manifest.rows("val")
    logits = predict_logits(
        training.network,
        training.data,
        rows,
        device=training.device,
        batch_size=training.settings.batch_size,
        workers=training.settings.workers,
        precision=training.settings.precision,
    )
    labels = torch.from_numpy(manifest.labels[rows])
    scores = as_rows(manifest.labels[rows], logits.softmax(dim=1).numpy())
    return {
        "val_loss": nn.functional.cross_entropy(logits, labels).item(),
        "val_accuracy": accuracy(scores),
        "val_balanced_accuracy": balanced_accuracy(scores),
    }


def selection_scores(values: dict[str, float], select: str) -> tuple[float, ...]:
    """Return what epochs are compared by: the chosen score, then the lower validation loss."""
    if select == "loss":
        return (-values["val_loss"],)
    return values[f"val_{select.replace('-', '_')}"], -values["val_loss"]
