import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from nnunet_triad.demo import cli
from nnunet_triad.demo.steps import DATASET, ENCODER, INITIALIZATIONS, Step
from nnunet_triad.errors import UserError
from nnunet_triad.evaluation import Result, append_results


def python_step(name: str, code: str) -> Step:
    return Step(name=name, title=name, command=(sys.executable, "-c", code))


def test_finished_steps_are_not_run_again(tmp_path: Path) -> None:
    path = tmp_path / "runs"
    steps = [python_step("once", f"open({str(path)!r}, 'a').write('x')")]
    for _ in range(2):
        cli.run_steps(steps, tmp_path, {})
    assert path.read_text() == "x"


def test_failed_step_stops_and_is_run_again(tmp_path: Path) -> None:
    fails_once = (
        f"import pathlib, sys; mark = pathlib.Path({str(tmp_path / 'mark')!r}); "
        "done = mark.exists(); mark.touch(); sys.exit(0 if done else 3)"
    )
    after = f"open({str(tmp_path / 'after')!r}, 'w').write('x')"
    steps = [python_step("fails", fails_once), python_step("after", after)]
    with pytest.raises(UserError, match="step fails: expected exit code 0, got 3"):
        cli.run_steps(steps, tmp_path, {})
    assert not (tmp_path / "after").exists()
    cli.run_steps(steps, tmp_path, {})
    assert (tmp_path / "after").exists()


def test_commands_see_the_variables_and_are_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    steps = [python_step("show", "import os; print('got', os.environ['DEMO_VALUE'])")]
    cli.run_steps(steps, tmp_path, {"DEMO_VALUE": "seven"})
    output = capfd.readouterr().out
    assert "got seven" in output
    assert "DEMO_VALUE" in output


def test_missing_command_is_one_line(tmp_path: Path) -> None:
    step = Step(name="gone", title="gone", command=("no-such-command-here",))
    with pytest.raises(UserError, match="step gone: expected the command no-such-command-here"):
        cli.run_steps([step], tmp_path, {})


def test_demo_ends_in_the_report_of_its_own_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compare(folder: Path) -> Path:
        simulated = {
            (name, case): 0.5 + 0.1 * (name == "Triad") + 0.01 * case
            for name in INITIALIZATIONS
            for case in range(6)
        }
        append_results(
            folder / "results.csv",
            [
                Result(
                    task="segmentation", dataset=DATASET, architecture=ENCODER, fold=0,
                    initialization=name, case=f"{case}", label=label, metric="dice", value=value,
                )
                for (name, case), value in simulated.items() for label in ("CSF", "oedema")
            ],
        )  # fmt: skip
        figure = Figure()
        figure.savefig(folder / "demo.png")
        return folder / "demo.png"

    monkeypatch.setattr(cli, "steps", lambda folder: [])
    monkeypatch.setattr(cli, "compare", compare)
    monkeypatch.setattr(sys, "argv", ["triad-demo", str(tmp_path / "new")])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    text = (tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    assert "This is a toy" in text
    assert "Not run:" in text
    assert "+10.00" in text


def test_folder_with_other_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    monkeypatch.setattr(sys, "argv", ["triad-demo", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert "expected a new or an earlier demo's folder" in capsys.readouterr().err
