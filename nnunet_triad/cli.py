"""What every triad-... command shares: --version, one-line errors, exit code 2."""

import errno
import io
import sys
from typing import Annotated

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
