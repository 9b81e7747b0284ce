import importlib
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from nnunet_triad.architectures import encoder_spec
from nnunet_triad.demo.steps import (
    ENCODER,
    INITIALIZATIONS,
    environment,
    report_step,
    sentence_model,
    steps,
    trainer_name,
)

ALL_STEPS = [*steps(Path("/demo")), report_step(Path("/demo"))]
OUR_COMMANDS = [step for step in ALL_STEPS if step.command[0].startswith("triad-")]


def parser_of(name: str) -> typer.core.TyperGroup:
    """Return the parser of one of this project's commands."""
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name=name)
    module = importlib.import_module(entry.module)
    return get_command(module.app)


def test_steps_have_names_of_their_own_and_end_in_predictions() -> None:
    names = [step.name for step in steps(Path("/demo"))]
    assert len(set(names)) == len(names)
    assert names[0] == "phantom"
    assert names[-1] == f"predict_{INITIALIZATIONS[-1]}"


@pytest.mark.parametrize("step", OUR_COMMANDS, ids=lambda step: step.name)
def test_commands_take_the_options_that_the_demo_gives_them(step, tmp_path: Path) -> None:
    # Parsed, not run: an option that was renamed or removed fails here and not after minutes.
    command, arguments = parser_of(step.command[0]), list(step.command[1:])
    context = command.make_context(step.command[0], arguments)
    if hasattr(command, "commands"):
        name, command, arguments = command.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        context = command.make_context(name, arguments)
    assert not context.args


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
    variants = importlib.import_module("nnunet_triad.trainers.variants")
    length = variants.SUFFIXES["demo"].settings
    iterations = length["num_epochs"] * length["num_iterations_per_epoch"]
    text = " ".join(report_step(Path("/demo")).command)
    pretraining = next(step for step in ALL_STEPS if step.name == "pretrain").command
    assert f"{iterations} iterations of fine-tuning" in text
    assert f"{pretraining[pretraining.index('--steps') + 1]} steps of pre-training" in text


def test_environment_keeps_everything_in_the_folder() -> None:
    variables = environment(Path("/demo"))
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


def test_sentence_model_is_a_folder_with_weights() -> None:
    assert list(sentence_model().glob("*.safetensors"))
