"""How often code waits for its device: each number that it takes from a tensor is a wait."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

_ROOT = Path(__file__).parents[1]
_METHODS = ("item", "tolist", "numpy", "cpu", "__float__", "__bool__", "__int__", "__index__")


@contextlib.contextmanager
def counting_waits() -> Iterator[list[str]]:
    """Yield a list to which each wait of this project's own code adds its file."""
    found: list[str] = []
    before = {name: getattr(torch.Tensor, name) for name in _METHODS}

    def counting(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            caller = Path(sys._getframe(1).f_code.co_filename)
            if caller.is_relative_to(_ROOT) and ".venv" not in caller.parts:
                found.append(str(caller.relative_to(_ROOT)))
            return method(*args, **kwargs)

        return call

    for name, method in before.items():
        setattr(torch.Tensor, name, counting(method))
    try:
        yield found
    finally:
        for name, method in before.items():
            setattr(torch.Tensor, name, method)
