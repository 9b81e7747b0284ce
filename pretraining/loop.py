"""The pre-training loop: data -> step -> log -> checkpoint, and a weights file at the end."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nnunet_triad.architectures import encoder_spec
from nnunet_triad.errors import UserError
from nnunet_triad.files import write_json
from nnunet_triad.training.distributed import World, average, gather_with_gradient, is_any
from nnunet_triad.training.schedule import learning_rate_at
from nnunet_triad.training.state_file import remove_leftovers
from nnunet_triad.training.stop_signal import StopSignal, TrainingStopped
from nnunet_triad.training.training_log import TrainingLog
from nnunet_triad.weights import WeightsInfo, save_weights
from pretraining.autoencoder import Autoencoder
from pretraining.checkpoint import (
    CHECKPOINT_NAME,
    Checkpoint,
    check_same_run,
    load_checkpoint,
    save_checkpoint,
)
from pretraining.log_ratio_loss import log_ratio_loss
from pretraining.pictures import draw_losses, draw_reconstructions
from pretraining.pretrain_data import PretrainData, make_loader
from pretraining.sampling import hide_blocks
from pretraining.settings import PretrainSettings

LOG_COLUMNS = ("step", "loss", "l1", "log_ratio", "learning_rate", "gradient_norm", "seconds")


@dataclass(kw_only=True)
class Training:
    """A run in memory. `network` is `model`, wrapped when several processes share a batch."""

    settings: PretrainSettings
    data: PretrainData
    world: World
    model: Autoencoder
    network: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0  # steps done

    def checkpoint(self) -> Checkpoint:
        """Return the state to save."""
        return Checkpoint(
            settings=self.settings,
            data_fingerprint=self.data.fingerprint,
            step=self.step,
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
        )


def pretrain(
    data: PretrainData,
    output: Path,
    *,
    settings: PretrainSettings,
    world: World,
    is_quiet: bool = False,
) -> Path:
    """Pre-train an encoder, or continue where the run in `output` stopped.

    Source: sections 4.1 and 4.5 and Table 3 of the paper.

    Args:
        data: from `load_data`.
        output: receives settings.json, checkpoint.pt, log.csv, tensorboard/, pictures, and the
            weights file.
        settings: of the run; they must be those of the checkpoint in `output`, if there is one.
        world: this process among its peers, from `join_world`.
        is_quiet: show no progress bar.

    Returns:
        The weights file, OUTPUT/triad_ENCODER.safetensors.

    Raises:
        UserError: the checkpoint is of another run; a loss was not finite; the disk is full.
        TrainingStopped: a signal asked for it; the state is saved.
    """
    training = start_training(data, settings, world)
    resume(training, output / CHECKPOINT_NAME)
    if world.is_main:
        for path in (output / CHECKPOINT_NAME, weights_path(output, settings)):
            remove_leftovers(path)
        write_json(output / "settings.json", settings.to_dict())
        with TrainingLog(
            output,
            LOG_COLUMNS,
            first_step=training.step,
            steps=settings.steps,
            is_quiet=is_quiet,
        ) as log:
            run_steps(training, output, log)
        return finish(training, output)
    run_steps(training, output, None)
    return weights_path(output, settings)


def start_training(data: PretrainData, settings: PretrainSettings, world: World) -> Training:
    """Build model and optimiser as they are before the first step; the seed sets the weights."""
    if settings.batch_size % world.size:
        raise UserError(
            f"batch_size: expected a multiple of the {world.size} processes, "
            f"got {settings.batch_size}"
        )
    torch.manual_seed(settings.seed)
    model = Autoencoder(
        encoder_spec(settings.encoder), use_checkpoint=settings.recompute_activations
    ).to(world.device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.peak_learning_rate, weight_decay=settings.weight_decay
    )
    network = DistributedDataParallel(model) if world.size > 1 else model
    return Training(
        settings=settings,
        data=data,
        world=world,
        model=model,
        network=network,
        optimizer=optimizer,
    )


def resume(training: Training, path: Path) -> None:
    """Load the checkpoint at `path` into `training`, if there is one.

    Raises:
        UserError: it is damaged, or of a run with other settings or other data.
    """
    if not path.exists():
        return
    checkpoint = load_checkpoint(path)
    check_same_run(checkpoint, training.settings, training.data.fingerprint, path=path)
    training.model.load_state_dict(checkpoint.model)
    training.optimizer.load_state_dict(checkpoint.optimizer)
    training.step = checkpoint.step


def run_steps(training: Training, output: Path, log: TrainingLog | None) -> None:
    """Do the steps that are left; only the process with a log writes anything.

    Raises:
        UserError: a loss was not finite, or the disk is full.
        TrainingStopped: a signal asked for it; the state is saved.
    """
    settings = training.settings
    steps = range(training.step, settings.steps)
    with StopSignal() as stop:
        for batch in make_loader(training.data, settings, steps=steps, world=training.world):
            values = train_step(training, batch)
            must_stop = is_any(stop.is_requested, training.world.device)
            is_last = training.step == settings.steps
            if log is not None:
                log.write(training.step, values)
                if is_last or must_stop or training.step % settings.checkpoint_every == 0:
                    log.sync()
                    save_checkpoint(output / CHECKPOINT_NAME, training.checkpoint())
                if training.step % settings.picture_every == 0 and not is_last:
                    draw_pictures(training, output)
            if must_stop and not is_last:
                raise TrainingStopped(f"stopped after step {training.step}")


def train_step(training: Training, batch: dict[str, Tensor]) -> dict[str, float]:
    """Do one optimiser step.

    Args:
        training: its `step` goes up by one.
        batch: this process's share, as `CropDataset` describes it, with a batch axis.

    Returns:
        loss, l1, log_ratio (when it is on), learning_rate, gradient_norm, seconds.

    Raises:
        UserError: the loss or its gradient is not finite; the weights are as before the step.
    """
    start = time.perf_counter()
    settings = training.settings
    rate = learning_rate_at(
        training.step,
        peak=settings.peak_learning_rate,
        warmup_steps=settings.warmup_steps,
        steps=settings.steps,
    )
    losses = compute_losses(training, batch)
    training.optimizer.zero_grad()
    losses["loss"].backward()
    norm = nn.utils.clip_grad_norm_(training.model.parameters(), settings.gradient_clip)
    report = average(torch.stack([*losses.values(), norm])).tolist()
    values = dict(zip([*losses, "gradient_norm"], report, strict=True))
    if not all(torch.isfinite(torch.tensor(report))):
        raise UserError(_divergence_message(training, values))
    set_learning_rate(training.optimizer, rate)
    training.optimizer.step()
    training.step += 1
    return {**values, "learning_rate": rate, "seconds": time.perf_counter() - start}


def compute_losses(training: Training, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return l1 over this process's crops, log_ratio over the batch of all, and their sum, loss."""
    settings, device = training.settings, training.world.device
    image = batch["image"].to(device, non_blocking=True)
    network_input = image
    if settings.mask_ratio > 0:
        network_input = hide_blocks(image, batch["is_hidden"].to(device))
    is_reduced = settings.precision == "bf16"
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=is_reduced):
        reconstruction, embedding = training.network(network_input)
    losses = {"l1": F.l1_loss(reconstruction.float(), image)}
    loss = losses["l1"]
    if training.data.texts is not None:
        text = training.data.texts(batch["volume"]).to(device)
        losses["log_ratio"] = log_ratio_loss(
            gather_with_gradient(embedding.float()), gather_with_gradient(text)
        )
        loss = loss + settings.log_ratio_weight * losses["log_ratio"]
    return {"loss": loss, **losses}


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def finish(training: Training, output: Path) -> Path:
    """Write the encoder's weights file and the last pictures; return the file's path."""
    draw_pictures(training, output)
    draw_losses(output)
    path = weights_path(output, training.settings)
    info = WeightsInfo(
        spec=training.model.spec,
        input_channels=1,
        patch_size=training.settings.crop_size,
        spacing_mm=training.data.spacing_mm,
        intensity_normalization="zscore",
        pretraining_steps=training.step,
        data_summary=training.data.summary,
    )
    save_weights(path, training.model.encoder, info)
    return path


