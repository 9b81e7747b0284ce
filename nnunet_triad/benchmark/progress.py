"""Run or submit what is missing, and say what happens."""

import time
from collections.abc import Sequence

from nnunet_triad.benchmark.environment import Environment
from nnunet_triad.benchmark.listing import describe, missing_needs
from nnunet_triad.benchmark.runs import Run
from nnunet_triad.benchmark.state import read_state
from nnunet_triad.benchmark.submit import Slurm, is_job_alive, run_locally, submit_to_slurm
from nnunet_triad.errors import UserError


def run_missing(runs: Sequence[Run], environment: Environment, *, retry_failed: bool) -> None:
    """Execute the runs that are not finished and can start, one after another.

    Raises:
        UserError: none can start, or one or more failed.
    """
    ready = _ready(runs, environment, retry_failed=retry_failed)
    failed = []
    start = time.monotonic()
    for number, (run, state) in enumerate(run_locally(ready, environment, announce=_announce), 1):
        spent = time.monotonic() - start
        left = spent / number * (len(ready) - number)
        print(
            f"[{number}/{len(ready)}] {run.name}: {state.state}{describe(state)} "
            f"({spent / 60:.1f} min so far, about {left / 60:.1f} min left)",
            flush=True,
        )
        failed += [run.name] if state.state != "finished" else []
    if failed:
        raise UserError(
            f"runs: expected all {len(ready)} to finish, got {len(failed)} that did not: "
            f"{', '.join(failed[:3])}{' ...' if len(failed) > 3 else ''}; see their log.txt under "
            f"{environment.folder / 'runs'}, then run the same command again"
        )


def submit_missing(
    runs: Sequence[Run], environment: Environment, slurm: Slurm, *, retry_failed: bool
) -> None:
    """Submit the runs that are not finished, can start, and have no job that is still alive.

    Raises:
        UserError: none can start, or Slurm refuses.
    """
    ready = _ready(runs, environment, retry_failed=retry_failed)
    waiting = [run for run in ready if _has_job(run, environment)]
    ready = [run for run in ready if run not in waiting]
    if waiting:
        print(f"{len(waiting)} runs have a job that waits or runs: left alone")
    if not ready:
        return
    for run, job in submit_to_slurm(ready, environment, slurm):
        print(f"{run.name}: job {job}")
    print(f"{len(ready)} runs submitted; triad-benchmark status {environment.folder} follows them")


def _announce(run: Run, environment: Environment) -> None:
    print(f"{run.name}: log in {environment.run_folder(run.name) / 'log.txt'}", flush=True)


def _has_job(run: Run, environment: Environment) -> bool:
    job = read_state(run, environment).job
    return bool(job) and is_job_alive(job, environment)


def _ready(runs: Sequence[Run], environment: Environment, *, retry_failed: bool) -> list[Run]:
    """Return the runs to execute; say how many others there are, and why."""
    unfinished = []
    for run in runs:
        state = read_state(run, environment).state
        if state != "finished" and (retry_failed or state != "failed"):
            unfinished.append(run)
    problems = {run: missing_needs(run, environment) for run in unfinished}
    ready = [run for run, missing in problems.items() if not missing]
    print(
        f"{len(runs)} runs: {len(runs) - len(unfinished)} finished or left out, "
        f"{len(ready)} to execute, {len(unfinished) - len(ready)} not ready",
        flush=True,
    )
    if unfinished and not ready:
        reasons = list(dict.fromkeys(text for missing in problems.values() for text in missing))
        raise UserError(
            f"runs: expected at least one that can start, got none; {'; '.join(reasons[:3])}"
            f"{' ...' if len(reasons) > 3 else ''}; see triad-benchmark plan"
        )
    return ready
