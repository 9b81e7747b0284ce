"""Executing runs: what is done once, what is tried again, and what a kill costs."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pandas as pd
import pytest

from nnunet_triad.benchmark.environment import Environment
from nnunet_triad.benchmark.execute import execute, last_line
from nnunet_triad.benchmark.runs import Run
from nnunet_triad.benchmark.state import RunIsBusyError, hold, read_state, results_path
from nnunet_triad.benchmark.submit import run_locally
from nnunet_triad.errors import UserError
from nnunet_triad.evaluation import read_results


def run(dataset="BraTS21", architecture="unet", initialization="triad", **more):
    values = {"task": "segmentation", "dataset": dataset, "architecture": architecture}
    return Run(**{**values, "initialization": initialization, **more})


def benchmark(workplace, *options, **popen):
    code = "from nnunet_triad.benchmark.cli import main; main()"
    launcher = ("--launcher", workplace.launcher) if "run" in options else ()
    command = [sys.executable, "-c", code, *map(str, (*options, *launcher))]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **popen
    )


def finish(process):
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def wait_for(condition, *, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_segmentation_run_leaves_its_results(workplace):
    execute(run(), workplace.environment)
    assert [call.split()[0] for call in workplace.calls] == [
        "nnUNetv2_plan_and_preprocess",
        "nnUNetv2_train",
    ]
    table = read_results(results_path(run(), workplace.environment))
    assert len(table) == 3 * 2  # cases x (a region and a label); no ignore label, no background
    whole = table[table["label"] == "whole"]
    assert list(whole["value"]) == [0.5, 0.6, 0.7]
    assert table["value"].isna().sum() == 1  # as nnU-Net: the label is in neither
    assert set(table["initialization"]) == {"triad"}
    assert read_state(run(), workplace.environment).state == "finished"


def test_finished_run_is_not_executed_again(workplace):
    execute(run(), workplace.environment)
    execute(run(), workplace.environment)
    assert len(workplace.calls) == 2


def test_preprocessing_is_shared_by_the_runs_of_a_dataset(workplace):
    for initialization in ("scratch", "triad"):
        execute(run(initialization=initialization), workplace.environment)
    assert [c.split()[0] for c in workplace.calls].count("nnUNetv2_plan_and_preprocess") == 1


def test_failed_run_says_why_and_goes_on_behind_its_finished_step(workplace):
    workplace.tell("fail", "train")
    with pytest.raises(UserError, match=r"step train: .* got 3; no luck today \(see .*log.txt\)"):
        execute(run(), workplace.environment)
    state = read_state(run(), workplace.environment)
    assert (state.state, state.step) == ("failed", "train")
    (workplace.root / "fail").unlink()
    execute(run(), workplace.environment)
    assert [call.split()[0] for call in workplace.calls] == [
        "nnUNetv2_plan_and_preprocess",
        "nnUNetv2_train",
        "nnUNetv2_train",
    ]


def test_trained_run_without_results_is_only_gathered(workplace):
    execute(run(), workplace.environment)
    results_path(run(), workplace.environment).unlink()
    execute(run(), workplace.environment)
    assert len(workplace.calls) == 2


@pytest.mark.parametrize(
    ("task", "dataset", "architecture"),
    [("classification", "ADNI", "unet"), ("registration", "IXI", "swinunetr_b")],
)
def test_manifest_run_gets_the_names_of_the_comparison(workplace, task, dataset, architecture):
    wanted = run(task=task, dataset=dataset, architecture=architecture, initialization="scratch")
    execute(wanted, workplace.environment)
    row = read_results(results_path(wanted, workplace.environment)).iloc[0]
    assert (row["dataset"], row["architecture"]) == (dataset, architecture)
    assert row["initialization"] == "scratch"
    assert row["value"] == 1


def test_unmet_requirement_is_a_failure_without_a_command(workplace):
    with pytest.raises(UserError, match="expected Dataset517_NAME"):
        execute(run(dataset="MSD-Colon"), workplace.environment)
    assert not workplace.calls


def test_unknown_command_is_named(workplace):
    environment = replace(workplace.environment, launcher=("no-such-container",))
    with pytest.raises(UserError, match="no-such-container: expected a command, got none"):
        execute(run(), environment)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"one\ntwo\n\n", "two"),
        (b"10%\r20%\r30%\r", "30%"),
        (b"", "no output"),
        (None, "no output"),
        (b"x" * 9000 + b"\nlast", "last"),
        (b"\xff\xfe broken", "\ufffd\ufffd broken"),
    ],
)
def test_last_line_of_a_log_is_the_last_that_speaks(tmp_path, content, line):
    if content is not None:
        (tmp_path / "log.txt").write_bytes(content)
    assert last_line(tmp_path / "log.txt") == line


def test_run_of_another_process_is_busy(workplace):
    environment = workplace.environment
    with (
        hold(environment.run_folder(run().name) / "lock", wait=False),
        pytest.raises(RunIsBusyError),
    ):
        execute(run(), environment)
    execute(run(), environment)


def test_command_line_runs_what_is_ready_and_names_what_failed(workplace):
    workplace.tell("fail", "classify")
    filters = ("--dataset", "BraTS21", "--dataset", "ADNI", "--initialization", "scratch")
    options = (*filters, "--architecture", "unet", "--device", "cpu")
    folder = workplace.root / "benchmark"
    code, out, err = finish(benchmark(workplace, "run", folder, *options))
    assert code == 2
    assert "[1/2] segmentation-BraTS21-unet-scratch-fold0: finished" in out
    assert "got 1 that did not: classification-ADNI-unet-scratch-fold0" in err
    assert "Traceback" not in err
    (workplace.root / "fail").unlink()
    code, out, err = finish(benchmark(workplace, "run", folder, *options))
    assert (code, err) == (0, "")
    assert "1 finished or left out, 1 to execute" in out
    code, out, _ = finish(benchmark(workplace, "status", folder, *filters))
    assert "2 finished" in out


UUID = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"


@pytest.mark.parametrize("name", ["TRIAD_WEIGHTS", "TRIAD_ORIGIN", "TRIAD_CACHE"])
def test_command_that_starts_elsewhere_sees_what_its_weights_are(name, tmp_path, monkeypatch):
    monkeypatch.setenv(name, "voco")
    assert Environment.current(tmp_path).variables[name] == "voco"


@pytest.mark.parametrize(
    ("visible", "device", "seen"),
    [
        (None, "cuda", "0"),
        ("3,1", "cuda", "3"),
        (f"{UUID},GPU-0", "cuda", UUID),
        ("MIG-GPU-1/2/0", "cuda", "MIG-GPU-1/2/0"),
        ("-1", "cuda", "-1"),
        ("", "cuda", ""),
        ("3", "cpu", ""),
    ],
)
def test_commands_see_the_first_gpu_that_is_visible(workplace, monkeypatch, visible, device, seen):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    wanted = run(task="classification", dataset="ADNI", initialization="scratch")
    environment = replace(workplace.environment, device=device)

    ((_, state),) = run_locally([wanted], environment)

    assert state.state == "finished"
    log = (environment.run_folder(wanted.name) / "log.txt").read_text()
    assert f"it sees the GPUs {seen!r}\n" in log


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_killed_run_goes_on_and_loses_nothing(workplace, how):
    folder = workplace.root / "benchmark"
    filters = ("--dataset", "BraTS21", "--dataset", "MSD-Prostate", "--initialization", "scratch")
    options = ("run", folder, *filters, "--architecture", "unet", "--device", "cpu")
    workplace.tell("slow", "3")
    first = benchmark(workplace, *options, start_new_session=True)
    wait_for(lambda: any("train" in call for call in workplace.calls))
    os.kill(first.pid, how)
    code, _, err = finish(first)
    assert code != 0
    assert "Traceback" not in err
    (workplace.root / "slow").unlink()
    code, _, err = finish(benchmark(workplace, *options))
    assert (code, err) == (0, "")
    tables = [read_results(path) for path in sorted((folder / "results").glob("*.csv"))]
    assert [len(table) for table in tables] == [6, 6]
    assert not pd.concat(tables).duplicated().any()
    trainings = [call for call in workplace.calls if "nnUNetv2_train 501" in call]
    if how == signal.SIGKILL:  # the training itself survives, and is waited for
        assert len(trainings) == 1
    else:
        assert [training.split()[-1] for training in trainings] == ["cpu", "--c"]


def test_step_that_a_signal_stopped_goes_on_and_has_not_failed(workplace):
    workplace.tell("stop", "")
    scratch = run(initialization="scratch")

    ((_, state),) = run_locally([scratch], workplace.environment)
    assert state.state == "interrupted"
    ((_, state),) = run_locally([scratch], workplace.environment)

    assert state.state == "finished"
    trainings = [call for call in workplace.calls if "nnUNetv2_train" in call]
    assert [call.split()[-1] for call in trainings] == ["cpu", "--c"]


def test_status_tells_an_interrupted_run_from_a_running_one(workplace):
    environment = workplace.environment
    workplace.tell("slow", "1")
    process = benchmark(
        workplace, "run", environment.folder, "--dataset", "BraTS21", "--architecture", "unet",
        "--initialization", "scratch", "--device", "cpu",
    )  # fmt: skip
    scratch = run(initialization="scratch")
    wait_for(lambda: read_state(scratch, environment).step == "train")
    assert read_state(scratch, environment).state == "running"
    assert finish(process)[0] == 0
    results_path(scratch, environment).unlink()
    (environment.run_folder(scratch.name) / "state.json").write_text(
        '{"state": "running", "step": "train"}'
    )
    assert read_state(scratch, environment).state == "interrupted"


def test_system_without_such_locks_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows
    lock = hold(tmp_path / "lock", wait=False)
    with pytest.raises(UserError, match="run: expected Linux or macOS"), lock:
        pass
