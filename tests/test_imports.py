"""Imports point one way (docs/architecture.md): tasks to what they share, never to each other."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TASKS = ("pretraining", "registration", "classification")
SHIPPED = ("nnunet_triad", *TASKS)
OUTSIDE = ("studies", "tests", "benchmarks")
# These know nnU-Net; `datasets` calls its converter and its division into folds.
KNOW_NNUNET = (
    "nnunet_triad.trainers",
    "nnunet_triad.plugin",
    "nnunet_triad.datasets",
    "nnunet_triad.export",
)


@cache
def modules() -> dict[str, ast.Module]:
    """Every module that ships, by its name; a package is called after its folder."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): ast.parse(
            path.read_text(encoding="utf-8")
        )
        for top in SHIPPED
        for path in (ROOT / top).rglob("*.py")
    }


def imported(nodes: Iterator[ast.AST] | list[ast.stmt]) -> Iterator[str]:
    """Yield what import statements name: `from a import b` is a.b where that is a module."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "expected absolute imports"
            assert node.module is not None
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in modules() else node.module


@cache
def imports_anywhere(module: str) -> set[str]:
    return set(imported(ast.walk(modules()[module])))


def imports_at_import(module: str) -> set[str]:
    """What a module imports outside its functions, for type checkers alone included."""

    def statements(body: list[ast.stmt]) -> Iterator[ast.AST]:
        for node in body:
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield node
                for field in ("body", "orelse", "finalbody"):
                    yield from statements(getattr(node, field, []))

    return set(imported(statements(modules()[module].body)))


def is_in(module: str, *packages: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in packages)


def offenders(targets: tuple[str, ...], *, allowed: tuple[str, ...] = ()) -> list[str]:
    """Return which modules import one of the targets without being allowed to."""
    return [
        f"{module} imports {name}"
        for module in sorted(modules())
        if not is_in(module, *allowed)
        for name in sorted(imports_anywhere(module))
        if is_in(name, *targets)
    ]


@pytest.mark.parametrize("task", TASKS)
def test_task_is_imported_by_itself_alone(task: str) -> None:
    assert offenders((task,), allowed=(task,)) == []


def test_nnunet_is_known_to_the_trainers_and_the_conversion_alone() -> None:
    assert offenders(("nnunetv2",), allowed=KNOW_NNUNET) == []


def test_trainers_are_imported_by_the_plugin_and_by_commands_alone() -> None:
    packages = ("nnunet_triad.trainers", "nnunet_triad.plugin")
    commands = ("nnunet_triad.weights.cli", "nnunet_triad.demo", "nnunet_triad.export")
    commands += ("nnunet_triad.quickstart",)
    assert offenders(packages, allowed=packages + commands) == []


def test_phantoms_are_imported_by_nothing_but_their_command() -> None:
    packages = ("nnunet_triad.phantom", "nnunet_triad.demo")
    assert offenders(packages[:1], allowed=packages) == []


def test_what_ships_imports_nothing_that_does_not() -> None:
    assert offenders(OUTSIDE) == []


def test_benchmark_demo_and_quickstart_run_other_commands_as_processes() -> None:
    packages = ("nnunet_triad.benchmark", "nnunet_triad.demo", "nnunet_triad.quickstart")
    used = {
        name
        for module in modules()
        if is_in(module, *packages)
        for name in imports_anywhere(module)
    }
    assert not {name for name in used if is_in(name, "torch", "monai", "nnunetv2", *TASKS)}


def test_no_modules_import_each_other() -> None:
    graph = {name: imports_at_import(name) & modules().keys() - {name} for name in modules()}
    while leaves := {name for name, names in graph.items() if not names & graph.keys()}:
        for name in leaves:
            del graph[name]
    assert graph == {}


_WINDOWS = """
import importlib, signal, sys
ours = sys.argv[1:]
for name in ours:  # what others import is their matter
    importlib.import_module(name)
for name in ours:
    del sys.modules[name]
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
for name in ("SIGUSR1", "SIGUSR2", "SIGHUP", "SIGKILL"):
    delattr(signal, name)
for name in ours:
    importlib.import_module(name)
from nnunet_triad.trainers.interruption import _leaving_at_once
from nnunet_triad.training.stop_signal import StopSignal
with StopSignal(), _leaving_at_once(None):
    print("here")
"""


def test_windows_lacks_nothing_that_is_imported():
    # `triad-benchmark run` alone needs more, and says so
    run = [sys.executable, "-c", _WINDOWS, *modules()]
    done = subprocess.run(run, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("here\n")
