import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from nnunet_triad.demo import cli
from nnunet_triad.demo.material import Material
from nnunet_triad.demo.steps import ENCODER, INITIALIZATIONS
from nnunet_triad.evaluation import Result, append_results


def test_demo_ends_in_the_report_of_its_own_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compare(folder: Path, material: Material) -> Path:
        simulated = {
            (name, case): 0.5 + 0.1 * (name == "Triad") + 0.01 * case
            for name in INITIALIZATIONS
            for case in range(6)
        }
        append_results(
            folder / "results.csv",
            [
                Result(
                    task="segmentation", dataset=material.dataset, architecture=ENCODER, fold=0,
                    initialization=name, case=f"{case}", label=label, metric="dice", value=value,
                )
                for (name, case), value in simulated.items() for label in ("CSF", "oedema")
            ],
        )  # fmt: skip
        figure = Figure()
        figure.savefig(folder / "demo.png")
        return folder / "demo.png"

    monkeypatch.setattr(cli, "steps", lambda folder, material: [])
    monkeypatch.setattr(cli, "compare", compare)
    monkeypatch.setattr(sys, "argv", ["triad-demo", str(tmp_path / "new")])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    text = (tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    assert "do not expect a gain" in text
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


def test_other_images_in_an_earlier_demo_s_folder_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finished = tmp_path / "demo" / ".finished"
    finished.mkdir(parents=True)
    (finished / "images").write_text("simulated brains")
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "imagesTr" / "hippocampus_001.nii.gz").touch()
    arguments = ["triad-demo", str(tmp_path / "demo"), "--hippocampi", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert "expected an earlier demo of real hippocampi, got one of sim" in capsys.readouterr().err
