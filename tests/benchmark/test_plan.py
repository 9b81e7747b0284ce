"""The plan: what is missing, and the exact commands."""

import csv
import re
import subprocess
from importlib import import_module
from importlib.metadata import entry_points

import click
import pytest
import typer
from typer.testing import CliRunner

from nnunet_triad.benchmark.cli import app
from nnunet_triad.benchmark.execute import requirements, steps
from nnunet_triad.benchmark.runs import Run, paper_runs
from nnunet_triad.errors import UserError
from nnunet_triad.trainers import variants


def run(dataset="BraTS21", architecture="unet", initialization="triad", **more):
    values = {"task": "segmentation", "dataset": dataset, "architecture": architecture}
    return Run(**{**values, "initialization": initialization, **more})


def plan(*options):
    return CliRunner().invoke(app, ["plan", *map(str, options)], catch_exceptions=False)


def test_plan_prints_all_of_the_papers_runs_without_any_setup(tmp_path, monkeypatch):
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "TRIAD_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    output = plan(tmp_path / "b").output
    assert f"[{len(paper_runs())}/{len(paper_runs())}]" in output
    for network in ("UNet", "SwinB", "SwinL", "SwinH"):
        for initialization in ("Scratch", "VoCo", "Triad"):
            command = f"nnUNetv2_train 501 3d_fullres 0 -tr nnUNetTrainer{initialization}{network}"
            assert f"{command} --val_best" in output
    assert "export nnUNet_raw=FOLDER" in output
    assert not (tmp_path / "b").exists()


def test_each_planned_command_is_one_that_its_program_takes(workplace):
    """Parsed by the programs themselves; nothing is run."""
    programs = {
        entry.name: typer.main.get_command(import_module(entry.module).app)
        for entry in entry_points(group="console_scripts")
        if entry.name.startswith("triad-")
    }
    commands = [step.command for run in paper_runs() for step in steps(run, workplace.environment)]
    ours = [command for command in commands if command[0] in programs]

    for program, *arguments in ours:
        group = programs[program]
        name, command, rest = group.resolve_command(click.Context(group), list(arguments))
        command.make_context(name, rest)

    assert {(program, name) for program, name, *_ in ours} >= {
        ("triad-classify", "train"),
        ("triad-register", "train"),
        ("triad-register", "evaluate"),
    }


@pytest.mark.parametrize("dataset", ["ADNI", "OrganMNIST3D", "LUNA16", "Own"])
def test_a_classification_takes_the_preset_of_its_dataset(dataset, workplace):
    (step,) = steps(run(dataset, "swin_b", task="classification"), workplace.environment)

    preset = f"--preset {dataset.lower()} "
    assert (preset in str(step)) == (dataset != "Own")
    assert "--encoder-rate 1" in str(step)


def test_each_trainer_of_the_plan_exists():
    from nnunet_triad.benchmark.segmentation import trainer_name

    names = {trainer_name(r) for r in paper_runs() if r.task == "segmentation"}
    assert len(names) == 12
    assert all(getattr(variants, name).__name__ == name for name in names)


@pytest.mark.parametrize(
    ("initialization", "architecture", "trainer", "weights"),
    [
        ("mine", "swin_b", "nnUNetTrainerPretrainedSwinB", "mine_swin_b.safetensors"),
        (
            "suprem",
            "swin_b",
            "nnUNetTrainerPretrainedSwinBv1",
            "supervised_suprem_swinunetr_2100.pth",
        ),
    ],
)
def test_weights_without_a_trainer_of_their_own_are_taken_by_pretrained(
    initialization, architecture, trainer, weights, workplace
):
    path = workplace.root / "weights" / weights
    path.touch()
    wanted = run(architecture=architecture, initialization=initialization)

    step = steps(wanted, workplace.environment)[-1]

    assert all(one.is_met for one in requirements(wanted, workplace.environment))
    assert f"-tr {trainer} " in str(step)
    assert step.variables["TRIAD_WEIGHTS"] == str(path)
    assert wanted.name in step.variables["nnUNet_results"]  # another one has the same trainer
    assert hasattr(variants, trainer)


def test_requirements_are_met_by_what_is_there(workplace):
    found = {one.name: one.found for one in requirements(run(), workplace.environment)}
    assert found["dataset"].endswith("raw/Dataset501_BraTS21")
    assert found["weights"].endswith("weights/triad_unet.safetensors")
    voco = requirements(run(initialization="voco"), workplace.environment)
    assert voco[1].found.endswith("VoComni_nnunet.pt")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"dataset": "MSD-Colon"}, "expected Dataset517_NAME .* triad-dataset convert 517"),
        ({"dataset": "Own"}, "expected one of the paper's or DatasetNNN_NAME, got Own"),
        ({"architecture": "swin_h"}, "expected triad_swin_h.safetensors in .*, got no such file"),
        ({"architecture": "swin_b", "initialization": "voco"}, "or VoCo_B_SSL_head.pt"),
        ({"task": "classification", "dataset": "LUNA16"}, "triad-classify prepare luna16"),
        (
            {"task": "registration", "dataset": "OASIS", "architecture": "transmorph_l"},
            "triad-register prepare oasis",
        ),
    ],
)
def test_missing_requirement_says_what_to_do(workplace, changes, problem):
    unmet = [n.problem for n in requirements(run(**changes), workplace.environment) if not n.is_met]
    assert re.search(problem, "; ".join(unmet))


