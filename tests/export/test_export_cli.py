"""What `triad-export` refuses, in one line."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nnunet_triad.export import cli

NAME = "nnUNetTrainerScratchUNet"


def refuse(
    folder: Path,
    output: Path,
    *options: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> str:
    """Run the command, which must fail and write nothing; return its one line."""
    before = sorted(output.parent.iterdir())
    command = ["triad-export", str(folder), str(output), *(options or ("--format", "onnx"))]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert sorted(output.parent.iterdir()) == before
    (line,) = capsys.readouterr().err.splitlines()
    return line


def change_checkpoint(folder: Path, **values: object) -> None:
    path = folder / "fold_0" / "checkpoint_final.pth"
    content = torch.load(path, weights_only=True)
    torch.save({**content, **values}, path)


def test_target_that_exists_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    line = refuse(tmp_path, tmp_path / "out", monkeypatch=monkeypatch, capsys=capsys)
    assert "out: expected a name that is free, got one that is there; remove it" in line


def _drop_plans(folder: Path) -> None:
    (folder / "plans.json").unlink()


def _break_plans(folder: Path) -> None:
    (folder / "plans.json").write_text("{")


def _empty_plans(folder: Path) -> None:
    (folder / "plans.json").write_text("{}")


def _drop_checkpoint(folder: Path) -> None:
    (folder / "fold_0" / "checkpoint_final.pth").unlink()


def _cut_checkpoint(folder: Path) -> None:
    path = folder / "fold_0" / "checkpoint_final.pth"
    path.write_bytes(path.read_bytes()[:1000])


def _name_another_trainer(folder: Path) -> None:
    change_checkpoint(folder, trainer_name="nnUNetTrainerOfSomebody")


def _diverge(folder: Path) -> None:
    path = folder / "fold_0" / "checkpoint_final.pth"
    content = torch.load(path, weights_only=True)
    next(iter(content["network_weights"].values()))[0] = float("nan")
    torch.save(content, path)


def _change_network(folder: Path) -> None:
    plans = json.loads((folder / "plans.json").read_text())
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    architecture["arch_kwargs"]["features_per_stage"] = [4, 12]
    (folder / "plans.json").write_text(json.dumps(plans))


def _make_cascade(folder: Path) -> None:
    plans = json.loads((folder / "plans.json").read_text())
    plans["configurations"]["3d_fullres"]["previous_stage"] = "3d_lowres"
    (folder / "plans.json").write_text(json.dumps(plans))


def _forget_trainer(folder: Path) -> None:
    path = folder / "fold_0" / "checkpoint_final.pth"
    content = torch.load(path, weights_only=True)
    del content["trainer_name"]
    torch.save(content, path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_drop_plans, "expected a trained model, nnUNet_results/.*, got a folder without plans"),
        (_break_plans, "plans.json: expected JSON, got"),
        (_empty_plans, "expected plans, dataset.json and checkpoints of one training"),
        (_drop_checkpoint, "--folds: expected folds with a checkpoint_final.pth .*, got none"),
        (_cut_checkpoint, "checkpoint_final.pth: expected"),
        (_name_another_trainer, "expected a trainer .*, got nnUNetTrainerOfSomebody; name its"),
        (_forget_trainer, "got one without trainer_name"),
        (_diverge, "checkpoint_final.pth: expected finite weights, got others in encoder"),
        (_change_network, "got another one .*; export with the version .* that trained it"),
        (_make_cascade, "got the second stage of a cascade; export 3d_fullres or 3d_lowres"),
    ],
)
@pytest.mark.parametrize("to", ["onnx", "nnunet"])
def test_bad_model_is_refused(
    damage: Callable[[Path], None],
    message: str,
    to: str,
    make_model: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = make_model(NAME)
    damage(folder)
    output = tmp_path / "out.zip"
    capsys.readouterr()
    line = refuse(folder, output, "--format", to, monkeypatch=monkeypatch, capsys=capsys)
    assert re.search(message, line), line


def test_folds_that_are_not_there_are_refused(
    make_model: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = make_model(NAME, folds=(0, 2))
    capsys.readouterr()
    options = ("--format", "torchscript", "--folds", "0,1")
    line = refuse(folder, tmp_path / "out", *options, monkeypatch=monkeypatch, capsys=capsys)
    assert "got 1; finished: 0, 2" in line


def test_zip_without_its_ending_is_refused(
    make_model: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = make_model(NAME)
    capsys.readouterr()
    options = ("--format", "nnunet")
    line = refuse(folder, tmp_path / "out", *options, monkeypatch=monkeypatch, capsys=capsys)
    assert "OUT: expected NAME.zip for nnU-Net, got out" in line
