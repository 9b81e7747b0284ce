"""A command as a user types it, run in this process."""

import sys
from collections.abc import Callable

import pytest


def exit_code(main: Callable[[], None], name: str, *arguments: object) -> int:
    """Run the command to its end; return its exit code."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(sys, "argv", [name, *map(str, arguments)])
        main()
    return int(stop.value.code or 0)
