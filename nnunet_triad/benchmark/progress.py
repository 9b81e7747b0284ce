"""Run or submit what is missing, and say what happens."""

import time
from collections.abc import Sequence

from tqdm import tqdm

from nnunet_triad.benchmark.environment import Environment
from nnunet_triad.benchmark.execute import last_line, unmet_requirements
from nnunet_triad.benchmark.listing import describe
from nnunet_triad.benchmark.runs import Run
from nnunet_triad.benchmark.settings import SlurmSettings
from nnunet_triad.benchmark.state import read_state
from nnunet_triad.benchmark.submit import is_job_alive, run_locally, submit_to_slurm
from nnunet_triad.errors import UserError

_LOOK_EVERY_S = 2.0


def run_missing(runs: Sequence[Run], environment: Environment, *, retry_failed: bool) -> None:
    """Execute the runs that are not finished and can start, one after another.

    Raises:
        UserError: none can start, or one or more failed.
    """
    ready = _ready(runs, environment, retry_failed=retry_failed)
    failed = []
    with tqdm(total=len(ready), unit="run", disable=None) as bar:  # only on a terminal
        executed = run_locally(ready, environment, follow=_Follower(bar, environment))
        for number, (run, state) in enumerate(executed, 1):
            line = f"[{number}/{len(ready)}] {run.name}: {state.state}{describe(state)}"
            tqdm.write(f"{time.strftime('%H:%M:%S')} {line}")
            bar.update()
            failed += [run.name] if state.state != "finished" else []
    if failed:
        raise UserError(
            f"runs: expected all {len(ready)} to finish, got {len(failed)} that did not: "
            f"{', '.join(failed[:3])}{' ...' if len(failed) > 3 else ''}; see their log.txt under "
            f"{environment.folder / 'runs'}, then run the same command again"
        )


def submit_missing(
    runs: Sequence[Run], environment: Environment, slurm: SlurmSettings, *, retry_failed: bool
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


class _Follower:
    """Shows the last line of the present run's log beside the progress bar."""

    def __init__(self, bar: tqdm, environment: Environment) -> None:
        self._bar, self._environment = bar, environment
        self._run: Run | None = None
        self._next_s = 0.0

    def __call__(self, run: Run) -> None:
        log = self._environment.run_folder(run.name) / "log.txt"
        if run != self._run:
            self._run = run
            tqdm.write(f"{time.strftime('%H:%M:%S')} {run.name}: log in {log}")
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _LOOK_EVERY_S
            self._bar.set_postfix_str(last_line(log)[:60])


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
    problems = {run: unmet_requirements(run, environment) for run in unfinished}
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
