"""What every triad-... command shares: --version, one-line errors, exit code 2."""

import contextlib
import functools
import inspect
import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, replace
from typing import Annotated, Any, get_type_hints

import typer
import typer.core

from nnunet_triad.errors import UserError, require
from nnunet_triad.files import is_disk_full
from nnunet_triad.training.settings import (
    DEVICE_DEFAULT,
    DEVICES,
    INIT_HELP,
    Option,
    Settings,
    join_words,
    options_of,
)
from nnunet_triad.training.stop_signal import EXIT_STOPPED, KILLED_WORKER, TrainingStopped


def make_app(help_text: str, *, default: str = "") -> typer.Typer:
    """Return an empty Typer application in the project's style.

    Args:
        help_text: what it does.
        default: the command that is meant where none is named; empty: there is none.
    """
    return typer.Typer(
        cls=_group_with(default) if default else None,
        help=help_text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )


def _group_with(default: str) -> type[typer.core.TyperGroup]:
    class Group(typer.core.TyperGroup):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            own = {flag for param in self.get_params(ctx) for flag in param.opts}
            is_named = not args or args[0] in self.commands or args[0] in own
            return super().parse_args(ctx, args if is_named else [default, *args])

    return Group


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        from nnunet_triad import __version__

        typer.echo(f"triad-nnunet {__version__}")
        raise typer.Exit


VersionOption = Annotated[
    bool,
    typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
]


def _default_device(device: str) -> str:
    from nnunet_triad.training.device import default_device

    device = device or default_device()
    require("device", device, join_words(DEVICES), device in DEVICES)
    return device


