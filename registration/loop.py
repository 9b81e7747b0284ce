"""The training loop: pairs, validation at the end of an epoch, checkpoint, the best model kept."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnunet_triad.architectures.cpu.accelerate import accelerate_on_cpu
from nnunet_triad.errors import UserError
from nnunet_triad.files import write_json
from nnunet_triad.training.best import is_better
from nnunet_triad.training.device import use_fast_kernels
from nnunet_triad.training.encoder_rate import parameter_groups, set_learning_rate
from nnunet_triad.training.loader import batches
from nnunet_triad.training.memory import explain_out_of_memory
from nnunet_triad.training.precision import autocast
from nnunet_triad.training.run_folder import SCRATCH, Checkpoint, RunFolder, open_run
from nnunet_triad.training.settings import Triple
from nnunet_triad.training.state_file import restore_optimizer
from nnunet_triad.training.stop_signal import StopSignal, TrainingStopped
from nnunet_triad.training.training_log import TrainingLog
from nnunet_triad.weights.file import EncoderWeights
from nnunet_triad.weights.transfer import TransferReport
from registration.figures import draw_registration, save_picture
from registration.initialization import fill_encoder
from registration.losses import WarpedPair, all_losses, total_loss
from registration.memory import advice, with_recomputation
from registration.metrics import dice_by_structure, mean_of_known, structures_of, warp_labels
from registration.model_file import MODEL_NAME, ModelInfo, build_network, save_model
from registration.networks import RegistrationNetwork
from registration.pairs import read_image
from registration.settings import RegistrationSettings
from registration.spatial import folding_percent
from registration.training_data import (
    Batch,
    RegistrationData,
    plan_pair,
    read_pair,
    training_loader,
    validation_loader,
)

_NUM_SPACINGS = 20  # training pairs whose spacing is looked at


@dataclass(kw_only=True)
class Training:
    """A run in memory."""

    settings: RegistrationSettings
    data: RegistrationData
    network: RegistrationNetwork
    optimizer: torch.optim.Optimizer
    initialization: str  # scratch, or the SHA-256 of the weights file
    source: str = SCRATCH  # or the name of the project that pre-trained the weights
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
            state=self.state(),
        )

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds besides what the run was begun with."""
        return {
            "best": self.best,
            "best_epoch": self.best_epoch,
            "transfer": self.transfer,
            "model": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from what `checkpoint` returned."""
        self.step, state = checkpoint.step, checkpoint.state
        self.best, self.best_epoch = state["best"], state["best_epoch"]
        self.network.load_state_dict(state["model"])
        restore_optimizer(self.optimizer, state["optimizer"])


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
            the last without validation pairs), log.csv, tensorboard/ and pictures.
        settings: of the run; they must be those of the checkpoint in `output`, if there is one.
        weights: of the encoder; None trains from scratch.
        is_quiet: show no progress bar.

    Returns:
        The model's file.

    Raises:
        UserError: the checkpoint is of another run; a loss was not finite; the disk is full.
        TrainingStopped: a signal asked for it; the state is saved.
    """
    if settings.recompute_activations is None:
        settings = with_recomputation(settings, first_size(data, settings))
    with explain_out_of_memory(advice(settings)):
        return _train(data, output, settings=settings, weights=weights, is_quiet=is_quiet)


def first_size(data: RegistrationData, settings: RegistrationSettings) -> Triple:
    """Return the voxels of the first training pair, x y z."""
    pair, _ = plan_pair(data.train, 0, seed=settings.seed, epoch=0, has_flips=False)
    x, y, z = read_pair(pair, settings, has_labels=False)["moving"].shape[2:]
    return x, y, z


def _train(
    data: RegistrationData,
    output: Path,
    *,
    settings: RegistrationSettings,
    weights: EncoderWeights | None,
    is_quiet: bool,
) -> Path:
    training = start_training(data, settings, weights)
    steps = settings.epochs * len(data.train)
    with open_run(output, command="triad-register train", data=("MANIFEST", "pairs")) as folder:
        found = folder.begin(training.checkpoint(), earlier_fingerprint=data.earlier_fingerprint)
        if found:
            training.restore(found)
        if training.transfer:
            write_json(output / "transfer.json", training.transfer)
        with TrainingLog(
            output,
            log_columns(),
            first_step=training.step,
            steps=steps,
            unit="pair",
            is_quiet=is_quiet,
        ) as log:
            run_steps(training, folder, log)
    return output / MODEL_NAME


def log_columns() -> list[str]:
    """Return the columns of the log; a loss that is off stays empty."""
    losses = [loss.name for loss in all_losses()]
    validation = ["val_dice", "val_loss", "val_folding_percent"]
    return ["step", "epoch", "loss", *losses, "learning_rate", "seconds", *validation]


def start_training(
    data: RegistrationData, settings: RegistrationSettings, weights: EncoderWeights | None
) -> Training:
    """Build network and optimiser as they are before the first step; the seed sets the weights."""
    torch.manual_seed(settings.seed)
    network = build_network(settings)
    accelerate_on_cpu(network, torch.device(settings.device))
    report: TransferReport | None = None
    if weights is not None:
        report = fill_encoder(network, weights, percentile=settings.intensity_percentile)
    network = network.to(settings.device)
    groups = parameter_groups(network, network.encoder, encoder_rate=settings.encoder_rate)
    device = torch.device(settings.device)
    optimizer = torch.optim.Adam(
        groups,
        lr=settings.learning_rate,
        weight_decay=0,
        amsgrad=True,
        fused=True if device.type == "cuda" else None,
    )
    # Pairs on their own grids have sizes of their own.
    use_fast_kernels(device, settings.precision, has_fixed_shapes=False)
    return Training(
        settings=settings,
        data=data,
        network=network,
        optimizer=optimizer,
        initialization=SCRATCH if weights is None else weights.sha256,
        source=SCRATCH if weights is None else weights.info.source,
        transfer={} if report is None else report.to_dict(),
    )


def run_steps(training: Training, folder: RunFolder, log: TrainingLog) -> None:
    """Do the steps that are left.

    Raises:
        UserError: a loss was not finite, or the disk is full.
        TrainingStopped: a signal asked for it; the state is saved.
    """
    settings, num_pairs = training.settings, len(training.data.train)
    steps = settings.epochs * num_pairs
    with StopSignal() as stop:
        for batch in batches(training_loader(training.data, settings, first_step=training.step)):
            values = train_pair(training, batch)
            is_epoch = training.step % num_pairs == 0
            if is_epoch:
                values |= validate(training)
                keep_best(training, folder.path, values)
                _show_pair(training, folder.path, log)
            log.write(training.step, values)
            if is_epoch or stop.is_requested:
                log.sync()
                folder.save(training.checkpoint())
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
        training.optimizer.zero_grad()
        losses = compute_losses(training, direction)
        losses["loss"].backward()
        *terms, gradients = torch.stack([*losses.values(), _sum_of_gradients(training)]).tolist()
        values = dict(zip(losses, terms, strict=True))
        if not np.isfinite([*terms, gradients]).all():
            raise UserError(
                f"loss: expected finite numbers at pair {training.step + 1} ({batch['name']}), got "
                f"{', '.join(f'{name} {value:g}' for name, value in values.items())}, sum of the "
                f"gradients {gradients:g}; "
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
    """Return the weighted sum, loss, and its terms."""
    return total_loss(predict_pair(training, batch), training.settings)


def predict_pair(training: Training, batch: Batch) -> WarpedPair:
    """Return a pair with the displacement that the network gives it."""
    moving, fixed = (
        batch[key].to(training.device, non_blocking=True) for key in ("moving", "fixed")
    )
    with autocast(training.device, training.settings.precision):
        displacement = training.network(moving, fixed)
    return WarpedPair(
        moving=moving,
        fixed=fixed,
        displacement=displacement,
        moving_labels=batch.get("moving_labels"),
        fixed_labels=batch.get("fixed_labels"),
        classes=batch.get("classes", ()),
    )


def _sum_of_gradients(training: Training) -> Tensor:
    """Finite when all of them are."""
    gradients = [p.grad for p in training.network.parameters() if p.grad is not None]
    return torch.stack([gradient.sum() for gradient in gradients]).sum()


@torch.no_grad()
def validate(training: Training) -> dict[str, float]:
    """Return mean Dice (nearest neighbour), loss and folding over the validation pairs.

    Source: TransMorph's validation at each epoch. Empty without validation pairs.
    """
    if not training.data.val:
        return {}
    training.network.eval()
    rows: dict[str, list[float]] = {"val_dice": [], "val_loss": [], "val_folding_percent": []}
    for batch in batches(validation_loader(training.data, training.settings)):
        pair = predict_pair(training, batch)
        rows["val_loss"].append(total_loss(pair, training.settings)["loss"].item())
        rows["val_folding_percent"].append(folding_percent(pair.displacement))
        if "moving_labels" in batch:
            rows["val_dice"].append(_mean_dice(batch, pair.displacement.cpu()))
    return {name: mean_of_known(values) for name, values in rows.items() if values}


def _mean_dice(batch: Batch, displacement: Tensor) -> float:
    warped = warp_labels(batch["moving_labels"], displacement)[0, 0].numpy()
    moving, fixed = (batch[f"{key}_labels"][0, 0].numpy() for key in ("moving", "fixed"))
    scores = dice_by_structure(warped, fixed, moving, structures_of(moving, fixed))
    return mean_of_known(scores.values())


def keep_best(training: Training, output: Path, values: dict[str, float]) -> None:
    """Save the model when it is the best on validation so far, or when there is no validation."""
    score = values.get("val_dice", -values["val_loss"] if "val_loss" in values else None)
    best = [] if training.best is None else [training.best]
    if score is not None and not is_better([score], best):
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
    training.network.eval()
    pair = predict_pair(training, batch)
    figure = draw_registration(
        pair.moving,
        pair.fixed,
        pair.warped,
        pair.displacement,
        title=f"{batch['name']} after {epoch} epochs",
        spacing_mm=batch["spacing_mm"].tolist(),
    )
    save_picture(figure, output / "registration.png")
    log.write_picture("registration", figure, training.step)
