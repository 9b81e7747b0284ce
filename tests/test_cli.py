"""What every command shares."""

import errno
import io
import subprocess
import sys
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
import typer
from typer.testing import CliRunner

from classification import settings as classification_settings
from nnunet_triad.cli import (
    DeviceOption,
    VersionOption,
    make_app,
    parse_values,
    run_app,
    takes_settings,
)
from nnunet_triad.errors import UserError
from nnunet_triad.training.settings import (
    Settings,
    Triple,
    device_option,
    nested,
    option,
    options_of,
    workers_option,
)
from nnunet_triad.training.stop_signal import TrainingStopped
from registration import settings as registration_settings


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


def test_help_is_fast_because_nothing_is_imported_that_a_command_may_not_need():
    modules = (
        *("nnunet_triad.features.cli", "nnunet_triad.weights.cli"),
        *("nnunet_triad.benchmark.cli", "pretraining.curate_cli"),
        *("pretraining.pretrain_cli", "classification.cli", "registration.cli"),
    )
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = set(done.stdout.split())
    assert set(modules) <= found
    assert not found & {"torch", "numpy", "pandas", "filelock"}


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


def test_stopped_training_exits_with_code_75(monkeypatch, capsys):
    assert run(monkeypatch, TrainingStopped("stopped at step 3")) == 75
    assert capsys.readouterr().err == (
        "stopped at step 3; run the same command again to continue\n"
    )


@dataclass(frozen=True, kw_only=True)
class Inner(Settings):
    window: tuple[float, float] | None = option(None, "LOW,HIGH.", show_default="none")


@dataclass(frozen=True, kw_only=True)
class Outer(Settings):
    steps: int = option(10, "Steps.", source="section 3", low=1)
    rate: float = option(0.5, "Rate.", above=0, show_default="0.5; fast: 2")
    crop_size: Triple = option((96, 96, 96), "Voxels.", flag="--crop")
    names: tuple[str, ...] = option((), "With commas.")
    balance: Literal["volume", "organ"] = option("volume", "{choices}.")
    is_symmetric: bool = option(True, "Both ways.")
    compile_network: bool = option(False, "Compile.", flag="--compile")
    retries: int = option(3)
    device: str = device_option()
    workers: int = workers_option("read")
    inner: Inner = nested(Inner)


def command():
    app = make_app("A test.")
    calls = []

    @app.command()
    @takes_settings(presets={"fast": {"rate": 2.0, "window": (0.0, 1.0)}})
    def go(
        folder: str, *, preset: Annotated[str | None, typer.Option()] = None, settings: Outer
    ) -> None:
        calls.append((folder, settings))

    return app, calls


