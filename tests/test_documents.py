"""The pages are typed: their commands exist, and those that take seconds run as they stand."""

import json
import subprocess
from collections.abc import Iterable
from configparser import ConfigParser
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK
import torch
import typer

from classification.model_file import Description, build_network, save_model
from classification.settings import PreprocessSettings, TrainSettings
from nnunet_triad.architectures import build_encoder, encoder_spec
from nnunet_triad.cli import run_app
from nnunet_triad.weights.catalogue import find_entry
from nnunet_triad.weights.file import WeightsInfo, save_weights
from tests.classification.volumes import write_dataset
from tests.documents import FOLDER, PAGES, code_blocks, commands
from tests.pretraining.conftest import write_store
from tests.registration.heads import head, save

ROOT = Path(__file__).parents[1]


def programs() -> dict[str, typer.Typer]:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options.entry_points"]["console_scripts"].strip().splitlines()
    pairs = (line.replace(" ", "").split("=") for line in lines)
    return {name: import_module(target.split(":")[0]).app for name, target in pairs}


def options_of(app: typer.Typer, words: list[str]) -> set[str]:
    """Return the options that a call may have, its subcommand's where it names one."""
    command = typer.main.get_command(app)
    names = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
    subcommands = getattr(command, "commands", {})
    first = next((word for word in words if word in subcommands), None)
    for one in [subcommands[first]] if first else subcommands.values():
        for param in one.params:
            names |= {*param.opts, *param.secondary_opts}
    return names | {"--help"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_option_that_a_page_types_exists(page):
    known = programs()
    for name, *words in commands(page):
        assert name in known, f"{page.name}: {name}"
        typed = {word.split("=")[0] for word in words if word.startswith("-")}
        assert typed <= options_of(known[name], words), f"{page.name}: {name} {words}"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The files that the pages name, in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRIAD_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    spec = encoder_spec("swin_t")
    save_weights(tmp_path / "triad_swin_t.safetensors", build_encoder(spec), WeightsInfo(spec=spec))
    (followup, _), (baseline, _) = head(centre_mm=(6.0, 2.0, -4.0), seed=1), head()
    for name, image in (("followup", followup), ("baseline", baseline), ("t1", baseline)):
        save(tmp_path / f"{name}.nii.gz", image)
    return tmp_path


def type_calls(
    calls: Iterable[list[str]], monkeypatch: pytest.MonkeyPatch, *more: str
) -> list[str]:
    """Run commands one after another, trainings with further options; return them."""
    known, typed = programs(), []
    for name, *words in calls:
        monkeypatch.setattr("sys.argv", [name, *words, *(more if "train" in words else ())])
        with pytest.raises(SystemExit) as stop:
            run_app(known[name])
        assert not stop.value.code, words
        typed.append(" ".join(words))
    return typed


def test_follow_up_is_typed_as_it_stands(here, monkeypatch):
    shell = [line for block in code_blocks("follow-up.md", "bash") for line in block.splitlines()]
    phantom, *calls = commands(FOLDER / "follow-up.md")
    type_calls([phantom], monkeypatch)
    for line in shell:
        if line.startswith("cp "):
            subprocess.run(line, shell=True, check=True)
    type_calls(calls, monkeypatch)
    report = json.loads((here / "deformed.json").read_text(encoding="utf-8"))
    assert set(report["similarity"]) == {"before", "aligned", "deformed"}
    vectors = SimpleITK.ReadImage("field.nii.gz", SimpleITK.sitkVectorFloat64)
    followup, deformed = (
        SimpleITK.ReadImage(f"{name}.nii.gz", SimpleITK.sitkFloat32)
        for name in ("followup", "deformed")
    )
    field = SimpleITK.DisplacementFieldTransform(vectors)
    resampled = SimpleITK.Resample(followup, deformed, field, SimpleITK.sitkLinear)
    theirs = SimpleITK.GetArrayFromImage(resampled)
    ours = SimpleITK.GetArrayFromImage(deformed)
    assert np.abs(theirs - ours).max() < 0.01 * np.ptp(ours)


def test_own_table_is_typed_as_it_stands(here, monkeypatch):
    write_dataset(here / "clinic", num_each=7)
    shell = [line for block in code_blocks("own-table.md", "bash") for line in block.splitlines()]
    (cut,) = (line for line in shell if line.startswith("cut "))
    subprocess.run(cut, shell=True, check=True)
    assert (here / "clinic" / "clinic.csv").read_text().startswith("scan,diagnosis,patient\n")
    calls = [call for call in commands(FOLDER / "own-table.md") if "phantom" not in call[0]]
    monkeypatch.setattr("nnunet_triad.evaluation.classification._NUM_RESAMPLES", 100)
    type_calls(calls[:3], monkeypatch, "--epochs", "1", "--batch-size", "3")
    divided = [
        pd.read_csv(here / "clinic" / run / "split.csv") for run in ("scratch", "pretrained")
    ]
    pd.testing.assert_frame_equal(*divided)
    assert not (here / "clinic" / "comparison" / "comparison.csv").read_text().count("nan,nan,nan")


def test_file_of_the_catalogue_is_found_where_the_page_puts_it(here, monkeypatch, capsys):
    entry = find_entry("voco-b")
    (here / "cache" / "weights").mkdir(parents=True)
    (here / "triad_swin_t.safetensors").rename(here / "cache" / "weights" / entry.file.name)
    monkeypatch.setattr("sys.argv", ["triad-weights", "show", "voco-b"])
    with pytest.raises(SystemExit):
        run_app(programs()["triad-weights"])
    # It is found, and refused, because it is not the file that its publisher has.
    assert "expected SHA-256" in capsys.readouterr().err


def test_python_page_runs_as_it_stands(here, monkeypatch):
    write_store(here / "store")
    settings = TrainSettings(encoder="swin_t", preprocess=PreprocessSettings(size=32))
    description = Description(classes=("a", "b"), num_channels=1, initialization="scratch")
    (here / "clinic" / "scratch").mkdir(parents=True)
    save_model(
        here / "clinic" / "scratch" / "model.pt",
        build_network(settings, description), settings, description, epoch=1,
    )  # fmt: skip
    blocks = code_blocks("python.md", "python")
    assert len(blocks) == 8
    for block in blocks:
        code = compile(block, "python.md", "exec")
        if "MODEL_FOLDER" not in block:  # nnU-Net's own interface, and a trained model
            exec(code, {})
    assert (here / "field.nii.gz").is_file()
