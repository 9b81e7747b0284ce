"""The trainers' names, as nnU-Net looks them up: initialisation x network x suffix.

A suffix is a tuple of mixin classes, so suffixes combine; a mixin may override any of the
trainer's methods, besides `settings`.
"""

from typing import Any, Literal

from nnunet_triad.architectures import encoder_spec
from nnunet_triad.trainers.base import TriadTrainer
from nnunet_triad.trainers.swin import SwinTrainer
from nnunet_triad.trainers.unet import UNetTrainer

_INITIALIZATIONS: dict[str, Literal["triad", "voco"] | None] = {
    "Scratch": None,
    "VoCo": "voco",
    "Triad": "triad",
}

_NETWORKS: dict[str, tuple[type[TriadTrainer], str]] = {
    "UNet": (UNetTrainer, "unet"),
    "SwinT": (SwinTrainer, "swin_t"),
    "SwinB": (SwinTrainer, "swin_b"),
    "SwinL": (SwinTrainer, "swin_l"),
    "SwinH": (SwinTrainer, "swin_h"),
}


def _replacing(**settings: float) -> type:
    """A mixin that replaces values which nnU-Net's constructor sets."""
    return type("Replacing", (), {"settings": settings})


_SUFFIXES: dict[str, tuple[type, ...]] = {
    "": (),
    "_1epoch": (_replacing(num_epochs=1),),
    "_5epochs": (_replacing(num_epochs=5),),
    # a smoke test of a plan
    "_quick": (
        _replacing(num_epochs=3, num_iterations_per_epoch=5, num_val_iterations_per_epoch=2),
    ),
    # minutes on two CPU cores
    "_demo": (
        _replacing(num_epochs=10, num_iterations_per_epoch=20, num_val_iterations_per_epoch=5),
    ),
}


def _make_trainer(initialization: str, network: str, suffix: str) -> type[TriadTrainer]:
    base, encoder = _NETWORKS[network]
    attributes: dict[str, Any] = {
        "__module__": __name__,
        "__doc__": f"{base.__doc__} Initialisation: {initialization}.",
        "encoder": encoder_spec(encoder),
        "initialization": _INITIALIZATIONS[initialization],
    }
    name = f"nnUNetTrainer{initialization}{network}{suffix}"
    return type(name, (*_SUFFIXES[suffix], base), attributes)


TRAINERS: dict[str, type[TriadTrainer]] = {
    trainer.__name__: trainer
    for initialization in _INITIALIZATIONS
    for network in _NETWORKS
    for suffix in _SUFFIXES
    for trainer in (_make_trainer(initialization, network, suffix),)
}

# nnU-Net finds a trainer as an attribute of a module, and the shim imports all of them by *.
globals().update(TRAINERS)
__all__ = list(TRAINERS)
