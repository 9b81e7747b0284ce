"""A trained registration network as one safetensors file, with all that is needed to use it."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nnunet_triad import __version__
from nnunet_triad.errors import UserError
from nnunet_triad.weights.tensor_file import from_json, read_tensors, to_json, write_tensors
from registration.networks import RegistrationNetwork
from registration.settings import RegistrationSettings

MODEL_NAME = "model.safetensors"
FORMAT_VERSION = 1
_METADATA_KEY = "triad_register"


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What a model file says of its network besides the tensors."""

    settings: RegistrationSettings
    spacing_mm: tuple[float, float, float]  # of the grids that it was trained on
    initialization: str = "scratch"  # or the source of the encoder's weights
    epoch: int = 0  # epochs done
    validation: float | None = None  # mean Dice, or minus the loss where there are no labels
    transfer: dict[str, Any] = field(default_factory=dict)  # the transfer's report
    package_version: str = __version__

    def to_json(self) -> str:
        """Return the fields as one JSON text."""
        return to_json(asdict(self), version=FORMAT_VERSION)

    @classmethod
    def from_json(cls, text: str) -> "ModelInfo":
        """Read `to_json`'s text.

        Raises:
            UserError: the text is of another format version.
        """
        values = from_json(text, version=FORMAT_VERSION)
        values["settings"] = RegistrationSettings.from_dict(values["settings"])
        return cls(**{**values, "spacing_mm": tuple(values["spacing_mm"])})


def build_network(settings: RegistrationSettings) -> RegistrationNetwork:
    """Build the network of a training, with random weights."""
    return RegistrationNetwork(
        settings.network,
        is_diffeomorphic=settings.is_diffeomorphic,
        is_half_resolution=settings.is_half_resolution,
        use_checkpoint=bool(settings.recompute_activations),
        is_standardized=settings.intensity == "zscore",
    )


def save_model(path: Path, network: RegistrationNetwork, info: ModelInfo) -> None:
    """Write a network, atomically."""
    write_tensors(path, network.state_dict(), key=_METADATA_KEY, text=info.to_json())


def load_model(path: Path) -> tuple[RegistrationNetwork, ModelInfo]:
    """Read a network from its file, or from a training's folder.

    Raises:
        UserError: it is missing, damaged, or no model of triad-register.
    """
    path = Path(path)
    if path.is_dir():
        path = path / MODEL_NAME
    if not path.is_file():
        raise UserError(
            f"{path}: expected a model of triad-register train, got no file; "
            "give the training's folder, or train first"
        )
    tensors, metadata = read_tensors(path)
    if _METADATA_KEY not in metadata:
        raise UserError(
            f"{path}: expected a model of triad-register train, got another safetensors file; "
            "an encoder's weights go to triad-register train --init"
        )
    try:
        info = ModelInfo.from_json(metadata[_METADATA_KEY])
        network = build_network(info.settings)
        network.load_state_dict(tensors)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"{path}: expected a model of triad-register train, got a file that holds something "
            f"else ({type(error).__name__}); train again"
        ) from error
    return network.eval(), info
