"""The batch script of nnU-Net's training, with one "GPU" and with two, signalled on its way."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests import slurm
from tests.documents import code_block
from tests.trainers.test_commands import ROOT, Workplace, write_boxes

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]
TRAINER = "nnUNetTrainerScratchSwinT_quick"


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A preprocessed dataset."""
    workplace = Workplace(tmp_path_factory.mktemp("nnunet"))
    write_boxes(workplace.folder / "raw", num_training=5)
    plan = ("nnUNetv2_plan_and_preprocess", "-d", "500", "-c", "3d_fullres", "-np", "1")
    workplace.succeed_all((*plan, "-npfp", "1"), nnUNet_n_proc_DA="1")
    return workplace


@pytest.mark.parametrize("gpus", [1, 2])
def test_training_that_is_signalled_is_queued_again_and_ends(
    gpus: int, planned: Workplace, tmp_path: Path
) -> None:
    script = code_block("clusters.md", "One nnU-Net training", language="bash")
    for old, new in (
        ("nnUNetTrainerTriadSwinB", TRAINER),
        ("Dataset501_BraTS21", "Dataset500_Boxes"),
        (" 501 ", " 500 "),
        ("nnUNet_n_proc_DA=12", "nnUNet_n_proc_DA=2"),  # real processes, which get the signal, too
    ):
        assert old in script
        script = script.replace(old, new)
    (tmp_path / "train.sh").write_text(script)
    commands = slurm.stand_in(tmp_path / "slurm")
    results = tmp_path / "results"
    fold = results / "Dataset500_Boxes" / f"{TRAINER}__nnUNetPlans__3d_fullres" / "fold_0"
    path = [str(commands), str(Path(sys.executable).parent), os.environ["PATH"]]
    variables = {
        **{name: value for name, value in os.environ.items() if "SLURM" not in name},
        **{f"nnUNet_{name}": str(planned.folder / name) for name in ("raw", "preprocessed")},
        "nnUNet_results": str(results),
        "nnUNet_extTrainer": str(ROOT / "nnunet_triad" / "plugin"),
        "nnUNet_compile": "f",
        "nnUNet_def_n_proc": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent / "gpus_on_cpu"), str(ROOT)]),
        "PATH": os.pathsep.join(path),
        "OMP_NUM_THREADS": "1",
        "SLURM_GPUS_ON_NODE": str(gpus),
    }
    with (tmp_path / "slurm.out").open("w") as out:
        command = ["sbatch", "--nodes", "1", "--cpus-per-task", "3", "train.sh"]
        job = subprocess.Popen(
            command, cwd=tmp_path, env=variables, stdout=out, stderr=out, start_new_session=True
        )
        wait_for(lambda: "\nEpoch 1\n" in log_of(fold), job)
        # to each process of the step, as Slurm does
        signal_step(int((tmp_path / "slurm" / "srun.pid").read_text()))
        code = job.wait(900)
    text = (tmp_path / "slurm.out").read_text()
    assert code == 0, text
    assert text.count("sbatch: job") == 1, text
    assert "--c goes on there" in "".join(p.read_text() for p in fold.glob("training_log*"))
    assert not (fold / "stopped.txt").exists()
    final = torch.load(fold / "checkpoint_final.pth", weights_only=False)
    assert final["current_epoch"] == 3
    assert [len(final["logging"][name]) for name in ("train_losses", "val_losses")] == [3, 3]
    summary = json.loads((fold / "validation" / "summary.json").read_text())
    assert 0 <= summary["foreground_mean"]["Dice"] <= 1


def log_of(fold: Path) -> str:
    """The log of the present start, without the times."""
    logs = sorted(fold.glob("training_log*.txt"))
    lines = logs[-1].read_text().splitlines() if logs else []
    return "\n".join(line.partition(": ")[2].strip() for line in lines)


def wait_for(is_there, job: subprocess.Popen) -> None:
    while job.poll() is None and not is_there():
        time.sleep(0.1)


def signal_step(srun: int) -> None:
    """Send SIGUSR2 to all that srun started, and what that started."""
    children = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    todo = children.get(srun, [])
    while todo:
        process = todo.pop()
        todo += children.get(process, [])
        os.kill(process, signal.SIGUSR2)
