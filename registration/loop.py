"""The training loop: pairs, validation at the end of an epoch, checkpoint, the best model kept."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnunet_triad.architectures.cpu.allocator import keep_all_freed_memory
from nnunet_triad.errors import UserError
from nnunet_triad.files import write_json
from nnunet_triad.images.volume import read_image
from nnunet_triad.training.encoder_rate import parameter_groups, set_learning_rate
from nnunet_triad.training.state_file import remove_leftovers
from nnunet_triad.training.stop_signal import StopSignal, TrainingStopped
from nnunet_triad.training.training_log import TrainingLog
from nnunet_triad.weights import EncoderWeights, TransferReport
from registration.checkpoint import (
    CHECKPOINT_NAME,
    Checkpoint,
    check_same_run,
    load_checkpoint,
    save_checkpoint,
)
from registration.figures import draw_registration, save_figure
from registration.initialization import fill_encoder
from registration.losses.dice import warped_dice_loss
from registration.losses.gradient import gradient_loss
from registration.losses.lncc import lncc_loss
from registration.metrics import dice_by_structure, structures_of, warp_labels
from registration.model_file import MODEL_NAME, ModelInfo, build_network, save_model
from registration.networks import RegistrationNetwork
from registration.settings import RegistrationSettings
from registration.spatial import folding_percent, warp
from registration.training_data import Batch, RegistrationData, make_loader, read_pair

LOG_COLUMNS = (
    "step", "epoch", "loss", "lncc", "gradient", "dice_loss", "learning_rate", "seconds",
    "val_dice", "val_loss", "val_folding_percent",
)  # fmt: skip
_NUM_SPACINGS = 20  # training pairs whose spacing is looked at


@dataclass(kw_only=True)
class Training:
    """A run in memory."""

    settings: RegistrationSettings
    data: RegistrationData
    network: RegistrationNetwork
    optimizer: torch.optim.Optimizer
    initialization: str  # scratch, or the SHA-256 of the weights file
    source: str = "scratch"  # or the name of the project that pre-trained the weights
    transfer: dict[str, Any] = field(default_factory=dict)
    step: int = 0  # pairs done
    best: float | None = None
    best_epoch: int = 0

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return torch.device(self.settings.device)

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.step // len(self.data.train)

    def checkpoint(self) -> Checkpoint:
        """Return the state to save."""
        return Checkpoint(
            settings=self.settings,
            data_fingerprint=self.data.fingerprint,
            initialization=self.initialization,
            step=self.step,
            best=self.best,
            best_epoch=self.best_epoch,
            transfer=self.transfer,
            model=self.network.state_dict(),
            optimizer=self.optimizer.state_dict(),
        )


def train(
    data: RegistrationData,
    output: Path,
    *,
    settings: RegistrationSettings,
    weights: EncoderWeights | None = None,
    is_quiet: bool = False,
) -> Path:
    """Train a registration network, or continue where the run in `output` stopped.

    Source: section 4.4.2 of the paper; TransMorph's published trainings on IXI and OASIS.

    Args:
        data: from `load_data`.
        output: receives settings.json, checkpoint.pt, model.safetensors (the best on validation, or
            the last without
            validation pairs), log.csv, tensorboard/ and pictures.
        settings: of the run; they must be those of the checkpoint in `output`, if there is one.
        weights: of the encoder; None trains from scratch.
        is_quiet: show no progress bar.

    Returns:
        The model's file.

    Raises:
        UserError: the checkpoint is of another run; a loss was not finite; the disk is full.
        TrainingStopped: a signal asked for it; the state is saved.
    """
    training = start_training(data, settings, weights)
    resume(training, output / CHECKPOINT_NAME)
    for name in (CHECKPOINT_NAME, MODEL_NAME):
        remove_leftovers(output / name)
    write_json(output / "settings.json", settings.to_dict())
    if training.transfer:
        write_json(output / "transfer.json", training.transfer)
    steps = settings.epochs * len(data.train)
    with TrainingLog(
        output, LOG_COLUMNS, first_step=training.step, steps=steps, unit="pair", is_quiet=is_quiet
    ) as log:
        run_steps(training, output, log)
    return output / MODEL_NAME


def start_training(
    data: RegistrationData, settings: RegistrationSettings, weights: EncoderWeights | None
) -> Training:
    """Build network and optimiser as they are before the first step; the seed sets the weights."""
    if torch.device(settings.device).type == "cpu":
        keep_all_freed_memory()
    torch.manual_seed(settings.seed)
    network = build_network(settings)
    report: TransferReport | None = None
    if weights is not None:
        report = fill_encoder(network, weights)
    network = network.to(settings.device)
    groups = parameter_groups(network, network.encoder, encoder_rate=settings.encoder_rate)
    optimizer = torch.optim.Adam(groups, lr=settings.learning_rate, weight_decay=0, amsgrad=True)
    return Training(
        settings=settings,
        data=data,
        network=network,
        optimizer=optimizer,
        initialization="scratch" if weights is None else weights.sha256,
        source="scratch" if weights is None else weights.info.source,
        transfer={} if report is None else report.to_dict(),
    )


def resume(training: Training, path: Path) -> None:
    """Load the checkpoint at `path` into `training`, if there is one.

    Raises:
        UserError: it is damaged, or of a run with other settings, data or weights.
    """
    if not path.exists():
        return
    checkpoint = load_checkpoint(path)
    check_same_run(
        checkpoint,
        training.settings,
        data_fingerprint=training.data.fingerprint,
        initialization=training.initialization,
        path=path,
    )
    training.network.load_state_dict(checkpoint.model)
    training.optimizer.load_state_dict(checkpoint.optimizer)
    training.step = checkpoint.step
    training.best, training.best_epoch = checkpoint.best, checkpoint.best_epoch


def run_steps(training: Training, output: Path, log: TrainingLog) -> None:
    """Do the steps that are left.

    Raises:
        UserError: a loss was not finite, or the disk is full.
        TrainingStopped: a signal asked for it; the state is saved.
    """
    settings, num_pairs = training.settings, len(training.data.train)
    steps = settings.epochs * num_pairs
    with StopSignal() as stop:
        for batch in make_loader(training.data, settings, first_step=training.step):
            values = train_pair(training, batch)
            is_epoch = training.step % num_pairs == 0
            if is_epoch:
                values |= validate(training)
                keep_best(training, output, values)
                _show_pair(training, output, log)
            log.write(training.step, values)
            if is_epoch or stop.is_requested:
                log.sync()
                save_checkpoint(output / CHECKPOINT_NAME, training.checkpoint())
            if stop.is_requested and training.step < steps:
                raise TrainingStopped(f"stopped after pair {training.step} of {steps}")


def train_pair(training: Training, batch: Batch) -> dict[str, float]:
    """Do one optimiser step on a pair, and a second one with the images exchanged where asked for.

    Args:
        training: its `step` goes up by one.
        batch: from `read_pair`.

    Returns:
        epoch, loss, lncc, gradient, dice_loss (when it is on), learning_rate, seconds; losses are
        means over the one or two optimiser steps.

    Raises:
        UserError: the loss is not finite; the weights are as before the step.
    """
    start = time.perf_counter()
    settings, epoch = training.settings, training.epoch
    rate = settings.learning_rate_at(epoch)
    set_learning_rate(training.optimizer, rate)
    training.network.train()
    reports = []
    for direction in directions(batch, is_symmetric=settings.is_symmetric):
        losses = compute_losses(training, direction)
        training.optimizer.zero_grad()
        losses["loss"].backward()
        values = {name: loss.item() for name, loss in losses.items()}
        if not all(np.isfinite(list(values.values()))) or not _has_finite_gradients(training):
            raise UserError(
                f"loss: expected finite numbers at pair {training.step + 1} ({batch['name']}), got "
                f"{', '.join(f'{name} {value:g}' for name, value in values.items())}; "
                "try a lower --learning-rate"
            )
        training.optimizer.step()
        reports.append(values)
    training.step += 1
    means = {name: float(np.mean([report[name] for report in reports])) for name in reports[0]}
    seconds = time.perf_counter() - start
    return {"epoch": epoch + 1, **means, "learning_rate": rate, "seconds": seconds}


def directions(batch: Batch, *, is_symmetric: bool) -> Iterator[Batch]:
    """Yield a pair and, for a symmetric training, the same with the images exchanged."""
    yield batch
    if is_symmetric:
        names = {"moving": "fixed", "fixed": "moving"}
        yield {_exchange(key, names): value for key, value in batch.items() if key != "spacing_mm"}


def _exchange(key: str, names: dict[str, str]) -> str:
    first, _, rest = key.partition("_")
    other = names.get(first, first)
    return f"{other}_{rest}" if rest else other


def compute_losses(training: Training, batch: Batch) -> dict[str, Tensor]:
    """Return the weighted sum, loss, and its parts."""
    settings, device = training.settings, training.device
    moving, fixed = batch["moving"].to(device), batch["fixed"].to(device)
    is_reduced = settings.precision == "bf16"
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=is_reduced):
        displacement = training.network(moving, fixed)
    losses = {
        "lncc": lncc_loss(warp(moving, displacement), fixed, window=settings.lncc_window),
        "gradient": gradient_loss(displacement),
    }
    loss = settings.lncc_weight * losses["lncc"] + settings.gradient_weight * losses["gradient"]
    if settings.dice_weight > 0 and "moving_labels" in batch:
        labels = [batch[f"{key}_labels"].to(device) for key in ("moving", "fixed")]
        present = {0} | {int(value) for item in labels for value in item.unique()}
        losses["dice_loss"] = warped_dice_loss(
            labels[0], labels[1], displacement, classes=sorted(present)
        )
        loss = loss + settings.dice_weight * losses["dice_loss"]
    return {"loss": loss, **losses}


def _has_finite_gradients(training: Training) -> bool:
    gradients = [p.grad for p in training.network.parameters() if p.grad is not None]
    return bool(torch.stack([gradient.sum() for gradient in gradients]).sum().isfinite())


@torch.no_grad()
def validate(training: Training) -> dict[str, float]:
    """Return mean Dice (nearest neighbour), loss and folding over the validation pairs.

    Source: TransMorph's validation at each epoch. Empty without validation pairs.
    """
    training.network.eval()
    settings, device = training.settings, training.device
    rows: dict[str, list[float]] = {"val_dice": [], "val_loss": [], "val_folding_percent": []}
    for pair in training.data.val:
        batch = read_pair(pair, settings)
        moving, fixed = batch["moving"].to(device), batch["fixed"].to(device)
        displacement = training.network(moving, fixed)
        similarity = lncc_loss(warp(moving, displacement), fixed, window=settings.lncc_window)
        loss = settings.lncc_weight * similarity
        loss = loss + settings.gradient_weight * gradient_loss(displacement)
        rows["val_loss"].append(loss.item())
        rows["val_folding_percent"].append(folding_percent(displacement))
        if "moving_labels" in batch:
            rows["val_dice"].append(_mean_dice(batch, displacement.cpu()))
    return {name: float(np.nanmean(values)) for name, values in rows.items() if values}


def _mean_dice(batch: Batch, displacement: Tensor) -> float:
    warped = warp_labels(batch["moving_labels"], displacement)[0, 0].numpy()
    moving, fixed = (batch[f"{key}_labels"][0, 0].numpy() for key in ("moving", "fixed"))
    scores = dice_by_structure(warped, fixed, moving, structures_of(moving, fixed))
    known = [score for score in scores.values() if not np.isnan(score)]
    return float(np.mean(known)) if known else float("nan")


def keep_best(training: Training, output: Path, values: dict[str, float]) -> None:
    """Save the model when it is the best on validation so far, or when there is no validation."""
    score = values.get("val_dice", -values["val_loss"] if "val_loss" in values else None)
    is_better = score is None or training.best is None or score > training.best
    if not is_better:
        return
    training.best, training.best_epoch = score, training.epoch
    info = ModelInfo(
        settings=training.settings,
        spacing_mm=training_spacing(training),
        initialization=training.source,
        epoch=training.epoch,
        validation=score,
        transfer=training.transfer,
    )
    save_model(output / MODEL_NAME, training.network, info)


def training_spacing(training: Training) -> tuple[float, float, float]:
    """Return the spacing that the network sees: the settings', or the fixed images' median."""
    if training.settings.spacing_mm is not None:
        return training.settings.spacing_mm
    paths = {pair.fixed or pair.moving: None for pair in training.data.train}
    spacings = [read_image(path).to_ras().grid.spacing_mm for path in list(paths)[:_NUM_SPACINGS]]
    x, y, z = (float(length) for length in np.median(spacings, axis=0))
    return x, y, z


@torch.no_grad()
def _show_pair(training: Training, output: Path, log: TrainingLog) -> None:
    """Draw the first validation (or training) pair, the same at each call."""
    settings, epoch = training.settings, training.epoch
    is_due = epoch % settings.picture_every == 0 or epoch in (1, settings.epochs)
    fixed_pairs = [pair for pair in (*training.data.val, *training.data.train) if pair.fixed]
    if not is_due or not fixed_pairs:
        return
    batch = read_pair(fixed_pairs[0], settings, has_labels=False)
    moving, fixed = (batch[key].to(training.device) for key in ("moving", "fixed"))
    displacement = training.network.eval()(moving, fixed)
    figure = draw_registration(
        moving,
        fixed,
        warp(moving, displacement),
        displacement,
        title=f"{batch['name']} after {epoch} epochs",
        spacing_mm=batch["spacing_mm"].tolist(),
    )
    save_figure(figure, output / "registration.png")
    log.write_picture("registration", figure, training.step)
