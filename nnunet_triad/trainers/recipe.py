"""How a fine-tuning runs: optimiser, parameter groups, and the learning rate at each moment.

Pure data and functions; `base.TriadTrainer` applies them. The recipe without any suffix is the
paper's, and is nnU-Net's own code, untouched.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from torch import nn

from nnunet_triad.architectures import EncoderSpec, family_of

DECODER = "decoder"
_POLY_EXPONENT = 0.9  # nnU-Net's PolyLRScheduler


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a suffix changes; the defaults are section 4.2.2 of the paper, which is nnU-Net's."""

    optimizer: Literal["sgd", "adamw"] = "sgd"
    betas: tuple[float, float] = (0.9, 0.999)  # AdamW's
    # whether biases, norms' weights and tables of relative positions shrink by the weight decay
    decays_all: bool = True
    # largest norm of the gradient; None: nnU-Net's 12
    gradient_clip: float | None = None
    # rate at which the last block's branches are dropped in training; None: as the family has it
    drop_path: float | None = None
    # share of the epochs in which the learning rate rises linearly; nnU-Net's own fine-tuning
    # trainers take 50 of 1000 and 15 of 150
    warmup_share: float = 0.0
    # share of the epochs in which the decoder alone is trained, at a rising rate
    decoder_first_share: float = 0.0
    is_encoder_frozen: bool = False
    # learning rate of an encoder level relative to the next coarser one, the coarsest to the
    # decoder; or of a transformer's block relative to the next one
    layer_decay: float = 1.0
    decay_by: Literal["level", "block"] = "level"
    # how the rate falls after it has risen
    falls: Literal["polynomially", "cosine"] = "polynomially"

    def __post_init__(self) -> None:
        if not 0 <= self.decoder_first_share + self.warmup_share < 1:
            raise ValueError(
                "warmup_share and decoder_first_share: expected a sum in [0, 1), got "
                f"{self.warmup_share} and {self.decoder_first_share}"
            )

    @property
    def rises(self) -> bool:
        """Whether the learning rate changes within an epoch."""
        return self.warmup_share > 0 or self.decoder_first_share > 0


@dataclass(frozen=True, kw_only=True)
class Group:
    """Parameters that share a learning rate."""

    name: str  # "decoder", "encoder", "encoder level N", or "encoder block N"
    parameters: dict[str, nn.Parameter]
    scale: float  # of the decoder's learning rate

    @property
    def is_encoder(self) -> bool:
        """Whether these are the encoder's."""
        return self.name != DECODER

    @property
    def num_parameters(self) -> int:
        """Number of values."""
        return sum(parameter.numel() for parameter in self.parameters.values())


def make_groups(
    network: nn.Module, encoder: nn.Module, spec: EncoderSpec, recipe: Recipe
) -> list[Group]:
    """Split a network's parameters by learning rate, the decoder's first, then coarse to fine.

    Args:
        network: the bare network.
        encoder: the part of it that pre-training fills.
        spec: says the level or the block of each of the encoder's parameters.
        recipe: with a `layer_decay` of 1 the encoder is one group.
    """
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    inside = {id(parameter) for parameter in encoder.parameters()}
    rest = {n: p for n, p in network.named_parameters() if id(p) not in inside}
    groups = [Group(name=DECODER, parameters=rest, scale=1.0)]
    if recipe.layer_decay == 1:
        whole = {names[id(p)]: p for p in encoder.parameters()}
        return [*groups, Group(name="encoder", parameters=whole, scale=1.0)]
    family = family_of(spec)
    place_of = family.level_of if recipe.decay_by == "level" else family.block_of
    levels: dict[int, dict[str, nn.Parameter]] = {}
    for name, parameter in encoder.named_parameters():
        levels.setdefault(place_of(spec, name), {})[names[id(parameter)]] = parameter
    for distance, level in enumerate(sorted(levels, reverse=True), 1):
        groups.append(
            Group(
                name=f"encoder {recipe.decay_by} {level}",
                parameters=levels[level],
                scale=recipe.layer_decay**distance,
            )
        )
    return groups


def factor_at(progress: float, *, epochs: int, recipe: Recipe, is_encoder: bool) -> float:
    """Return the learning rate of a moment relative to the recipe's own.

    The decoder alone first, rising linearly from zero to one; then all, rising again; then
    nnU-Net's polynomial decay, (1 - t/T)^0.9, or half a cosine, over the epochs that are left.

    Source: the warm-up and the sawtooth of nnU-Net's and nnssl's fine-tuning.

    Args:
        progress: epochs done, with a fraction within an epoch while the rate rises.
        epochs: of the whole training.
        recipe: with the shares of the phases.
        is_encoder: whether the parameters are the encoder's.
    """
    alone = recipe.decoder_first_share * epochs
    if progress < alone:
        return 0.0 if is_encoder else progress / alone
    rise = recipe.warmup_share * epochs
    if progress < alone + rise:
        return (progress - alone) / rise
    done = max(int(progress) - alone - rise, 0.0) / (epochs - alone - rise)
    if recipe.falls == "cosine":
        return (1 + math.cos(math.pi * done)) / 2
    return float((1 - done) ** _POLY_EXPONENT)


def is_encoder_frozen(progress: float, *, epochs: int, recipe: Recipe) -> bool:
    """Say whether the decoder alone is trained at a moment."""
    return recipe.is_encoder_frozen or progress < recipe.decoder_first_share * epochs


def describe(groups: Iterable[Group], *, learning_rate: float, recipe: Recipe) -> str:
    """Return a line a group: its name, size, learning rate, and whether it is frozen."""
    lines = (_describe_group(one, learning_rate=learning_rate, recipe=recipe) for one in groups)
    title = "Parameter groups (learning rates are the highest of the schedule):"
    return "\n".join([title, *lines])


def _describe_group(group: Group, *, learning_rate: float, recipe: Recipe) -> str:
    size = f"{len(group.parameters)} tensors, {group.num_parameters:,} parameters"
    if group.is_encoder and recipe.is_encoder_frozen:
        return f"  {group.name}: {size}, frozen: {_summary(group.parameters)}"
    return f"  {group.name}: {size}, learning rate {learning_rate * group.scale:.3g}"


def _summary(names: Iterable[str]) -> str:
    """The first two parts of the names, each once: `swinViT.layers1.*, ...`."""
    parts = dict.fromkeys(".".join(name.split(".")[:2]) for name in names)
    return ", ".join(f"{part}.*" for part in parts)
