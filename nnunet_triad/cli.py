"""What every triad-... command shares: --version, one-line errors, exit code 2."""

import errno
import io
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from nnunet_triad import __version__
from nnunet_triad.errors import UserError


def make_app(help_text: str) -> typer.Typer:
    """Return an empty Typer application in the project's style."""
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"triad-nnunet {__version__}")
        raise typer.Exit


VersionOption = Annotated[
    bool,
    typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
]


def with_preset(
    preset: str | None, chosen: Mapping[str, Any], *, presets: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return a preset's values, and over them those that were chosen by an option of their own.

    Args:
        preset: its name; None for none.
        chosen: by name; None where the option was not given.
        presets: the values of each.

    Raises:
        UserError: there is no such preset.
    """
    if preset is not None and preset not in presets:
        raise UserError(f"preset: expected one of {', '.join(presets)}, got {preset}")
    values = presets[preset] if preset else {}
    return {**values, **{name: value for name, value in chosen.items() if value is not None}}


def run_app(app: typer.Typer) -> None:
    """Run `app`; a user's mistake prints one line and exits with code 2.

    Errors of the operating system that name a file (a full disk, a missing permission, a name that
    is too long) can be mended by the user, too; everything else is a defect and keeps its
    traceback. What the terminal's encoding lacks is printed as an escape.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except UserError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            _fail(
                f"{error.filename or 'output'}: the disk is full; free some space, then run again"
            )
        if error.filename is None or error.strerror is None:
            raise
        _fail(f"{error.filename}: {error.strerror}")
    except RuntimeError as error:
        if not str(error).startswith("Symlink loop"):  # an OSError from Python 3.13 on
            raise
        _fail(f"{error}; name another path")


def _fail(message: str) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)  # one line, whatever is in it
    sys.exit(2)
