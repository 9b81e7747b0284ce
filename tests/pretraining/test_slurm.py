"""The batch scripts of the documentation, sent to stand-ins of Slurm's commands and stopped."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from pretraining.store import VolumeStore
from tests import slurm
from tests.documents import code_block

STEPS = 5
TINY = (
    *("--encoder", "swin_t", "--steps", str(STEPS), "--batch-size", "4", "--crop-size", "64,32,32"),
    *("--warmup-steps", "1", "--held-out", "0", "--workers", "0", "--device", "cpu"),
)


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """An environment with the stand-ins, and with commands that train something tiny."""
    commands = slurm.stand_in(tmp_path / "slurm")
    installed = Path(sys.executable).parent
    command = shlex.join([str(installed / "triad-pretrain")])
    (commands / "triad-pretrain").write_text(
        f'#!/bin/sh\nexec {command} "$@" {shlex.join(TINY)}\n', encoding="utf-8"
    )
    (commands / "triad-pretrain").chmod(0o755)
    path = os.pathsep.join([str(commands), str(installed), os.environ["PATH"]])
    clean = {name: value for name, value in os.environ.items() if "SLURM" not in name}
    return {**clean, "PATH": path, "OMP_NUM_THREADS": "1", "SLURM_GPUS_ON_NODE": "2"}


@pytest.mark.parametrize(
    ("heading", "tasks"),
    [
        pytest.param("Pre-training: one task a GPU", 2, marks=pytest.mark.long),
        ("Pre-training with torchrun", 1),
    ],
)
def test_job_that_is_signalled_is_queued_again_and_ends(
    heading: str, tasks: int, variables: dict[str, str], store_path: Path, tmp_path: Path
):
    script = code_block("clusters.md", heading, language="bash")
    (tmp_path / "pretrain.sh").write_text(script, encoding="utf-8")
    (tmp_path / "store").symlink_to(store_path)
    options = ["--nodes", "1", "--ntasks-per-node", str(tasks), "--cpus-per-task", "3"]
    with (tmp_path / "slurm.out").open("w") as out:
        job = subprocess.Popen(
            ["sbatch", *options, "pretrain.sh"],
            cwd=tmp_path,
            env=variables,
            stdout=out,
            stderr=out,
        )
        wait_for_rows(tmp_path / "pretrained" / "log.csv", 2, job)
        step = int((tmp_path / "slurm" / "srun.pid").read_text())
        os.kill(step, signal.SIGTERM)
        assert job.wait(120) == 0, (tmp_path / "slurm.out").read_text()

    text = (tmp_path / "slurm.out").read_text()
    assert text.count("again") == 2, text  # rank 0 says so, and sbatch does it, once
    steps = (tmp_path / "slurm" / "steps.txt").read_text().splitlines()
    assert [line.partition(":")[0] for line in steps] == ["3 cores"] * 2
    output = tmp_path / "pretrained"
    assert pd.read_csv(output / "log.csv")["step"].tolist() == list(range(1, STEPS + 1))
    assert not (output / "stopped.txt").exists()
    assert (output / "triad_swin_t.safetensors").exists()
    assert torch.load(output / "checkpoint.pt", weights_only=True)["step"] == STEPS


def wait_for_rows(log: Path, number: int, job: subprocess.Popen) -> None:
    """Wait until a log has that many rows, or its job has ended."""
    while job.poll() is None:
        if log.exists() and log.read_text(encoding="utf-8").count("\n") > number:
            return
        time.sleep(0.01)


@pytest.mark.long
def test_job_curates_on_its_own_scheduler_and_workers(variables: dict[str, str], tmp_path: Path):
    phantom = ["triad-phantom", "bids", "tree", "--subjects", "2", "--spacing-mm", "6"]
    subprocess.run(phantom, cwd=tmp_path, env=variables, check=True)
    script = code_block("clusters.md", "Curation", language="bash")
    for old, new in (
        ("source /shared/triad/.venv/bin/activate\n", ""),
        ("/shared/data/PROSTATEx /shared/store", "tree store"),
        ("$(cat ~/.triad_salt)", "salt"),
    ):
        assert old in script
        script = script.replace(old, new)
    (tmp_path / "curate.sh").write_text(script, encoding="utf-8")
    options = ["--nodes", "2", "--cpus-per-task", "1"]
    done = subprocess.run(
        ["sbatch", *options, "curate.sh"],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    steps = (tmp_path / "slurm" / "steps.txt").read_text(encoding="utf-8")
    assert steps.startswith("1 cores: dask worker --scheduler-file")
    assert len(VolumeStore.open(tmp_path / "store")) > 0
