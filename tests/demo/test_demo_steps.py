import importlib
from pathlib import Path

import pytest

from nnunet_triad.architectures import encoder_spec
from nnunet_triad.demo.steps import (
    ENCODER,
    INITIALIZATIONS,
    report_step,
    sentence_model,
    steps,
    trainer_name,
)
from nnunet_triad.trainers.suffixes import SUFFIXES
from tests.parsing import check_parses

ALL_STEPS = [*steps(Path("/demo")), report_step(Path("/demo"))]
OUR_COMMANDS = [step for step in ALL_STEPS if step.command[0].startswith("triad-")]


def test_steps_have_names_of_their_own_and_end_in_predictions() -> None:
    names = [step.name for step in steps(Path("/demo"))]
    assert len(set(names)) == len(names)
    assert names[0] == "phantom"
    assert names[-1] == f"predict_{INITIALIZATIONS[-1]}"


@pytest.mark.parametrize("step", OUR_COMMANDS, ids=lambda step: step.name)
def test_commands_take_the_options_that_the_demo_gives_them(step) -> None:
    # Parsed, not run: an option that was renamed or removed fails here and not after minutes.
    check_parses(step.command)


def test_trainers_of_the_demo_differ_in_their_start_alone() -> None:
    variants = importlib.import_module("nnunet_triad.trainers.variants")
    triad, scratch = (getattr(variants, trainer_name(name)) for name in INITIALIZATIONS)
    assert triad.encoder == scratch.encoder == encoder_spec(ENCODER)
    assert (triad.initialization, scratch.initialization) == ("triad", None)


def test_pretraining_and_segmentation_share_no_subject() -> None:
    seeds = [
        step.command[step.command.index("--seed") + 1]
        for step in steps(Path("/demo"))
        if step.command[0] == "triad-phantom"
    ]
    assert len(set(seeds)) == len(seeds) == 2


def test_report_tells_how_long_the_trainings_were() -> None:
    length = SUFFIXES["demo"].settings
    iterations = length["num_epochs"] * length["num_iterations_per_epoch"]
    text = " ".join(report_step(Path("/demo")).command)
    pretraining = next(step for step in ALL_STEPS if step.name == "pretrain").command
    assert f"{iterations} iterations of fine-tuning" in text
    assert f"{pretraining[pretraining.index('--steps') + 1]} steps of pre-training" in text


def test_sentence_model_is_a_folder_with_weights() -> None:
    assert list(sentence_model().glob("*.safetensors"))
