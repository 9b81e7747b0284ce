"""Stand-ins for Slurm's commands on this machine, to run batch scripts as they are typed.

    stand_in(folder)            a folder of sbatch, srun, scontrol to put in front of PATH
    python slurm.py srun ...    what these execute

They take the options that the documentation uses and refuse others. A job's tasks run side by side
in processes of this machine, whatever its nodes. FOLDER/srun.pid has the process to signal: the
tasks get what it gets, as from Slurm. A job that is requeued runs once more in the same sbatch.
"""

import argparse
import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

NODES = "localhost"  # the only one that can be reached, however many were asked for
_OF_JOBS = (
    *("job-name", "nodes", "ntasks-per-node", "cpus-per-task", "gpus-per-node", "mem-per-cpu"),
    *("mem", "time", "signal", "open-mode", "output", "partition", "array"),
)


def stand_in(folder: Path) -> Path:
    """Write the commands to FOLDER/bin."""
    commands = folder / "bin"
    commands.mkdir(parents=True)
    for name in ("sbatch", "srun", "scontrol"):
        arguments = shlex.join([sys.executable, __file__, name, str(folder)])
        (commands / name).write_text(f'#!/bin/sh\nexec {arguments} "$@"\n', encoding="utf-8")
        (commands / name).chmod(0o755)
    return commands


def sbatch(folder: Path, *arguments: str) -> int:
    """Run a batch script; what it asks for in #SBATCH lines, the command line replaces."""
    parser = argparse.ArgumentParser("sbatch", allow_abbrev=False)
    for name in _OF_JOBS:
        parser.add_argument(f"--{name}")
    parser.add_argument("--requeue", action="store_true")
    parser.add_argument("script", type=Path)
    text = parser.parse_args(arguments).script.read_text(encoding="utf-8")
    asked = [
        word for line in re.findall("^#SBATCH (.*)$", text, re.M) for word in shlex.split(line)
    ]
    job = parser.parse_args([*asked, *arguments])
    nodes, tasks = int(job.nodes or 1), int(job.ntasks_per_node or 1)
    variables = {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": NODES,
        "SLURM_NNODES": str(nodes),
        "SLURM_NTASKS": str(nodes * tasks),
        "SLURM_NTASKS_PER_NODE": str(tasks),
        **{"SLURM_PROCID": "0", "SLURM_LOCALID": "0"},  # of the script itself
    }
    if job.cpus_per_task:
        variables["SLURM_CPUS_PER_TASK"] = job.cpus_per_task
    again = folder / f"requeue.{os.getpid()}"
    while True:
        script = subprocess.Popen(
            ["bash", job.script], env={**os.environ, **variables}, start_new_session=True
        )
        code = script.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(script.pid, signal.SIGKILL)  # what the script leaves behind
        if not (job.requeue and again.exists()):
            return code
        again.unlink()
        print(f"sbatch: job {os.getpid()} again", flush=True)


def srun(folder: Path, *arguments: str) -> int:
    """Run a job's tasks; return the highest of their exit codes."""
    parser = argparse.ArgumentParser("srun", allow_abbrev=False)
    parser.add_argument("--cpus-per-task")
    parser.add_argument("--kill-on-bad-exit", type=int, default=0)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    step = parser.parse_args(arguments)
    with (folder / "steps.txt").open("a", encoding="utf-8") as calls:
        calls.write(f"{step.cpus_per_task or 1} cores: {shlex.join(step.command)}\n")
    size = os.environ["SLURM_NTASKS"]
    shared = {
        **{"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": size, "SLURM_STEP_NODELIST": NODES},
        "SLURM_CPUS_PER_TASK": step.cpus_per_task or "1",  # not the job's, from 22.05 on
    }
    tasks = [
        subprocess.Popen(
            step.command,
            env={**os.environ, **shared, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
            preexec_fn=_heed_signals,
        )
        for rank in range(int(size))
    ]
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, lambda number, _: [task.send_signal(number) for task in tasks])
    (folder / "srun.pid").write_text(str(os.getpid()), encoding="utf-8")
    while any(task.poll() is None for task in tasks):
        if step.kill_on_bad_exit and any(task.poll() for task in tasks):
            for task in tasks:
                task.kill()
        time.sleep(0.05)
    (folder / "srun.pid").unlink()
    return max(128 - task.returncode if task.returncode < 0 else task.returncode for task in tasks)


def _heed_signals() -> None:
    """A task is no child of the script: what that ignores, it does not."""
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)


def scontrol(folder: Path, *arguments: str) -> int:
    """Expand a list of one host, or have a job run again."""
    if arguments[:2] == ("show", "hostnames"):
        print(arguments[2])
    else:
        (action, job) = arguments
        assert action == "requeue"
        (folder / f"requeue.{job}").touch()
    return 0


if __name__ == "__main__":
    command = {"sbatch": sbatch, "srun": srun, "scontrol": scontrol}[sys.argv[1]]
    sys.exit(command(Path(sys.argv[2]), *sys.argv[3:]))
