"""Commands that are run one after another."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nnunet_triad.demo.steps import INITIALIZATIONS, trainer_name
from nnunet_triad.errors import UserError
from nnunet_triad.steps import Step, environment, run_steps
from nnunet_triad.training.stop_signal import TrainingStopped


def python_step(name: str, code: str) -> Step:
    return Step(name=name, title=name, command=(sys.executable, "-c", code))


def test_finished_steps_are_not_run_again(tmp_path: Path) -> None:
    path = tmp_path / "runs"
    steps = [python_step("once", f"open({str(path)!r}, 'a').write('x')")]
    for _ in range(2):
        run_steps(steps, tmp_path, {}, num_steps=2)
    assert path.read_text() == "x"


def test_step_whose_mark_a_full_disk_cut_off_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_nothing(path: Path, text: str, **options: str) -> None:
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left"):
        patched.setattr(Path, "write_text", write_nothing)
        run_steps([python_step("once", "")], tmp_path, {}, num_steps=1)
    run_steps([python_step("once", "")], tmp_path, {}, num_steps=1)
    assert (tmp_path / "once").read_text().isdigit()


def test_failed_step_stops_and_is_run_again(tmp_path: Path) -> None:
    fails_once = (
        f"import pathlib, sys; mark = pathlib.Path({str(tmp_path / 'mark')!r}); "
        "done = mark.exists(); mark.touch(); sys.exit(0 if done else 3)"
    )
    after = f"open({str(tmp_path / 'after')!r}, 'w').write('x')"
    steps = [python_step("fails", fails_once), python_step("after", after)]
    with pytest.raises(UserError, match="step fails: expected exit code 0, got 3"):
        run_steps(steps, tmp_path, {}, num_steps=2)
    assert not (tmp_path / "after").exists()
    run_steps(steps, tmp_path, {}, num_steps=2)
    assert (tmp_path / "after").exists()


def test_commands_see_the_variables_and_are_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    steps = [python_step("show", "import os; print('got', os.environ['DEMO_VALUE'])")]
    run_steps(steps, tmp_path, {"DEMO_VALUE": "seven"}, num_steps=1)
    output = capfd.readouterr().out
    assert "got seven" in output
    assert "DEMO_VALUE" in output


def test_missing_command_is_one_line(tmp_path: Path) -> None:
    step = Step(name="gone", title="gone", command=("no-such-command-here",))
    with pytest.raises(UserError, match="step gone: expected the command no-such-command-here"):
        run_steps([step], tmp_path, {}, num_steps=1)


def test_step_whose_result_is_there_is_not_run(tmp_path: Path) -> None:
    result = tmp_path / "result"
    result.touch()
    step = Step(name="made", title="made", command=("no-such-command-here",), result=result)
    run_steps([step], tmp_path, {}, num_steps=1)


def test_later_step_is_made_of_what_an_earlier_one_left(tmp_path: Path) -> None:
    left = tmp_path / "left"

    def steps() -> Iterator[Step]:
        yield python_step("leaves", f"open({str(left)!r}, 'w').write('7')")
        yield python_step("takes", f"open({str(tmp_path / left.read_text())!r}, 'w').close()")

    run_steps(steps(), tmp_path, {}, num_steps=2)
    assert (tmp_path / "7").exists()


@pytest.mark.parametrize("code", ["exit(75)", "exit(130)", "import os; os.kill(os.getpid(), 15)"])
def test_stopped_step_is_told_from_a_failed_one_and_run_again(tmp_path: Path, code: str) -> None:
    with pytest.raises(TrainingStopped, match="step stops was stopped"):
        run_steps([python_step("stops", code)], tmp_path, {}, num_steps=1)
    assert not (tmp_path / "stops").exists()


def test_environment_keeps_everything_in_the_folder() -> None:
    variables = environment(Path("/demo"), weights="/demo/pretrained")
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "TRIAD_WEIGHTS"):
        assert variables[name].startswith("/demo/")


def test_variables_let_nnunet_find_the_trainers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("nnUNet_extTrainer", raising=False)
    for name, value in environment(Path("/demo")).items():
        monkeypatch.setenv(name, value)
    # In a process of its own: nnU-Net reads the variable when it is imported.
    search = (
        "from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find\n"
        f"print([find(name).__name__ for name in {[trainer_name(i) for i in INITIALIZATIONS]}])"
    )
    found = subprocess.run([sys.executable, "-c", search], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert str([trainer_name(name) for name in INITIALIZATIONS]) in found.stdout