def made(*arguments):
    app, calls = command()
    result = CliRunner().invoke(app, ["here", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    ((folder, settings),) = calls
    assert folder == "here"
    return settings


def test_command_without_options_makes_the_defaults(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert made() == Outer()


def test_command_takes_a_gpu_and_workers_for_it(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert (made().device, made().workers) == ("cuda", 4)
    assert made("--device", "cpu").workers == 0
    assert made("--workers", "1").workers == 1


def test_each_field_is_an_option():
    options = (
        *("--steps", "7", "--rate", "0.25", "--crop", "32,64,96", "--names", "a, b"),
        *("--balance", "organ", "--no-symmetric", "--compile", "--window", "-1000,400"),
        *("--device", "mps", "--workers", "2"),
    )

    assert made(*options) == Outer(
        steps=7,
        rate=0.25,
        crop_size=(32, 64, 96),
        names=("a", "b"),
        balance="organ",
        is_symmetric=False,
        compile_network=True,
        device="mps",
        workers=2,
        inner=Inner(window=(-1000.0, 400.0)),
    )


def test_error_of_the_command_itself_names_the_option_too():
    app = make_app("A test.")

    @app.command()
    @takes_settings()
    def go(*, settings: Outer) -> None:
        raise UserError("inner.crop_size: expected less", setting="inner.crop_size")

    with pytest.raises(UserError, match=r"^--crop: expected less$"):
        CliRunner().invoke(app, [], catch_exceptions=False)


def test_preset_fills_what_was_not_chosen():
    assert made("--preset", "fast").rate == 2.0
    assert made("--preset", "fast").inner.window == (0.0, 1.0)
    assert made("--preset", "fast", "--rate", "0.5").rate == 0.5


@pytest.mark.parametrize(
    ("presets", "settings"),
    [
        (registration_settings.PRESETS, registration_settings.RegistrationSettings),
        (classification_settings.PRESETS, classification_settings.TrainSettings),
    ],
)
def test_field_of_a_preset_tells_its_default_in_words(presets, settings):
    """Such an option is None where it is not given; another would hide the preset's value."""
    options = {one.name: one for one in options_of(settings)}

    assert all(options[name].show_default for values in presets.values() for name in values)


def test_help_shows_names_defaults_and_sources():
    printed = CliRunner().invoke(command()[0], ["--help"]).output
    text = " ".join(printed.replace("\\[", "[").split())  # as older versions of typer print it

    assert "--steps <int> Steps. (section 3) [default: 10]" in text.replace("INTEGER", "<int>")
    assert "Rate. [default: (0.5; fast: 2)]" in text
    assert "Voxels. [default: 96]" in text
    assert "volume or organ. [default: volume]" in text
    assert "--symmetric / --no-symmetric" in text
    assert "Compile." in text
    assert "no-compile" not in text
    assert "cpu, cuda or mps. [default: (cuda if there is one, else cpu)]" in text
    assert "retries" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--steps", "0"), "--steps: expected 1 or more, got 0"),
        (("--rate", "nan"), "--rate: expected a positive number, got nan"),
        (("--balance", "age"), "--balance: expected volume or organ, got age"),
        (("--preset", "slow"), "--preset: expected one of fast, got slow"),
        (("--window", "1"), "--window: expected two numbers as LOW,HIGH, got 1"),
        (("--crop", "a"), "--crop: expected one whole number, or three as X,Y,Z, got a"),
        (("--device", "tpu"), "--device: expected cpu, cuda or mps, got tpu"),
    ],
)
def test_wrong_option_is_told_in_one_line(monkeypatch, capsys, arguments, message):
    monkeypatch.setattr("sys.argv", ["triad-test", "here", *arguments])

    with pytest.raises(SystemExit, match="2"):
        run_app(command()[0])

    assert capsys.readouterr().err == f"error: {message}\n"


def test_device_option_is_the_default_or_the_one_that_was_given(monkeypatch):
    app, calls = make_app("A test."), []

    @app.command()
    def go(device: DeviceOption = "") -> None:
        calls.append(device)

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    CliRunner().invoke(app, [], catch_exceptions=False)
    CliRunner().invoke(app, ["--device", "mps"], catch_exceptions=False)
    with pytest.raises(UserError, match="device: expected cpu, cuda or mps, got tpu"):
        CliRunner().invoke(app, ["--device", "tpu"], catch_exceptions=False)

    assert calls == ["cuda", "mps"]


@pytest.mark.parametrize(
    ("text", "kind", "length", "expected"),
    [
        ("96", int, 3, (96, 96, 96)),
        ("96,64,128", int, 3, (96, 64, 128)),
        ("32, 64,96", int, 3, (32, 64, 96)),
        ("1.5", float, 3, (1.5, 1.5, 1.5)),
        ("-1000,400", float, 2, (-1000.0, 400.0)),
        ("T1w, FLAIR,", str, 0, ("T1w", "FLAIR")),
        ("", str, 0, ()),
    ],
)
def test_values_with_commas_are_read(text, kind, length, expected):
    assert parse_values("name", text, kind=kind, length=length) == expected


@pytest.mark.parametrize("text", ["1,2", "1.5", "a", "", "1,2,3,4", "1,,2", "96x96"])
def test_other_than_one_whole_number_or_three_is_refused(text):
    with pytest.raises(UserError, match="crop-size: expected one whole number, or three as X,Y,Z"):
        parse_values("crop-size", text, kind=int, length=3)