# Options that several commands have.
DeviceOption = Annotated[
    str,
    typer.Option(callback=_default_device, help="cpu, cuda or mps.", show_default=DEVICE_DEFAULT),
]
InitOption = Annotated[str, typer.Option(help=INIT_HELP)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DryRunOption = Annotated[
    bool,
    typer.Option("--dry-run", help="Do some steps, print memory and time, write nothing."),
]


def takes_settings(
    *,
    presets: Mapping[str, Mapping[str, Any]] | None = None,
    defaults: Mapping[str, Any] | None = None,
    fixed: Mapping[str, Any] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that gives a command one option for each field of its settings.

    The command has a keyword parameter whose type is a class of `Settings`, or several, and gets
    them ready-made. What is not given on the command line is the preset's, then the field's
    default. Without --device it is a GPU where there is one; without --workers a GPU gets four.

    Args:
        presets: name -> values of fields, which show their default in words; the command's
            parameter `preset` names one of them.
        defaults: of this command, instead of the fields' own.
        fixed: values of fields that are no options of this command.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        parameters: list[inspect.Parameter] = []
        shown: dict[str, list[Option]] = {}
        for one in inspect.signature(command).parameters.values():
            if isinstance(hints[one.name], type) and issubclass(hints[one.name], Settings):
                shown[one.name] = [
                    replace(item, default=(defaults or {}).get(item.name, item.default))
                    for item in options_of(hints[one.name])
                    if item.help and item.name not in (fixed or {})
                ]
                parameters += map(_parameter, shown[one.name])
            else:
                parameters.append(one.replace(annotation=hints[one.name]))

        @functools.wraps(command)
        def call(**values: Any) -> None:
            preset_values = _find_preset(values["preset"], presets) if presets else {}
            with _name_options([one for items in shown.values() for one in items]):
                for name, items in shown.items():
                    given = {one.name: _parse(one, values.pop(one.name)) for one in items}
                    given = {key: value for key, value in given.items() if value is not None}
                    filled = {**(fixed or {}), **_machine(items, given), **preset_values, **given}
                    values[name] = hints[name].from_dict(filled)
                command(**values)

        signature = inspect.Signature(parameters)
        call.__signature__ = signature  # type: ignore[attr-defined]
        call.__annotations__ = {one.name: one.annotation for one in parameters}
        call.settings = [hints[name] for name in shown]  # type: ignore[attr-defined]
        return call

    return decorate


@contextlib.contextmanager
def _name_options(options: list[Option]) -> Iterator[None]:
    """Let errors about a field of settings begin with its option, as it is typed."""
    flags = {one.name: re.split("[ /]", _flag(one))[0] for one in options}
    try:
        yield
    except UserError as error:
        flag = flags.get(error.setting.rpartition(".")[2])  # of nested settings "field.nested"
        if flag is None:
            raise
        raise UserError(flag + str(error).removeprefix(error.setting)) from error


def _parameter(one: Option) -> inspect.Parameter:
    """Return an option as typer reads it from a function's signature."""
    default = None if one.show_default or one.is_repeated else _as_text(one)
    kind: Any = one.type if one.length is None else str
    if one.is_repeated:
        kind = list[one.type]  # type: ignore[name-defined]
    flags = _flag(one).split()
    info = typer.Option(*flags, help=one.help, show_default=one.show_default or True)
    return inspect.Parameter(
        one.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if default is MISSING else default,
        annotation=Annotated[kind if default is not None else kind | None, info],
    )


def _flag(one: Option) -> str:
    word = re.sub("^(is|has)_", "", one.name).replace("_", "-")
    return one.flag or (f"--{word}/--no-{word}" if one.type is bool else f"--{word}")


def _as_text(one: Option) -> Any:
    """Return the default of an option as it is written on the command line."""
    if one.length is None or one.default is None:
        return one.default
    is_same = one.length == 3 and len(set(one.default)) == 1
    return ",".join(map(str, one.default[:1] if is_same else one.default))


def _parse(one: Option, value: Any) -> Any:
    if one.length is None or value is None:
        return value
    if one.is_repeated:
        return tuple(value)
    return parse_values(one.name, value, kind=one.type, length=one.length)


def parse_values(name: str, text: str, *, kind: type, length: int) -> tuple[Any, ...]:
    """Return the values of "A,B,C"; one number stands for three that are the same.

    Args:
        name: of the option.
        text: as it was typed.
        kind: of a value: int, float or str.
        length: how many there are; 0: any number.

    Raises:
        UserError: they are not as many, or no numbers.
    """
    parts = [part.strip() for part in text.split(",")]
    parts = parts * 3 if length == 3 and len(parts) == 1 else parts
    word = "whole number" if kind is int else "number"
    rule = f"one {word}, or three as X,Y,Z" if length == 3 else f"two {word}s as LOW,HIGH"
    try:
        values = tuple(kind(part) for part in parts if part or length)
    except ValueError:
        values = ()
    require(name, text, rule, length in (0, len(values)))
    return values


def _find_preset(chosen: str | None, presets: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    is_known = chosen is None or chosen in presets
    require("--preset", chosen, f"one of {', '.join(presets)}", is_known)
    return presets[chosen] if chosen else {}


def _machine(items: list[Option], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the device, and the workers that it needs, where these are options."""
    names = {one.name for one in items}
    device = _default_device(given.get("device", "")) if "device" in names else ""
    workers = 4 if device not in ("", "cpu") else 0  # shown by `workers_option`
    filled = {"device": device, "workers": workers} if device else {}
    return {name: value for name, value in filled.items() if name in names}


def run_app(app: typer.Typer) -> None:
    """Run `app`; a user's mistake prints one line and exits with code 2.

    Errors of the operating system that name a file (a full disk, a missing permission, a name that
    is too long) can be mended by the user, too; everything else is a defect and keeps its
    traceback. A training that was asked to stop exits with code 75. What the terminal's
    encoding lacks is printed as an escape.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except UserError as error:
        _fail(str(error))
    except TrainingStopped as stop:
        rank = os.environ.get("RANK") or os.environ.get("SLURM_PROCID", "0")
        if rank == "0":  # of several processes one says it
            print(f"{stop}; run the same command again to continue", file=sys.stderr)
        sys.exit(EXIT_STOPPED)
    except OSError as error:
        if is_disk_full(error):
            _fail_full(error)
        if error.filename is None or error.strerror is None:
            raise
        _fail(f"{error.filename}: {error.strerror}")
    except Exception as error:
        if is_disk_full(error):
            _fail_full(error)
        if isinstance(error, UnicodeEncodeError) and error.encoding == "utf-8":
            _fail(f"{error.object}: expected names of files in UTF-8, got other bytes; rename them")
        if "DataLoader worker" in str(error):  # PyTorch raises it wherever the signal comes
            _fail(KILLED_WORKER)
        if not str(error).startswith("Symlink loop"):  # an OSError from Python 3.13 on
            raise
        _fail(f"{error}; name another path")


def _fail_full(error: BaseException) -> None:
    named = getattr(error, "filename2", None) or getattr(error, "filename", None)
    words = getattr(error, "strerror", None) or str(error)
    _fail(f"{named or 'output'}: the disk is full ({words}); free some space, then run again")


def _fail(message: str) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)  # one line, whatever is in it
    sys.exit(2)
