"""What a run requires and which commands it is, whatever its task."""

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from nnunet_triad.benchmark.environment import Environment
from nnunet_triad.benchmark.runs import Run


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """Something that has to be there before a run can start."""

    name: str  # "dataset", "weights", or the variable that is unset
    found: str  # where it is; empty when it is missing
    problem: str = ""  # when it is missing: what was expected, what was found and what to do

    @property
    def is_met(self) -> bool:
        """Whether it is there."""
        return bool(self.found)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command of a run. A finished step is not run again."""

    name: str
    command: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)  # besides the environment's
    lock: Path | None = None  # held while it runs: several runs share what it makes

    def __str__(self) -> str:
        """Return the command as it can be typed."""
        settings = [f"{name}={_quoted(value)}" for name, value in self.variables.items()]
        return " ".join([*settings, *map(_quoted, self.command)])


@dataclass(frozen=True, kw_only=True)
class Task:
    """How runs of one task are done; each function takes the run and the environment."""

    requirements: Callable[[Run, Environment], list[Requirement]]
    steps: Callable[[Run, Environment], list[Step]]
    gather: Callable[[Run, Environment], pd.DataFrame]  # the results table of a finished run


def _quoted(word: str) -> str:
    """Quote a word for the shell; `$NAME/...` stands for a variable that is not set yet."""
    variable, slash, rest = word.partition("/")
    if slash and re.fullmatch(r"\$[A-Z_]+", variable):
        return f'"{variable}"/{shlex.quote(rest)}'
    return shlex.quote(word)


def missing(name: str, problem: str) -> Requirement:
    """Return a requirement that is not met."""
    return Requirement(name=name, found="", problem=problem)
