"""A network put together from a library's modules, where the library has no class for it."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn


class Assembled(nn.Module):
    """Modules under the names that they have in the library, and a function that runs them."""

    def __init__(
        self, parts: Mapping[str, nn.Module], run: Callable[..., Any], **values: Any
    ) -> None:
        """Put a network together.

        Args:
            parts: name -> module.
            run: called with this module and what it is called with.
            values: attributes that `run` reads.
        """
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        self.run = run
        for name, value in values.items():
            setattr(self, name, value)

    def forward(self, *arguments: Tensor | list[Tensor]) -> Any:
        """Run the parts."""
        return self.run(self, *arguments)
