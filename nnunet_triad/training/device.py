"""The device of a program: which, whether it is there, and what it can."""

from typing import TYPE_CHECKING

from nnunet_triad.errors import UserError

if TYPE_CHECKING:
    import torch


def default_device() -> str:
    """Return "cuda" where PyTorch sees a GPU, else "cpu"."""
    import torch  # slow, and --help needs it not

    return "cuda" if torch.cuda.is_available() else "cpu"


def sum_dtype(device: "torch.device") -> "torch.dtype":
    """Return what many values are summed in: float64, or float32 on MPS, which has no other."""
    import torch

    return torch.float32 if device.type == "mps" else torch.float64


def check_device(device: str) -> None:
    """Raise a UserError when PyTorch cannot use `device` here."""
    import torch

    is_there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not is_there.get(device, False):
        found = ", ".join(name for name, is_available in is_there.items() if is_available)
        raise UserError(
            f"device: expected one that PyTorch {torch.__version__} sees here ({found}), "
            f"got {device}; choose another --device, or install a PyTorch for it"
        )
