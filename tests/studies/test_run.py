"""The studies by their command: they go on where they stopped, in all tasks."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from nnunet_triad.demo.steps import sentence_model
from nnunet_triad.errors import UserError
from studies.__main__ import app
from studies.command import run
from studies.design import DATA, SCALES, TRAININGS
from studies.plan import trials
from studies.report import write_report
from studies.run import run_studies, trial_file
from studies.simulate import split_classes

SMOKE = SCALES["smoke"]


def test_studies_go_on_where_they_stopped_and_draw_their_figures(tmp_path):
    first, second = list(trials(SMOKE))[:2]
    missing = run_studies(tmp_path, SMOKE, model=sentence_model(), workers=1, limit=1)
    before = trial_file(tmp_path, first).read_bytes()
    trial_file(tmp_path, first).unlink()

    now_missing = run_studies(tmp_path, SMOKE, model=sentence_model(), workers=1, limit=2)

    assert now_missing == missing - 1
    assert trial_file(tmp_path, first).read_bytes() == before  # the same on a second run
    table = pd.read_csv(trial_file(tmp_path, second))
    assert table.value.dropna().between(0, 1).all()
    assert len(table[table.iteration == 2]) == 2 * 4
    written = write_report(tmp_path, tmp_path / "report")
    assert {path.name for path in written} == {
        *("results.csv", "tables.md", "labelled.png", "curves.png", "ablations.png")
    }
    assert all(path.stat().st_size for path in written)


@pytest.mark.parametrize(
    ("key", "cases"),
    [
        pytest.param("rare-unet_4-scratch-focal-loss-seed0", 6, marks=pytest.mark.long),
        ("atlas-transmorph_t-scratch-references-seed0", 1),
        ("aligned-brains-swinunetr_t-scratch-finetune-seed1", 1),
        pytest.param(
            "ventricles-unet_4-small-masked-unet_4-linear-probe-seed0", 10, marks=pytest.mark.long
        ),
    ],
)
def test_other_tasks_run_by_their_own_commands(tmp_path, key, cases):
    (trial,) = [t for t in trials(SMOKE) if t.key == key]

    missing = run_studies(tmp_path, SMOKE, model=sentence_model(), workers=1, only=key)

    assert missing == 0
    table = pd.read_csv(trial_file(tmp_path, trial))
    if trial.task == "classification":
        assert len(table[table.metric == "correct"]) == cases
        assert {"recall", "auc", "macro_f1"} < set(table.metric)
    else:
        errors = table[table.metric == "endpoint_error_mm"].groupby("network").value
        assert (errors.count() == cases).all()
        assert "before" in errors.groups
        if trial.training == "references":
            assert errors.mean()["true displacement"] == 0
            assert errors.mean()["60 refinements"] < errors.mean()["before"]
    for path in write_report(tmp_path, tmp_path / "report"):
        assert path.exists()


def test_rare_classes_are_rare_in_training_and_not_in_test():
    labels = np.tile(["T1w", "T2w", "FLAIR", "PDw", "T1ce"], 70)
    manifest = pd.DataFrame({"image": range(350), "label": labels, "split": "train"})

    table = split_classes(manifest, DATA["rare"])

    counts = table.groupby(["label", "split"]).size()
    assert counts["PDw"].to_dict() == {"train": 5, "val": 2, "test": 25}
    assert counts["T1w"].to_dict() == {"train": 35, "val": 10, "test": 25}
    assert set(table.label) == {"T1w", "T1ce", "PDw"}


def test_remedies_are_the_classifiers_own_options():
    assert TRAININGS["focal-loss"].options == ("--encoder-rate", 1, "--loss", "focal")


def test_studies_of_another_scale_are_refused(tmp_path):
    (tmp_path / "scale.json").write_text('{"iterations": 7}', encoding="utf-8")

    with pytest.raises(UserError, match="expected studies of this scale"):
        run_studies(tmp_path, SMOKE, model=sentence_model(), workers=1)


def test_a_command_that_fails_is_quoted(tmp_path):
    with pytest.raises(UserError, match=r"triad-embed .*: expected exit code 0, got 2: .*nothing"):
        run("triad-embed", tmp_path / "nothing")


def test_the_command_takes_no_file_for_a_folder(tmp_path):
    file = tmp_path / "file"
    file.touch()
    for arguments in ([str(file)], [str(tmp_path / "new"), "--output", str(file)]):
        result = CliRunner().invoke(app, arguments)
        assert isinstance(result.exception, UserError)
        assert str(result.exception) == f"{file}: expected a folder, got a file; name another one"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--scale", "x"), "--scale: expected full or smoke, got 'x'"),
        (("--workers", "0"), "--workers: expected 1 or more, got 0"),
        (("--limit", "-1"), "--limit: expected 0 or more, got -1"),
        (("--task", "x"), "--task: expected segmentation, classification or registration"),
    ],
)
def test_the_command_names_a_wrong_option(tmp_path, options, message):
    result = CliRunner().invoke(app, [str(tmp_path), *options])

    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)
