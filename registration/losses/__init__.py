"""The losses of registration, one a file: each module here is one, and says so as `LOSS`."""

import functools
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Literal, get_args

from torch import Tensor

from registration.settings import RegistrationSettings
from registration.spatial import warp

Kind = Literal["similarity", "regulariser", "labels"]  # what it sees: images, the field, label maps


@dataclass(frozen=True, kw_only=True)
class WarpedPair:
    """A pair of images and the displacement between them: what a loss may look at."""

    moving: Tensor  # (b, 1, x, y, z), intensities in [0, 1]
    fixed: Tensor  # the same shape
    displacement: Tensor  # (b, 3, x, y, z), voxels
    moving_labels: Tensor | None = None  # (b, 1, x, y, z), whole numbers
    fixed_labels: Tensor | None = None
    classes: tuple[int, ...] = ()  # the labels' values, 0 among them, where there are labels

    @functools.cached_property
    def warped(self) -> Tensor:
        """The moving image on the fixed one."""
        return warp(self.moving, self.displacement)

    @property
    def has_labels(self) -> bool:
        """Tell whether both images have labels."""
        return self.moving_labels is not None and self.fixed_labels is not None


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A term of the loss of training and of instance optimisation."""

    name: str  # in the log and in the settings' `losses`
    kind: Kind
    compute: Callable[[WarpedPair, RegistrationSettings], Tensor]  # a scalar; lower is better
    option: str = ""  # of the settings that holds its weight; empty: `losses` does

    def weight(self, settings: RegistrationSettings) -> float:
        """Return its weight in a run; 0: it is off."""
        if self.option:
            return getattr(settings, self.option)
        return settings.further_losses.get(self.name, 0.0)


@functools.cache
def all_losses() -> tuple[Loss, ...]:
    """Return the losses of all modules here: similarities, regularisers, those of labels."""
    modules = [import_module(f"{__name__}.{item.name}") for item in pkgutil.iter_modules(__path__)]
    kinds = get_args(Kind)
    found: list[Loss] = [module.LOSS for module in modules]
    return tuple(sorted(found, key=lambda loss: (kinds.index(loss.kind), loss.name)))


def total_loss(pair: WarpedPair, settings: RegistrationSettings) -> dict[str, Tensor]:
    """Return the weighted sum, loss, and its terms.

    A loss without weight is left out, and without labels one of labels.
    """
    total, terms = pair.displacement.new_zeros(()), {}
    for loss in all_losses():
        weight = loss.weight(settings)
        if weight > 0 and (loss.kind != "labels" or pair.has_labels):
            terms[loss.name] = loss.compute(pair, settings)
            total = total + weight * terms[loss.name]
    return {"loss": total, **terms}
