"""A pre-training run in memory, and one step of it."""

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nnunet_triad.architectures import encoder_spec
from nnunet_triad.architectures.cpu.accelerate import accelerate_on_cpu
from nnunet_triad.errors import UserError, require
from nnunet_triad.training.device import use_fast_kernels
from nnunet_triad.training.distributed import ProcessGroup, average, distribute, is_same
from nnunet_triad.training.precision import SMALLEST_SCALE, autocast, make_scaler
from nnunet_triad.training.run_folder import Checkpoint, RunFolder
from nnunet_triad.training.schedule import learning_rate_at
from nnunet_triad.training.state_file import restore_optimizer
from pretraining.network import PretrainNetwork
from pretraining.pretrain_data import PretrainData
from pretraining.settings import PretrainSettings


@dataclass(kw_only=True)
class Training:
    """A run in memory. `network` is `model` as a step calls it: distributed, compiled."""

    settings: PretrainSettings
    data: PretrainData
    group: ProcessGroup
    model: PretrainNetwork
    network: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    step: int = 0  # steps done

    def checkpoint(self) -> Checkpoint:
        """Return the state to save."""
        return Checkpoint(
            settings=self.settings,
            data_fingerprint=self.data.fingerprint(has_texts=self.needs_texts),
            step=self.step,
            state=self.state(),
        )

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds besides what the run was begun with."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    @property
    def needs_texts(self) -> bool:
        """Tell whether the texts' embeddings matter to the run."""
        return self.settings.objective.needs_texts


def start_training(data: PretrainData, settings: PretrainSettings, group: ProcessGroup) -> Training:
    """Build model and optimiser as they are before the first step; the seed sets the weights."""
    rule = f"a multiple of the {group.size} processes"
    require("batch_size", settings.batch_size, rule, settings.batch_size % group.size == 0)
    torch.manual_seed(settings.seed)
    model = PretrainNetwork(
        settings.objective,
        encoder_spec(settings.encoder),
        recompute=bool(settings.recompute_activations),
    ).to(group.device)
    accelerate_on_cpu(model, group.device)
    optimizer = make_optimizer(model, settings)
    use_fast_kernels(group.device, settings.precision, has_fixed_shapes=True)
    network: Any = distribute(model, group)
    if settings.compile_network:
        network = torch.compile(network)
    return Training(
        settings=settings,
        data=data,
        group=group,
        model=model,
        network=network,
        optimizer=optimizer,
        scaler=make_scaler(group.device, settings.precision),
    )


def make_optimizer(model: nn.Module, settings: PretrainSettings) -> torch.optim.Optimizer:
    """Return the settings' optimiser of all parameters.

    Source: nnU-Net's SGD; timm's `param_groups_weight_decay` where `decays_all` is no.
    """
    groups: Any = model.parameters()
    if not settings.decays_all:
        named = dict(model.named_parameters())
        spared = {name for name, p in named.items() if p.ndim <= 1 or name.endswith(".bias")}
        groups = [
            {"params": [p for name, p in named.items() if name not in spared]},
            {"params": [named[name] for name in named if name in spared], "weight_decay": 0.0},
        ]
    is_on_gpu = next(model.parameters()).device.type == "cuda"
    options: dict[str, Any] = {
        "lr": settings.learning_rate,
        "weight_decay": settings.weight_decay,
        "fused": True if is_on_gpu else None,
    }
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=0.99, nesterov=True, **options)
    return torch.optim.AdamW(groups, betas=settings.betas, **options)


