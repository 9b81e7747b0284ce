"""Triad for nnU-Net: encoders, weights, trainers and data that every task shares."""

from importlib import import_module
from typing import Any

__version__: str

_PUBLIC = {"load_encoder": "nnunet_triad.pretrained"}  # name -> the module that has it


def __getattr__(name: str) -> Any:
    """Import what is asked for: PyTorch and the version cost a command that asks not its start."""
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("triad-nnunet")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "0+unknown"
