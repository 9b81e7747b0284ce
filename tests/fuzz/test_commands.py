"""Whatever is typed: a command works, or refuses with one line; it never shows a traceback.

TRIAD_FUZZ_TRIES says how many command lines each program gets; `make fuzz` gives it 10,000.
"""

import contextlib
import io
import os
from configparser import ConfigParser
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import HealthCheck, given, settings

from nnunet_triad.cli import run_app
from tests.fuzz.arguments import arguments, beyond, ranges
from tests.fuzz.decoys import Workplace
from tests.fuzz.stubs import Started, no_long_work

TRIES = int(os.environ.get("TRIAD_FUZZ_TRIES", "25"))


def programs() -> dict[str, Any]:
    """Name -> click's command of each program that setup.cfg declares."""
    setup = ConfigParser()
    setup.read(Path(__file__).parents[2] / "setup.cfg", encoding="utf-8")
    lines = setup["options.entry_points"]["console_scripts"].strip().splitlines()
    modules = {name.strip(): target.strip() for name, target in (line.split("=") for line in lines)}
    return {
        name: typer.main.get_command(import_module(target.partition(":")[0]).app)
        for name, target in modules.items()
    }


PROGRAMS = programs()


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("fuzz"))


@pytest.fixture(autouse=True)
def environment(workplace: Workplace, monkeypatch: pytest.MonkeyPatch):
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", f"nnUNet_{name}")
    monkeypatch.setenv("TRIAD_WEIGHTS", "weights")
    monkeypatch.setenv("TRIAD_DATA", "data")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(workplace.folder)
    with no_long_work():
        yield


def invoke(command: Any, name: str, given_arguments: list[str]) -> tuple[object, str]:
    """Run a program as its entry point does; return the exit code and what it says of errors."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", write_through=True)
    code: object = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run_app(lambda: command(given_arguments, prog_name=name))
        except SystemExit as stop:
            code = stop.code
        except Started:
            code = 0
    return code, err.buffer.getvalue().decode()


def check(code: object, message: str) -> None:
    """Demand success, or exit code 2 with one line at the end that says what is wrong."""
    assert code in (0, None, 2), message
    assert "Traceback" not in message
    if code == 2 and "Usage:" not in message:
        assert message.rstrip().split("\n")[-1].startswith("error: "), message


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_any_arguments_are_taken_or_refused(name: str, workplace: Workplace) -> None:
    command = PROGRAMS[name]

    @settings(
        max_examples=TRIES,
        deadline=None,
        derandomize=TRIES < 1000,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(arguments(command, workplace.paths))
    def attempt(given_arguments: list[str]) -> None:
        workplace.mend()
        os.chdir(workplace.folder)
        check(*invoke(command, name, given_arguments))

    attempt()


@pytest.mark.parametrize("name", sorted(PROGRAMS))
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_every_program_helps_and_tells_its_version(name: str, option: str) -> None:
    assert invoke(PROGRAMS[name], name, [option]) == (0, "")


RANGES = [(name, *found) for name, command in PROGRAMS.items() for found in ranges(command)]


@pytest.mark.parametrize(("name", "call", "flag", "option"), RANGES)
def test_numbers_beyond_a_declared_range_are_refused(name, call, flag, option) -> None:
    values = beyond(option)
    assert values
    for value in values:
        code, message = invoke(PROGRAMS[name], name, [*call, f"{flag}={value}"])
        assert code == 2, (flag, value, message)
        assert message.startswith(f"error: {flag}: expected "), (flag, value, message)
        assert message.count("\n") == 1, (flag, value, message)


def test_declared_ranges_are_found():
    programs = {name for name, *_ in RANGES}
    assert programs >= {"triad-pretrain", "triad-register", "triad-classify", "triad-curate"}
    assert {option.name for *_, option in RANGES} >= {"steps", "spacing_mm", "size", "hours"}
