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


def default_precision(device: str, choices: tuple[str, ...]) -> str:
    """Return the fastest precision that a program offers and a device computes.

    Args:
        device: "cuda" gets bf16 where the card has it, and fp16 where it has not; others fp32.
        choices: of the program, fp32 among them.
    """
    if device != "cuda":
        return "fp32"
    import torch

    if not torch.cuda.is_available():
        return "fp32"
    best = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return best if best in choices else "fp32"


def use_fast_kernels(device: "torch.device", precision: str, *, has_fixed_shapes: bool) -> None:
    """Let a GPU choose its fastest kernels for this process; a CPU computes as before.

    Args:
        device: of the run.
        precision: beside a reduced one, matrix products that stay fp32 are computed in TF32; with
            fp32 they are PyTorch's own.
        has_fixed_shapes: cuDNN may try its algorithms, once for each shape.
    """
    import torch

    if device.type != "cuda":
        return
    torch.backends.cudnn.benchmark = has_fixed_shapes
    torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")


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
