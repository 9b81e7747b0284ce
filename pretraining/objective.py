"""The interface of what a pre-training minimises; `pretraining.objectives` has a file for each.

Axes: b batch, x y z space, d channels of the coarsest feature, e of an embedded description.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from nnunet_triad.training.settings import Settings, Triple

if TYPE_CHECKING:  # torch is slow to import, and --help reads the options of every objective
    import numpy as np
    from torch import Tensor, nn

    from nnunet_triad.architectures import EncoderSpec

AnyObjective = TypeVar("AnyObjective", bound="Objective")


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of the pictures: a batch of images, and how grey they are drawn."""

    title: str
    images: Tensor  # (b, 1, x, y, z)
    black: float = -2.0  # standard deviations from the volume's mean
    white: float = 4.0


@dataclass(frozen=True, kw_only=True)
class Objective(Settings, ABC):
    """What a run makes of a crop, adds to the encoder, minimises, draws and logs.

    The fields are its options, on the command line, in settings.json and in the checkpoint. A new
    objective is one file: `pretraining/objectives/NAME.py` with one such class is the choice NAME.
    """

    # what it does, in some words for --help
    summary: ClassVar[str]
    # columns of the log beside "loss": name -> title of its panel in progress.png
    figures: ClassVar[dict[str, str]] = {}
    # OUTPUT/NAME.png has the pictures; empty: there are none
    picture_name: ClassVar[str] = ""
    # the options with which it does without embedded descriptions, for the error where none are
    without_texts: ClassVar[str] = ""

    @property
    def needs_texts(self) -> bool:
        """Whether the loss compares with the embedded descriptions."""
        return False

    @property
    def scale(self) -> str:
        """How a volume's values become the encoder's input: a text of `images.Intensity`."""
        return "zscore"

    def for_encoder(self: AnyObjective, spec: EncoderSpec) -> AnyObjective:
        """Return the objective with the options filled in that follow from the encoder.

        Raises:
            UserError: they do not fit it.
        """
        return self

    def run_defaults(self, spec: EncoderSpec, *, steps: int) -> dict[str, Any]:
        """Return the run's settings that the objective's authors chose, where not the paper's.

        Args:
            spec: of the encoder.
            steps: of the run.

        Returns:
            Fields of `PretrainSettings`; what the user gives goes before them.
        """
        return {}

    def check_crop_size(self, size: Triple) -> None:
        """Check what a crop's voxels, x y z, must be, beside multiples of the encoder's stride.

        Raises:
            UserError: they do not fit.
        """

    def views(self, image: Tensor, random: np.random.Generator) -> dict[str, Tensor]:
        """Return what the batch gets beside the crop itself; called in worker processes.

        Args:
            image: (1, x, y, z), the crop, on the objective's scale; stays as it is.
            random: the only source of chance; its state follows from seed, step and place alone.

        Returns:
            Tensors of one shape for every crop, by name; "image" and "volume" are taken.
        """
        return {}

    @abstractmethod
    def heads(self, spec: EncoderSpec) -> dict[str, nn.Module]:
        """Return what is trained beside the encoder, by name; not in the weights file."""

    def attach(self, encoder: nn.Module, heads: Mapping[str, nn.Module], spec: EncoderSpec) -> None:
        """Register what the encoder does otherwise in a training step, such as a hook.

        Called once, before it is distributed and compiled. Its parameters keep their names.
        """

    @abstractmethod
    def forward(
        self, encoder: nn.Module, heads: Mapping[str, nn.Module], batch: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Run encoder and heads; this part is distributed, compiled, and in mixed precision.

        Args:
            encoder: image (b, 1, x, y, z) -> features, fine to coarse.
            heads: from `heads`.
            batch: "image" (b, 1, x, y, z), and the views (b, ...).
        """

    @abstractmethod
    def losses(
        self, outputs: dict[str, Tensor], batch: dict[str, Tensor], texts: Tensor | None
    ) -> dict[str, Tensor]:
        """Return "loss", which is minimised, and the figures; all are scalars.

        Args:
            outputs: of `forward`, in float32.
            batch: as there; the share of this process where several share it.
            texts: (b, e), embedded descriptions; None unless `needs_texts`.
        """

    def pictures(self, outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> list[Column]:
        """Return what is drawn of some crops, from left to right; arguments as `losses`."""
        return []
