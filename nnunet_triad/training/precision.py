"""Reduced precision of the forward pass; weights, losses and optimiser stay float32."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
SMALLEST_SCALE = 1.0  # below it even unscaled gradients overflow float16: the run diverges

_CONVOLUTIONS = (torch.conv3d, torch.conv_transpose3d)
_LEAST_EDGE = 4  # voxels


@contextlib.contextmanager
def autocast(device: torch.device, precision: str) -> Iterator[None]:
    """Run a forward pass in "fp32", "bf16" or "fp16".

    On a CPU convolutions of images with fewer than 4 voxels along an axis stay in float32: oneDNN,
    which computes them for PyTorch, leaves values of the output or of the weights' gradient
    unwritten there in bf16, so that they are what the memory held, now and then NaN. Source:
    https://github.com/pytorch/pytorch/issues/169688 (strides); with oneDNN 3.12 and AVX-512 alone,
    small images without strides too. From 4 voxels on 1,756 random convolutions were right.
    """
    is_reduced = precision in DTYPES
    dtype = DTYPES.get(precision, torch.bfloat16)
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.autocast(device.type, dtype=dtype, enabled=is_reduced))
        if is_reduced and device.type == "cpu":
            stack.enter_context(_SmallConvolutionsInFloat32())
        yield


class _SmallConvolutionsInFloat32(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func not in _CONVOLUTIONS or min(args[0].shape[2:]) >= _LEAST_EDGE:
            return func(*args, **(kwargs or {}))
        whole = [one.float() if isinstance(one, Tensor) else one for one in args]
        with torch.autocast("cpu", enabled=False):
            return func(*whole, **(kwargs or {}))


def make_scaler(device: torch.device, precision: str) -> torch.amp.GradScaler:
    """Return the loss scaler of fp16; for any other precision one that does nothing."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")