def weights_path(output: Path, settings: PretrainSettings) -> Path:
    """Return where the encoder of a run is written."""
    return output / f"triad_{settings.encoder}.safetensors"


def draw_pictures(training: Training, output: Path) -> None:
    """Draw how a few fixed crops are reconstructed now, and the losses so far."""
    draw_reconstructions(
        output,
        model=training.model,
        dataset=training.data.dataset,
        names=training.data.names,
        device=training.world.device,
        step=training.step,
    )
    draw_losses(output)


def _divergence_message(training: Training, values: dict[str, Any]) -> str:
    """Name the crops that hold non-finite values or, when none does, all crops of the step."""
    dataset, step = training.data.dataset, training.step
    places = range(training.settings.batch_size)
    bad = [k for k in places if not dataset[step, k]["image"].isfinite().all()]
    names = {training.data.names[dataset.plan(step, k).volume] for k in bad or places}
    found = ", ".join(f"{name} {value:g}" for name, value in values.items())
    cause = (
        "these volumes hold NaN or infinity: curate them again"
        if bad
        else ("its volumes are finite: try a lower --learning-rate, or more --warmup-steps")
    )
    return (
        f"loss: expected finite numbers at step {step + 1}, got {found}; {cause} "
        f"({', '.join(sorted(names))})"
    )
