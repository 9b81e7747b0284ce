"""The device of a program: which, and whether it is there."""

from nnunet_triad.errors import UserError


def default_device() -> str:
    """Return "cuda" where PyTorch sees a GPU, else "cpu"."""
    import torch  # slow, and --help needs it not

    return "cuda" if torch.cuda.is_available() else "cpu"


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
