"""Runs through submitit: one after another on this machine, or as an array of Slurm's jobs.

submitit pickles the job for the process that executes it. These files are its own, in the
benchmark's folder; no data or weights are read this way.
"""

import functools
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import submitit

from nnunet_triad.benchmark.environment import Environment
from nnunet_triad.benchmark.execute import execute
from nnunet_triad.benchmark.runs import Run
from nnunet_triad.benchmark.settings import SlurmSettings
from nnunet_triad.benchmark.state import RunIsBusyError, State, hold, read_state, write_state
from nnunet_triad.errors import UserError
from nnunet_triad.training.stop_signal import TrainingStopped

_LOCAL_TIMEOUT_MIN = 60 * 24 * 365  # submitit wants one


class Job(submitit.helpers.Checkpointable):
    """A run as a submitit job: preempted or out of time, it is queued again and goes on."""

    def __call__(self, run: Run, environment: Environment) -> str:
        """Execute the run; a failure is told by its state, not by submitit."""
        is_local = submitit.JobEnvironment().cluster == "local"
        if is_local:
            # Slurm announces a preemption by SIGTERM, which submitit rightly ignores.
            signal.signal(signal.SIGTERM, _stop)
            signal.signal(signal.SIGINT, _stop)  # `_submit` had it ignored, also by our commands
        try:
            execute(run, environment)
        except RunIsBusyError:
            return "busy"
        except TrainingStopped as stop:
            print(f"{run.name}: {stop}", flush=True)
            if not is_local:  # SIGTERM reached the step alone: submitit queues the job again
                signal.raise_signal(signal.SIGUSR2)
        except UserError as error:
            print(f"{run.name}: {error}", flush=True)
        return read_state(run, environment).state


def run_locally(
    runs: Sequence[Run],
    environment: Environment,
    *,
    follow: Callable[[Run], None] = lambda run: None,
) -> Iterator[tuple[Run, State]]:
    """Execute runs one after another; yield each with what became of it.

    A run that a process of an earlier call still works on is waited for.

    Args:
        runs: in the order of execution.
        environment: where they are.
        follow: called with the run, over and over, while it is executed.
    """
    executor = submitit.LocalExecutor(folder=environment.folder / "jobs")
    executor.update_parameters(timeout_min=_LOCAL_TIMEOUT_MIN)
    environment = environment.with_one_gpu()
    for run in runs:
        while True:
            _wait(_submit(executor, run, environment), functools.partial(follow, run))
            state = read_state(run, environment)
            if state.state != "running":  # else somebody else still holds its lock
                break
            _wait_for_lock(run, environment)
        yield run, state


def submit_to_slurm(
    runs: Sequence[Run], environment: Environment, slurm: SlurmSettings
) -> list[tuple[Run, str]]:
    """Submit runs as one array; return each with its job's id.

    Raises:
        UserError: Slurm is not there, or refuses the array.
    """
    parameters = {
        "time": 60 * slurm.hours,
        "gpus_per_node": slurm.gpus,
        "cpus_per_task": slurm.cpus,
        "mem": f"{slurm.memory_gb}GB",
        "job_name": "triad-benchmark",
        "array_parallelism": slurm.parallel,
        "additional_parameters": {"requeue": True, **slurm.further},
        # since Slurm 22.05 srun does not take over what sbatch was asked
        "srun_args": [f"--cpus-per-task={slurm.cpus}", "--kill-on-bad-exit=1"],
    }
    if slurm.partition:
        parameters["partition"] = slurm.partition
    try:
        executor = submitit.SlurmExecutor(
            folder=environment.folder / "jobs", max_num_timeout=slurm.requeues
        )
        executor.update_parameters(**parameters)
        jobs = executor.map_array(Job(), list(runs), [environment] * len(runs))
    except (RuntimeError, submitit.core.utils.FailedJobError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"Slurm: expected to submit {len(runs)} jobs, got: {reason}") from None
    submitted = [(run, job.job_id) for run, job in zip(runs, jobs, strict=True)]
    for run, job_id in submitted:
        write_state(run, environment, "submitted", job=job_id)
    return submitted


def is_job_alive(job_id: str, environment: Environment) -> bool:
    """Say whether Slurm still has a job waiting or running; False where Slurm is not there."""
    try:
        job: submitit.SlurmJob[Any] = submitit.SlurmJob(environment.folder / "jobs", job_id)
        return not job.watcher.is_done(job_id, mode="force")
    except OSError:
        return False


def _submit(
    executor: submitit.LocalExecutor, run: Run, environment: Environment
) -> submitit.LocalJob[str]:
    """Start a local job that a Ctrl-C at the terminal does not reach: `_wait` stops it."""
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        job = executor.submit(Job(), run, environment)
    finally:
        signal.signal(signal.SIGINT, previous)
    assert isinstance(job, submitit.LocalJob)
    return job


def _wait(job: submitit.LocalJob[str], follow: Callable[[], None]) -> None:
    """Wait for a local job; when this process is asked to stop, so is the job."""
    previous = signal.signal(signal.SIGTERM, _stop)
    try:
        while not job.done():
            time.sleep(0.2)
            follow()
    except KeyboardInterrupt:
        os.kill(int(job.job_id), signal.SIGTERM)  # submitit passes it on to `Job`
        while not job.done():
            time.sleep(0.2)
        raise
    finally:
        signal.signal(signal.SIGTERM, previous)


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def _wait_for_lock(run: Run, environment: Environment) -> None:
    with hold(environment.run_folder(run.name) / "lock", wait=True):
        pass