def test_weights_on_the_hub_are_taken_as_given(workplace, monkeypatch):
    monkeypatch.setenv("TRIAD_WEIGHTS", "hf://org/name@v1")
    assert requirements(run(), workplace.environment)[1].found == "hf://org/name@v1"
    mine = steps(run(initialization="mine"), workplace.environment)[-1]
    assert mine.variables["TRIAD_WEIGHTS"] == "hf://org/name/mine_unet.safetensors@v1"


def test_one_file_is_the_weights_of_those_runs_alone_that_its_name_fits(workplace, monkeypatch):
    file = workplace.root / "weights" / "VoComni_nnunet.pt"
    monkeypatch.setenv("TRIAD_WEIGHTS", str(file))

    def weights(**changes):
        return requirements(run(**changes), workplace.environment)[1]

    assert weights(initialization="voco").found == str(file)
    assert weights(initialization="pretrained").found == str(file)
    for other in ({}, {"initialization": "voco", "architecture": "swin_b"}):
        assert re.search(r"got the file .*VoComni_nnunet.pt; export", weights(**other).problem)


def test_published_file_is_the_weights_by_its_name(workplace, monkeypatch):
    def weights(initialization, architecture):
        wanted = run(initialization=initialization, architecture=architecture)
        return requirements(wanted, workplace.environment)[1]

    monkeypatch.setenv("TRIAD_WEIGHTS", "triad-mini")  # unet_4, the upper levels of unet_t
    for initialization in ("triad", "pretrained"):
        assert weights(initialization, "unet_t").found.endswith("triad-mini.safetensors")
    problem = weights("voco", "unet_t").problem
    assert "expected those of voco for unet_t, got triad-mini, triad for unet_4" in problem
    assert "expected those of triad for unet, got" in weights("triad", "unet").problem
    monkeypatch.setenv("TRIAD_WEIGHTS", "voco-b")
    assert weights("voco", "swin_b").problem.endswith("no file; triad-weights fetch voco-b")


def test_weights_are_told_without_nnunets_folders(workplace, monkeypatch):
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.delenv(name)
    found = {one.name: one for one in requirements(run(), workplace.environment)}
    assert set(found) == {
        *("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"),
        *("dataset", "weights"),
    }
    assert found["weights"].is_met
    assert not found["dataset"].is_met


