"""Submitting to Slurm: what sbatch is asked, with stand-ins for Slurm's commands."""

import os
import shlex

import pytest
from typer.testing import CliRunner

from nnunet_triad.benchmark.cli import app
from nnunet_triad.benchmark.runs import Run
from nnunet_triad.benchmark.settings import SlurmSettings
from nnunet_triad.benchmark.state import read_state
from nnunet_triad.benchmark.submit import Job
from nnunet_triad.cli import run_app
from nnunet_triad.errors import UserError

FILTERS = ("--dataset", "BraTS21", "--dataset", "MSD-Prostate", "--architecture", "unet")


@pytest.fixture
def slurm(workplace, monkeypatch):
    """A PATH with sbatch, srun and sacct; they keep the script, and tell the jobs' state."""
    folder = workplace.root / "bin"
    folder.mkdir()
    script = shlex.quote(str(workplace.root / "script.sh"))
    states = shlex.quote(str(workplace.root / "states.txt"))
    for name, body in {
        "srun": "exit 0",
        "sbatch": f'cat "$1" > {script}; echo "Submitted batch job 77"',
        "sacct": f"cat {states}",
    }.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    tell_states(workplace, "PENDING")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return workplace


def tell_states(workplace, state):
    lines = [f"77_{index}|{state}|" for index in range(6)]
    (workplace.root / "states.txt").write_text("\n".join(["JobID|State|NodeList", *lines]) + "\n")


def submit(workplace, *options):
    arguments = ["run", str(workplace.root / "benchmark"), "--slurm", *FILTERS, *options]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def script(workplace):
    lines = (workplace.root / "script.sh").read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")]


def test_runs_become_one_array_that_is_requeued(slurm):
    output = submit(slurm, "--partition", "gpu", "--hours", "24", "--parallel", "3")
    options = script(slurm)
    assert "--array=0-5%3" in options
    assert "--requeue" in options
    assert "--partition=gpu" in options
    assert "--time=1440" in options
    assert "--gpus-per-node=1" in options
    assert "6 runs submitted" in output


def test_further_options_reach_sbatch(slurm):
    submit(slurm, "--slurm-option", "account=abc", "--slurm-option", "--qos=long")
    assert {"--account=abc", "--qos=long"} <= set(script(slurm))


def test_task_gets_the_cores_and_its_failure_ends_the_job(slurm):
    submit(slurm, "--cpus", "7")
    assert "--cpus-per-task=7" in script(slurm)
    lines = (slurm.root / "script.sh").read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith("srun ")]
    assert {"--cpus-per-task=7", "--kill-on-bad-exit=1"} <= set(shlex.split(line))


def test_submitted_runs_are_not_submitted_again_while_their_jobs_live(slurm):
    submit(slurm)
    state = read_state(
        Run(task="segmentation", dataset="BraTS21", architecture="unet", initialization="voco"),
        slurm.environment,
    )
    assert state.state == "submitted"
    assert state.job.startswith("77_")
    (slurm.root / "script.sh").unlink()
    assert "6 runs have a job that waits or runs" in submit(slurm)
    assert not (slurm.root / "script.sh").exists()
    tell_states(slurm, "FAILED")
    assert "6 runs submitted" in submit(slurm)
    assert (slurm.root / "script.sh").exists()


def test_job_that_ran_out_of_time_is_submitted_as_it_was(slurm):
    run = Run(task="segmentation", dataset="BraTS21", architecture="unet", initialization="voco")
    again = Job().checkpoint(run, slurm.environment)
    assert isinstance(again.function, Job)
    assert again.args == (run, slurm.environment)


def test_machine_without_slurm_is_told(workplace, monkeypatch, capsys):
    monkeypatch.setattr(
        "sys.argv", ["triad-benchmark", "run", str(workplace.root / "b"), "--slurm", *FILTERS]
    )
    with pytest.raises(SystemExit, match="2"):
        run_app(app)
    error = capsys.readouterr().err
    assert error.startswith("error: Slurm: expected to submit 6 jobs, got: Could not detect")
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", ["hours", "cpus", "memory_gb", "parallel"])
def test_resources_below_one_are_refused(name):
    with pytest.raises(UserError, match=f"{name}: expected 1 or more, got 0"):
        SlurmSettings(**{name: 0})


def test_negative_numbers_of_gpus_are_refused(workplace, monkeypatch, capsys):
    arguments = ["run", str(workplace.root / "b"), "--slurm", "--gpus", "-3", *FILTERS]
    monkeypatch.setattr("sys.argv", ["triad-benchmark", *arguments])
    with pytest.raises(SystemExit, match="2"):
        run_app(app)
    assert capsys.readouterr().err == "error: --gpus: expected zero or more, got -3\n"
    assert SlurmSettings(gpus=0).gpus == 0
