"""A new objective is its file alone: options, views, heads, loss, log, pictures, checkpoint."""

import importlib
import json
import sys

import matplotlib.image
import pandas as pd
import pytest
import torch

from pretraining import objectives, pretrain_cli
from pretraining.loop import pretrain
from pretraining.objectives import OBJECTIVES, find_objectives
from tests.documents import code_block


@pytest.fixture
def _toy_file(tmp_path, monkeypatch):
    """A file toy.py, as if it stood beside the others."""
    (tmp_path / "toy.py").write_text(code_block("extending.md", "An objective"))
    monkeypatch.setattr(objectives, "__path__", [*objectives.__path__, str(tmp_path)])
    for name, found in find_objectives().items():
        monkeypatch.setitem(OBJECTIVES, name, found)
    yield
    del sys.modules["pretraining.objectives.toy"]


@pytest.mark.usefixtures("_toy_file")
def test_new_objective_needs_only_its_file(make_settings, make_data, group, tmp_path):
    settings = make_settings(
        objective_name="toy", smoothing=0.2, crop_size=(32, 32, 64), steps=2, held_out=3
    )

    with torch.random.fork_rng():
        pretrain(
            make_data(settings), tmp_path / "run", settings=settings, group=group, is_quiet=True
        )

    output = tmp_path / "run"
    log = pd.read_csv(output / "log.csv")
    assert log.columns.tolist() == [
        *("step", "loss", "accuracy", "alignment", "rank", "learning_rate", "gradient_norm"),
        *("seconds", "wait_seconds"),
    ]
    assert log["loss"].notna().all() and log["accuracy"].isin([0, 0.5, 1]).all()
    assert json.loads((output / "settings.json").read_text())["objective"] == {"smoothing": 0.2}
    for name in ("turned.png", "progress.png"):
        assert matplotlib.image.imread(output / name).ndim == 3
    state = torch.load(output / "checkpoint.pt", weights_only=True)
    heads = {name for name in state["model"] if not name.startswith("encoder.")}
    assert heads == {"classifier.weight", "classifier.bias"}


@pytest.mark.usefixtures("_toy_file")
def test_new_objective_brings_its_options(monkeypatch, capsys):
    from pretraining import settings

    monkeypatch.setattr(sys, "argv", ["triad-pretrain", "--help"])
    try:
        importlib.reload(settings)
        importlib.reload(pretrain_cli)
        with pytest.raises(SystemExit):
            pretrain_cli.main()
        printed = " ".join(capsys.readouterr().out.split())
    finally:
        monkeypatch.undo()
        importlib.reload(settings)
        importlib.reload(pretrain_cli)

    assert "toy: which way round" in printed
    assert "--smoothing <float> Of the labels. [default: (toy: 0.1)]" in printed
