"""A pipe, or a device without end, in the place of any file: refused, never read or waited for.

What a training or a prediction reads later goes through the same readers.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

import pytest

from tests.fuzz.arguments import FITTING, _kind
from tests.fuzz.test_commands import (  # noqa: F401  # a fixture is used by its name
    PROGRAMS,
    check,
    environment,
    invoke,
    workplace,
)

# texts that may name a file, and further endings that are tried
ALSO_FILES = {"init": (), "model": (), "labels": (".json",), "dataset": (".json", ".toml")}
KINDS = {"pipe": os.mkfifo, "zeros": lambda path: Path(path).symlink_to("/dev/zero")}


def places() -> Iterator[tuple[str, list[str], str]]:
    """Yield (program, a call with {} in the place of one file, ending of that file)."""
    for program, command in PROGRAMS.items():
        for name, inner in getattr(command, "commands", {"": command}).items():
            for wanted in inner.params:
                if "path" in _kind(wanted) or "file" in _kind(wanted) or wanted.name in ALSO_FILES:
                    fitting = PurePath(FITTING.get(wanted.name, ("x.nii.gz",))[0])
                    for ending in {"".join(fitting.suffixes), *ALSO_FILES.get(wanted.name, ())}:
                        yield program, [name] * bool(name) + call(inner, wanted), ending


def call(command: Any, wanted: Any) -> list[str]:
    """Return a call with fitting values for what is required, and {} for one parameter."""
    words = []
    for param in command.params:
        value = "{}" if param is wanted else FITTING.get(param.name, ("x",))[0]
        if param.param_type_name == "argument":
            words.append(value)
        elif param is wanted or param.required:
            words += [param.opts[0], value]
    return words


@pytest.mark.timeout(60)
@pytest.mark.parametrize("program", sorted(PROGRAMS))
def test_what_has_no_end_is_not_read(program, workplace):  # noqa: F811
    for place, words, ending in places():
        if place == program:
            for kind, make in KINDS.items():
                workplace.mend()
                os.chdir(workplace.folder)
                make(f"{kind}{ending}")
                filled = [word.format(f"{kind}{ending}") for word in words]
                check(*invoke(PROGRAMS[program], program, filled))