def resume(training: Training, folder: RunFolder) -> None:
    """Go on from the checkpoint of the run's folder, if there is one.

    Raises:
        UserError: it is damaged, of a run with other settings or other data, or not seen by all
            processes.
    """
    earlier = training.data.earlier_fingerprint(has_texts=training.needs_texts)
    found = folder.begin(training.checkpoint(), earlier_fingerprint=earlier)
    if found:
        training.step = found.step
        training.model.load_state_dict(found.state["model"])
        restore_optimizer(training.optimizer, found.state["optimizer"])
        training.scaler.load_state_dict(found.state["scaler"])
    if not is_same(training.step, training.group.device):
        raise UserError(
            f"{folder.path}: expected a folder that all machines share, got one in which process "
            f"{training.group.rank} finds step {training.step} and others another; "
            "use an OUTPUT on a shared file system"
        )


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What a step says of itself; reading it waits until a GPU has done the step."""

    step: int  # counted from 1
    names: tuple[str, ...]
    values: Tensor  # (names,), on the device
    learning_rate: float
    seconds: float  # on a GPU only until the step is handed to it

    def read(self, training: Training) -> dict[str, float]:
        """Return loss and the objective's figures, gradient_norm, learning_rate, seconds.

        Raises:
            UserError: the loss or its gradient is not finite.
        """
        values = dict(zip(self.names, self.values.tolist(), strict=True))
        check_finite(training, values, step=self.step)
        return {**values, "learning_rate": self.learning_rate, "seconds": self.seconds}


def train_step(training: Training, batch: dict[str, Tensor]) -> dict[str, float]:
    """Do one optimiser step, and wait for it; see `start_step` and `StepReport.read`."""
    return start_step(training, batch).read(training)


def runs_ahead(device: torch.device) -> bool:
    """Tell whether steps are handed to a device without waiting for them."""
    return device.type == "cuda"


def start_step(training: Training, batch: dict[str, Tensor]) -> StepReport:
    """Do one optimiser step, or hand it to a GPU.

    Args:
        training: its `step` goes up by one.
        batch: this process's share, as `CropDataset` describes it, with a batch axis.

    Raises:
        UserError: the loss or its gradient is not finite; the weights are as before the step. On a
            GPU the report's `read` raises it, after the step.
    """
    start = time.perf_counter()
    settings, scaler, optimizer = training.settings, training.scaler, training.optimizer
    rate = learning_rate_at(
        training.step,
        peak=settings.learning_rate,
        warmup_steps=settings.warmup_steps,
        steps=settings.steps,
        decay=settings.rate_decay,
    )
    optimizer.zero_grad()
    losses = compute_losses(training, batch)
    scaler.scale(losses["loss"]).backward()
    scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_(training.model.parameters(), settings.gradient_clip)
    names, values = (*losses, "gradient_norm"), average(torch.stack([*losses.values(), norm]))
    if not runs_ahead(training.group.device):
        check_finite(training, dict(zip(names, values.tolist(), strict=True)))
    for group in optimizer.param_groups:
        group["lr"] = rate
    scaler.step(optimizer)  # in fp16 it leaves out a step whose gradient has overflowed
    scaler.update()
    training.step += 1
    return StepReport(
        step=training.step,
        names=names,
        values=values,
        learning_rate=rate,
        seconds=time.perf_counter() - start,
    )


def compute_losses(training: Training, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the objective's "loss" and figures of a batch, as `train_step`."""
    objective, data, device = training.settings.objective, training.data, training.group.device
    texts = None
    if objective.needs_texts:
        assert data.texts is not None
        texts = data.texts(batch["volume"]).to(device)
    batch = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
    with autocast(device, training.settings.precision):
        outputs = training.network(batch)
    outputs = {name: value.float() for name, value in outputs.items()}
    return objective.losses(outputs, batch, texts)


def check_finite(training: Training, values: dict[str, float], *, step: int | None = None) -> None:
    """Raise a UserError that names the step's crops when a loss or the gradient is not finite.

    In fp16 an overflow of the gradient is normal as long as the scaler can still scale less.
    `step` counts from 1; None: the next one.
    """
    is_scaled = training.scaler.is_enabled() and training.scaler.get_scale() > SMALLEST_SCALE
    checked = [value for name, value in values.items() if name != "gradient_norm" or not is_scaled]
    if not torch.tensor(checked).isfinite().all():
        done = training.step if step is None else step - 1
        raise UserError(_divergence_message(training, values, done))


def _divergence_message(training: Training, values: dict[str, float], done: int) -> str:
    """Name the crops that hold non-finite values or, when none does, all crops of the step."""
    plans = [training.data.sampler.plan(done, k) for k in range(training.settings.batch_size)]
    bad = [plan for plan in plans if not training.data.dataset[plan]["image"].isfinite().all()]
    found = ", ".join(f"{name} {value:g}" for name, value in values.items())
    cause = (
        "these volumes hold NaN or infinity: curate them again"
        if bad
        else "its volumes are finite: try a lower --learning-rate, or more --warmup-steps, in "
        "another OUTPUT; the last checkpoint is kept"
    )
    names = sorted({plan.name for plan in bad or plans})
    return (
        f"loss: expected finite numbers at step {done + 1}, got {found}; {cause} "
        f"({', '.join(names)})"
    )
