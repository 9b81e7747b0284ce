"""Reduced precision of the forward pass; weights, losses and optimiser stay float32."""

from typing import Any

import torch

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
SMALLEST_SCALE = 1.0  # below it even unscaled gradients overflow float16: the run diverges


def autocast(device: torch.device, precision: str) -> Any:
    """Return the context of a forward pass in "fp32", "bf16" or "fp16"."""
    is_reduced = precision in DTYPES
    dtype = DTYPES.get(precision, torch.bfloat16)
    return torch.autocast(device.type, dtype=dtype, enabled=is_reduced)


def make_scaler(device: torch.device, precision: str) -> torch.amp.GradScaler:
    """Return the loss scaler of fp16; for any other precision one that does nothing."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")
