"""The settings of a quickstart; what is not given follows from the device."""

from dataclasses import dataclass, fields
from typing import Any

from nnunet_triad.architectures import NETWORKS
from nnunet_triad.architectures.families import networks_on
from nnunet_triad.errors import UserError, require
from nnunet_triad.trainers.suffixes import SUFFIXES
from nnunet_triad.training.settings import Settings, device_option, option

# By device: a look in minutes on two cores, in hours on a GPU. `max_voxels` 0: no limit.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "cpu": {
        **{"encoder": "unet_t", "steps": 300, "variant": "_demo"},
        **{"folds": 2, "max_voxels": 500_000},
    },
    "cuda": {
        **{"encoder": "unet", "steps": 20_000, "variant": "_50epochs"},
        **{"folds": 5, "max_voxels": 0},
    },
}


@dataclass(frozen=True, kw_only=True)
class QuickstartSettings(Settings):
    """How long it takes, and with what.

    Raises:
        UserError: a value is outside its range, or nnU-Net has no network on the encoder.
    """

    init: str = option(
        "",
        "A published encoder instead of a pre-training: a name of triad-weights catalogue, or a "
        "weights file.",
        show_default="pre-train on IMAGES",
    )
    encoder: str = option(
        None,
        f"{', '.join(dict.fromkeys(NETWORKS.values()))}.",
        show_default="unet_t on a CPU, else unet; with --init that of its file",
    )
    steps: int = option(
        None, "Steps of pre-training.", low=1, high=10**9, show_default="300 on a CPU, else 20000"
    )
    variant: str = option(
        None,
        'Suffix of nnU-Net\'s trainers, such as _5epochs; "": the whole length.',
        show_default="_demo on a CPU, else _50epochs",
    )
    folds: int = option(
        None,
        "Folds, at most; each is trained twice, and all cases are validated.",
        low=2,
        high=1000,
        show_default="2 on a CPU, else 5",
    )
    max_voxels: int = option(
        None,
        "Larger images are made coarser, to so many voxels; 0: none.",
        low=0,
        show_default="500000 on a CPU, else 0",
    )
    device: str = device_option()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.init:
            is_good = self.encoder is None
            require("encoder", self.encoder, "none beside --init, whose file has its own", is_good)
            self._fill(encoder=_encoder_of(self.init))
        self._fill(**_DEFAULTS["cpu" if self.device == "cpu" else "cuda"])
        names = list(dict.fromkeys(NETWORKS.values()))
        rule = f"one of {', '.join(names)}"
        require("encoder", self.encoder, rule, self.encoder in names)
        first, *suffixes = self.variant.split("_")
        rule = f"nothing, or suffixes as _demo, of {', '.join(SUFFIXES)}"
        require("variant", self.variant, rule, not first and set(suffixes) <= SUFFIXES.keys())

    def differing_from(self, other: dict[str, Any]) -> str | None:
        """Return the first setting that another run's values, from JSON, have otherwise."""
        own = self.to_dict()
        names = [item.name for item in fields(self) if item.metadata["changes_result"]]
        return next((name for name in names if own[name] != other.get(name)), None)


def _encoder_of(init: str) -> str:
    """Return the encoder of a published name or of a file.

    Raises:
        UserError: there is no such file, or nnU-Net has no network on its encoder.
    """
    from nnunet_triad.weights.catalogue import find_entry, is_catalogued

    if is_catalogued(init):
        found = find_entry(init).file.encoder
    else:
        from nnunet_triad.weights.locate import load_weights

        found = load_weights(init).info.spec.name
    networks = networks_on(found)
    if not networks:
        raise UserError(
            f"init: expected weights that an nnU-Net network here takes, got {found}; use another "
            "file",
            setting="init",
        )
    return NETWORKS[networks[-1]]
