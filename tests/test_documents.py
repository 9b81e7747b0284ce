"""The pages are typed: their commands exist, and those that take seconds run as they stand."""

from configparser import ConfigParser
from importlib import import_module
from pathlib import Path

import pytest
import typer

from tests.documents import PAGES, commands

ROOT = Path(__file__).parents[1]


def programs() -> dict[str, typer.Typer]:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options.entry_points"]["console_scripts"].strip().splitlines()
    pairs = (line.replace(" ", "").split("=") for line in lines)
    return {name: import_module(target.split(":")[0]).app for name, target in pairs}


def options_of(app: typer.Typer, words: list[str]) -> set[str]:
    """Return the options that a call may have, its subcommand's where it names one."""
    command = typer.main.get_command(app)
    names = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
    subcommands = getattr(command, "commands", {})
    first = next((word for word in words if word in subcommands), None)
    for one in [subcommands[first]] if first else subcommands.values():
        for param in one.params:
            names |= {*param.opts, *param.secondary_opts}
    return names | {"--help"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_option_that_a_page_types_exists(page):
    known = programs()
    for name, *words in commands(page):
        assert name in known, f"{page.name}: {name}"
        typed = {word.split("=")[0] for word in words if word.startswith("-")}
        assert typed <= options_of(known[name], words), f"{page.name}: {name} {words}"
