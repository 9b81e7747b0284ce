"""Parse a command line by the program's own parser, without running it."""

import importlib
import importlib.metadata
from typing import Any

from typer.main import get_command


def parser_of(name: str) -> Any:
    """Return the parser of one of this project's commands."""
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name=name)
    return get_command(importlib.import_module(entry.module).app)


def check_parses(words: tuple[str, ...]) -> None:
    """Fail where a program does not take an option or an argument that it is given."""
    command, arguments = parser_of(words[0]), list(words[1:])
    context = command.make_context(words[0], arguments)
    if hasattr(command, "commands"):
        name, command, arguments = command.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        context = command.make_context(name, arguments)
    assert not context.args
