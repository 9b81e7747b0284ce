"""Losses of the classifier: plain, weighted by class, and focal."""

from collections.abc import Callable

import numpy as np
import torch
from monai.losses import FocalLoss
from numpy.typing import NDArray
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]


def build_loss(name: str, counts: NDArray[np.intp], *, gamma: float, device: torch.device) -> Loss:
    """Return a loss of logits (b, classes) and labels (b,).

    Args:
        name: cross-entropy, weighted (by class) or focal.
        counts: (classes,), training samples of each class; all above zero.
        gamma: exponent of the focal loss.
        device: of the logits.
    """
    if name == "focal":
        return FocalCrossEntropy(gamma)
    weights = class_weights(counts).to(device) if name == "weighted" else None
    return nn.CrossEntropyLoss(weight=weights)


def class_weights(counts: NDArray[np.intp]) -> Tensor:
    """Return weights in inverse proportion to the counts: n / (classes x count)."""
    return torch.tensor(counts.sum() / (len(counts) * counts), dtype=torch.float32)


class FocalCrossEntropy(nn.Module):
    """The focal loss of the true class, -(1 - p)^gamma log p, averaged over the samples.

    Source: Lin et al., arXiv:1708.02002, equation 4, over a softmax; MONAI's FocalLoss.
    Differs: summed over the classes, where MONAI averages, so that gamma 0 is the cross-entropy.
    """

    def __init__(self, gamma: float) -> None:
        super().__init__()
        self.focal = FocalLoss(
            include_background=True,
            to_onehot_y=True,
            gamma=gamma,
            use_softmax=True,
            reduction="none",
        )

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of logits (b, classes) and labels (b,)."""
        return self.focal(logits, labels[:, None]).sum(dim=1).mean()
