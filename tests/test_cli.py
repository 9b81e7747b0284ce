"""What every command shares."""

import errno
import io

import pytest

from nnunet_triad.cli import VersionOption, make_app, run_app
from nnunet_triad.errors import UserError


def run(monkeypatch, error=None, arguments=("go",)):
    app = make_app("A test.")

    @app.callback()
    def options(version: VersionOption = False) -> None:
        pass

    @app.command()
    def go() -> None:
        if error:
            raise error

    monkeypatch.setattr("sys.argv", ["triad-test", *arguments])
    with pytest.raises(SystemExit) as exit_info:
        run_app(app)
    return exit_info.value.code


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("crop: expected 96, got 95"), "error: crop: expected 96, got 95\n"),
        (OSError(errno.ENOSPC, "x", "a.pt"), "error: a.pt: the disk is full"),
        (
            RuntimeError("Symlink loop from 'd'"),
            "error: Symlink loop from 'd'; name another path\n",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "b"), "error: b: Permission denied\n"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "c"), "error: c: File name too long\n"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(monkeypatch, capsys, error, line):
    assert run(monkeypatch, error) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(line)
    assert printed.count("\n") == 1


@pytest.mark.parametrize("defect", [ZeroDivisionError, OSError("no file in particular")])
def test_defects_keep_their_traceback(monkeypatch, defect):
    with pytest.raises((ZeroDivisionError, OSError)):
        run(monkeypatch, defect)


def test_letters_that_the_terminal_lacks_are_escaped(monkeypatch):
    app = make_app("A test.")

    @app.command()
    def go() -> None:
        print("a \N{MULTIPLICATION SIGN} \udcff")

    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    monkeypatch.setattr("sys.argv", ["triad-test"])
    monkeypatch.setattr("sys.stdout", ascii_only)
    with pytest.raises(SystemExit, match="0"):
        run_app(app)
    assert ascii_only.buffer.getvalue() == b"a \\xd7 \\udcff\n"


def test_version_is_printed(monkeypatch, capsys):
    assert run(monkeypatch, arguments=("--version",)) == 0
    assert capsys.readouterr().out.startswith("triad-nnunet ")


def test_message_of_several_lines_is_printed_on_one(monkeypatch, capsys):
    assert run(monkeypatch, UserError("file: expected a table,\n  got\tthis")) == 2
    assert capsys.readouterr().err == "error: file: expected a table, got this\n"