def test_a_command_of_the_plan_can_be_pasted_once_the_variable_is_set(workplace, monkeypatch):
    monkeypatch.delenv("TRIAD_DATA")
    train, _ = steps(
        run("ACDC", "transmorph_l", "scratch", task="registration"), workplace.environment
    )
    shell = f"set -- {train}; echo $3"

    typed = subprocess.run(
        ["bash", "-c", shell],
        env={"TRIAD_DATA": "/some data"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert typed.stdout.strip() == "/some data/ACDC/manifest.csv"


def test_manifest_tasks_get_the_papers_options(workplace):
    classify = Run(
        task="classification", dataset="ADNI", architecture="swin_b", initialization="triad"
    )
    (step,) = steps(classify, workplace.environment)
    assert "--preset adni --encoder-rate 1 " in str(step)
    assert "--init triad" in str(step)
    register = Run(
        task="registration", dataset="IXI", architecture="swinunetr_b", initialization="scratch"
    )
    train, evaluate = steps(register, workplace.environment)
    assert "--network swinunetr_b --init scratch --preset ixi" in str(train)
    assert "--split test --labels ixi --dataset IXI" in str(evaluate)


def test_projects_with_version_1_weights_get_that_network(workplace):
    (workplace.root / "weights" / "self_supervised_nv_swin_unetr_5050.pt").touch()
    shared = {"initialization": "swinunetr"}
    classify = run(task="classification", dataset="ADNI", architecture="swin_b", **shared)
    register = run(task="registration", dataset="IXI", architecture="swinunetr_b", **shared)
    for wanted, option in ((classify, "--encoder swin_b_v1"), (register, "swinunetr_b_v1 --init")):
        assert all(one.is_met for one in requirements(wanted, workplace.environment))
        assert option in str(steps(wanted, workplace.environment)[0])


@pytest.mark.parametrize(
    ("task", "architecture"),
    [("segmentation", "unet"), ("classification", "swin_l"), ("registration", "transmorph_l")],
)
def test_row_for_which_no_weights_are_published_is_one_line(workplace, task, architecture):
    wanted = run(
        dataset="Dataset501_A", architecture=architecture, initialization="suprem", task=task
    )
    message = r"initialization: expected other weights for \w+, .* for swin_b_v1, got suprem"
    for ask in (requirements, steps):
        with pytest.raises(UserError, match=message):
            ask(wanted, workplace.environment)


@pytest.mark.parametrize("initialization", ["scratch", "swinunetr"])
def test_version_1_networks_keep_their_name_and_encoder(workplace, initialization):
    (workplace.root / "weights" / "self_supervised_nv_swin_unetr_5050.pt").touch()
    wanted = run(
        task="registration",
        dataset="IXI",
        architecture="swinunetr_b_v1",
        initialization=initialization,
    )
    assert "--network swinunetr_b_v1 --init" in str(steps(wanted, workplace.environment)[0])
    weights = [n for n in requirements(wanted, workplace.environment) if n.name == "weights"]
    assert all(one.is_met for one in weights)
    assert len(weights) == (initialization != "scratch")


def test_oasis_is_scored_on_its_validation_pairs_and_own_data_without_a_preset(workplace):
    def commands(dataset):
        values = {"task": "registration", "architecture": "transmorph_l"}
        run = Run(**values, dataset=dataset, initialization="scratch")
        return " && ".join(map(str, steps(run, workplace.environment)))

    assert "--split val --labels oasis" in commands("OASIS")
    assert "--preset" not in commands("Own")
    assert "--labels" not in commands("Own")


def test_commands_go_on_where_nnunet_stopped(workplace):
    def train_command():
        return str(steps(run(), workplace.environment)[-1])

    folder = workplace.root / "results/Dataset501_BraTS21"
    folder /= "nnUNetTrainerTriadUNet__nnUNetPlans__3d_fullres/fold_0"
    folder.mkdir(parents=True)
    assert train_command().endswith("--val_best -device cpu")
    (folder / "checkpoint_best.pth").touch()
    assert train_command().endswith("--c")
    (folder / "checkpoint_final.pth").touch()
    assert train_command().endswith("--val")


def test_preprocessing_is_left_out_when_it_is_complete(workplace):
    folder = workplace.root / "preprocessed/Dataset501_BraTS21"
    (folder / "gt_segmentations").mkdir(parents=True)
    (folder / "nnUNetPlans.json").write_text("{}")
    (folder / "dataset.json").write_text('{"numTraining": 2}')
    (folder / "gt_segmentations/case_0.nii.gz").touch()
    names = [step.name for step in steps(run(), workplace.environment)]
    assert names == ["preprocess", "train"]  # killed half-way
    (folder / "gt_segmentations/case_1.nii.gz").touch()
    assert [step.name for step in steps(run(), workplace.environment)] == ["train"]


def test_repeats_do_not_share_nnunets_results(workplace):
    first, second = (steps(run(seed=seed), workplace.environment)[-1] for seed in (0, 2))
    assert "nnUNet_results" not in first.variables
    assert second.variables["nnUNet_results"].endswith("unet-triad-fold0-seed2/nnUNet_results")
    assert str(second).startswith("nnUNet_results=")


def test_plan_names_what_is_wrong_of_a_dataset_that_nnunet_would_not_find(workplace):
    path = workplace.root / "mine.csv"
    path.write_text("task,dataset,architecture,initialization\nsegmentation,Mine,unet,scratch\n")
    text = plan(workplace.root / "b", "--runs", path).output
    assert "expected one of the paper's or DatasetNNN_NAME, got Mine" in text
    assert "$ nnUNetv2_train Mine 3d_fullres 0" in text


def test_plan_is_written_as_a_table(workplace):
    path = workplace.root / "plan.csv"
    plan(workplace.root / "b", "--dataset", "BraTS21", "--architecture", "unet", "--csv", path)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["initialization"] for row in rows] == ["scratch", "voco", "triad"]
    assert all(row["missing"] == "" for row in rows)
    assert rows[0]["commands"].startswith("nnUNetv2_plan_and_preprocess -d 501")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--csv", "folder"), "folder: expected a file, got a folder; choose another --csv"),
        (("--csv", "runs.csv", "--runs", "runs.csv"), "expected an output that is none of the in"),
    ],
)
def test_table_that_cannot_be_written_is_refused_before_the_plan_is_printed(
    tmp_path, monkeypatch, option, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "runs.csv").write_text("task,dataset,architecture,initialization\n")
    result = CliRunner().invoke(app, ["plan", "b", *option])
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)
    assert result.output == ""
    assert (tmp_path / "runs.csv").stat().st_size
