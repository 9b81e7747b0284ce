"""Modules with shapes and without values, for questions that shapes alone answer."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class _LinspaceOnCPU(TorchFunctionMode):
    """MONAI reads its drop rates from a tensor, which must be real."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.linspace:
            kwargs["device"] = "cpu"
        return func(*args, **kwargs)


def build_on_meta(build: Callable[[], ModuleT]) -> ModuleT:
    """Call `build` so that the module's parameters are on the meta device."""
    with torch.device("meta"), _LinspaceOnCPU():
        return build()
