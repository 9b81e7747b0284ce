"""A recipe's optimiser, and the schedule that nnU-Net steps once an epoch."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from nnunet_triad.trainers.recipe import (
    DECODER,
    Group,
    Recipe,
    factor_at,
    is_encoder_frozen,
)


def make_optimizer(
    groups: Sequence[Group], recipe: Recipe, *, learning_rate: float, weight_decay: float
) -> Optimizer:
    """Return the recipe's optimiser; frozen parameters are in no group of it.

    Each of its groups bears a name and the scale of its learning rate.
    """
    trained = [
        {
            "params": parameters,
            "name": group.name,
            "scale": group.scale,
            "lr": learning_rate * group.scale,
            "weight_decay": share * weight_decay,
        }
        for group in groups
        if not (group.is_encoder and recipe.is_encoder_frozen)
        for parameters, share in _by_decay(group, recipe)
        if parameters
    ]
    optimizer: Optimizer
    if recipe.optimizer == "adamw":
        optimizer = torch.optim.AdamW(trained, learning_rate, betas=recipe.betas)
    else:  # nnU-Net's own
        optimizer = torch.optim.SGD(trained, learning_rate, momentum=0.99, nesterov=True)
    if recipe.gradient_clip is not None:
        optimizer.register_step_pre_hook(_Clip(recipe.gradient_clip))
    return optimizer


def _by_decay(group: Group, recipe: Recipe) -> Iterator[tuple[list[nn.Parameter], float]]:
    """Yield a group's parameters, and the share of the weight decay that they get.

    Source: SimMIM's `get_finetune_param_groups`.
    """
    if recipe.decays_all:
        yield list(group.parameters.values()), 1.0
        return
    spared = {
        name
        for name, parameter in group.parameters.items()
        if parameter.ndim <= 1 or name.endswith((".bias", "relative_position_bias_table"))
    }
    yield [p for name, p in group.parameters.items() if name not in spared], 1.0
    yield [p for name, p in group.parameters.items() if name in spared], 0.0


class _Clip:
    """Clips the gradient before a step; nnU-Net has clipped it at a norm of 12 before."""

    def __init__(self, norm: float) -> None:
        self.norm = norm

    def __call__(self, optimizer: Optimizer, *_: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, self.norm)


class RecipeSchedule:
    """Sets the learning rate of each group; a function of the epoch, so nothing to save."""

    def __init__(
        self,
        optimizer: Optimizer,
        encoder: nn.Module,
        *,
        recipe: Recipe,
        learning_rate: float,
        epochs: int,
        on_freeze: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare a schedule.

        Args:
            optimizer: of `make_optimizer`.
            encoder: gets no gradients while the decoder alone is trained.
            recipe: with its phases.
            learning_rate: of the decoder, where the factor is one.
            epochs: of the whole training.
            on_freeze: called when other parameters get gradients than before.
        """
        self.optimizer = optimizer
        self.encoder = encoder
        self.recipe = recipe
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.on_freeze = on_freeze
        self._was_frozen = False

    def step(self, epoch: int) -> None:
        """Set the learning rates of an epoch, of its middle while they rise; nnU-Net calls this."""
        self.step_to(epoch + 0.5 * self.recipe.rises)

    def step_to(self, progress: float) -> None:
        """Set the learning rates of a moment, in epochs from the start of the training."""
        for group in self.optimizer.param_groups:
            factor = factor_at(
                progress,
                epochs=self.epochs,
                recipe=self.recipe,
                is_encoder=group["name"] != DECODER,
            )
            group["lr"] = self.learning_rate * group["scale"] * factor
        if not self.recipe.is_encoder_frozen:
            self._freeze(is_encoder_frozen(progress, epochs=self.epochs, recipe=self.recipe))

    def _freeze(self, is_frozen: bool) -> None:
        if is_frozen == self._was_frozen:
            return
        self._was_frozen = is_frozen
        self.encoder.requires_grad_(not is_frozen)
        if not is_frozen:  # momentum of before must not move the encoder
            for parameter in self.encoder.parameters():
                self.optimizer.state.pop(parameter, None)
        self.on_freeze()

    def describe(self) -> str:
        """Return the learning rate of each group as one line."""
        rates = (f"{group['name']} {group['lr']:.3g}" for group in self.optimizer.param_groups)
        frozen = ", encoder frozen" if self.recipe.is_encoder_frozen else ""
        return f"Learning rates: {', '.join(dict.fromkeys(rates))}{frozen}"
