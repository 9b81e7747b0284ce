"""The model that a run leaves behind: weights, and all that is needed to use them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from classification.model import Classifier, NeighbourHead, two_layer_head
from classification.settings import TrainSettings
from nnunet_triad.architectures import encoder_spec
from nnunet_triad.errors import UserError
from nnunet_triad.training.state_file import load_state, save_state

MODEL_NAME = "model.pt"


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a classifier was trained on and from."""

    classes: tuple[str, ...]
    num_channels: int
    initialization: str  # scratch, or who pre-trained the encoder
    extent_mm: float | None = None  # edge of the samples; None: whole images
    num_neighbours_of: int = 0  # training samples that a NeighbourHead holds
    transfer: dict[str, Any] | None = None  # the report of the encoder's weights

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able values; `from_dict` is the inverse."""
        return {**vars(self), "classes": list(self.classes)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Description":
        """Build a description from `to_dict`'s values."""
        return cls(**{**values, "classes": tuple(values["classes"])})


@dataclass(frozen=True, kw_only=True)
class Model:
    """A trained classifier."""

    path: Path
    network: Classifier
    settings: TrainSettings
    description: Description
    epoch: int  # after which epoch it was kept; 0 where nothing was trained by epochs

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the outputs."""
        return self.description.classes


def build_network(settings: TrainSettings, description: Description) -> Classifier:
    """Build a classifier with random weights."""
    spec = encoder_spec(settings.encoder)
    num_features, num_classes = spec.channels[-1], len(description.classes)
    head: nn.Module
    if settings.mode == "finetune":
        head = two_layer_head(num_features, num_classes, settings.hidden_size)
    elif settings.mode == "linear-probe":
        head = nn.Linear(num_features, num_classes)
    else:
        head = NeighbourHead(description.num_neighbours_of, num_features, num_classes)
    return Classifier(spec, head, input_channels=description.num_channels)


def save_model(
    path: Path,
    network: Classifier,
    settings: TrainSettings,
    description: Description,
    *,
    epoch: int,
) -> None:
    """Write a model file, atomically.

    Raises:
        UserError: the disk is full.
    """
    content = {
        "settings": settings.to_dict(),
        "description": description.to_dict(),
        "model": network.state_dict(),
    }
    save_state(path, content, step=epoch)


def load_model(path: Path) -> Model:
    """Read a model file, or the one in a run's folder.

    Raises:
        UserError: it is missing, damaged or no model file.
    """
    path = path / MODEL_NAME if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"{path}: expected a model, got nothing at that path; train one first")
    content = load_state(path, command="triad-classify train")
    try:
        settings = TrainSettings.from_dict(content["settings"])
        description = Description.from_dict(content["description"])
        network = build_network(settings, description)
        network.load_state_dict(content["model"])
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        raise UserError(
            f"{path}: expected a model of triad-classify train, got a file that holds something "
            f"else ({type(error).__name__}); train again"
        ) from error
    return Model(
        path=path,
        network=network.eval(),
        settings=settings,
        description=description,
        epoch=content["step"],
    )
