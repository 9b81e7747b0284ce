import importlib
from pathlib import Path

import pytest
from sklearn.model_selection import KFold

from nnunet_triad.architectures import encoder_spec
from nnunet_triad.demo.material import hippocampi, phantoms
from nnunet_triad.demo.steps import (
    ENCODER,
    INITIALIZATIONS,
    WEIGHTS,
    dataset_steps,
    report_step,
    sentence_model,
    steps,
    trainer_name,
    training_steps,
    write_division,
)
from nnunet_triad.errors import UserError
from nnunet_triad.trainers.suffixes import SUFFIXES
from nnunet_triad.weights.locate import find_weights
from tests.parsing import check_parses

FOLDER = Path("/demo")


@pytest.fixture(params=["phantoms", "hippocampi"])
def material(request: pytest.FixtureRequest, tmp_path: Path):
    if request.param == "phantoms":
        return phantoms(FOLDER)
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "imagesTr" / "hippocampus_001.nii.gz").touch()
    return hippocampi(FOLDER, tmp_path)


def all_steps(material) -> list:
    return [*dataset_steps(FOLDER, material), *training_steps(FOLDER, material)]


def test_steps_have_names_of_their_own_and_end_in_predictions(material) -> None:
    names = [step.name for step in all_steps(material)]
    assert len(set(names)) == len(names)
    assert names[-1] == f"train_{INITIALIZATIONS[-1]}"


def test_commands_take_the_options_that_the_demo_gives_them(material) -> None:
    # Parsed, not run: an option that was renamed or removed fails here and not after minutes.
    for step in (*all_steps(material), report_step(FOLDER, material)):
        if step.command[0].startswith("triad-"):
            check_parses(step.command)


def test_trainers_of_the_demo_differ_in_their_start_alone() -> None:
    variants = importlib.import_module("nnunet_triad.trainers.variants")
    triad, scratch = (getattr(variants, trainer_name(name)) for name in INITIALIZATIONS)
    assert triad.encoder == scratch.encoder == encoder_spec(ENCODER)
    assert (triad.initialization, scratch.initialization) == ("triad", None)


def test_pretrained_trainer_takes_the_encoder_that_comes_with_the_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRIAD_WEIGHTS", WEIGHTS)
    assert find_weights("triad", encoder_spec(ENCODER)).info.spec == encoder_spec("unet_4")


def test_pretraining_and_segmentation_of_phantoms_share_no_subject() -> None:
    seeds = [
        step.command[step.command.index("--seed") + 1]
        for step in dataset_steps(FOLDER, phantoms(FOLDER))
        if step.command[0] == "triad-phantom"
    ]
    assert len(set(seeds)) == len(seeds) == 2


def test_report_tells_how_long_the_trainings_were(material) -> None:
    length = SUFFIXES["demo"].settings
    iterations = length["num_epochs"] * length["num_iterations_per_epoch"]
    text = " ".join(report_step(FOLDER, material).command)
    pretraining = next(s for s in all_steps(material) if s.name == "pretrain").command
    assert f"for {iterations} iterations" in text
    assert f"{pretraining[pretraining.index('--steps') + 1]} steps of pre-training" in text


def test_real_test_cases_are_ones_that_the_encoder_has_not_seen(tmp_path: Path) -> None:
    cases = [f"hippocampus_{k:03d}" for k in range(260)]
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "imagesTr" / f"{cases[0]}.nii.gz").touch()
    train, test = hippocampi(tmp_path, tmp_path).divide(cases)
    # nnU-Net's fold 0 is scikit-learn's
    _, places = next(iter(KFold(5, shuffle=True, random_state=12345).split(cases)))
    assert test == [cases[k] for k in places]
    assert len(train) == 4
    assert not set(train) & set(test)


def test_division_lists_each_case_once_and_leaves_the_template_out(tmp_path: Path) -> None:
    labels = tmp_path / "nnUNet_raw" / phantoms(tmp_path).dataset / "labelsTr"
    labels.mkdir(parents=True)
    for k in range(17):
        (labels / f"phantom_{k:03d}.nii.gz").touch()
    lines = write_division(tmp_path, phantoms(tmp_path)).read_text().splitlines()
    assert lines[0] == "case,split"
    assert lines[1:] == [f"phantom_{k:03d},{'train' if k <= 4 else 'valid'}" for k in range(1, 17)]


def test_division_is_made_once_the_dataset_is_there(tmp_path: Path) -> None:
    material = phantoms(tmp_path)
    for step in steps(tmp_path, material):
        if step.name == "dataset":
            assert not (tmp_path / "split.csv").exists()
            labels = tmp_path / "nnUNet_raw" / material.dataset / "labelsTr"
            labels.mkdir(parents=True)
    assert (tmp_path / "split.csv").is_file()


def test_folder_without_the_hippocampi_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--hippocampi: expected MSD's Task04_Hippocampus"):
        hippocampi(tmp_path, tmp_path)


def test_sentence_model_is_a_folder_with_weights() -> None:
    assert list(sentence_model().glob("*.safetensors"))
