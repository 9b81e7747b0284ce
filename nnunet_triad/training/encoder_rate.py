"""A learning rate of its own for a pre-trained encoder."""

from typing import Any

import torch
from torch import nn

_SHARE = "share"  # of the learning rate; a parameter group without it takes all of it


def parameter_groups(
    network: nn.Module, encoder: nn.Module, *, encoder_rate: float
) -> list[dict[str, Any]]:
    """Return the parameter groups of an optimiser for `set_learning_rate`.

    Args:
        network: all of its parameters are in the groups, once.
        encoder: the part of it that pre-training fills.
        encoder_rate: its share of the learning rate; with 1 there is one group, in the network's
            own order.
    """
    if encoder_rate == 1:
        return [{"params": list(network.parameters())}]
    parameters = list(encoder.parameters())
    inside = {id(parameter) for parameter in parameters}
    others = [parameter for parameter in network.parameters() if id(parameter) not in inside]
    return [{"params": parameters, _SHARE: encoder_rate}, {"params": others}]


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of every parameter group, the encoder's to its share."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(_SHARE, 1.0)
