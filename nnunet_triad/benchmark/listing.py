"""The plan and the status as text and as a table."""

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nnunet_triad.benchmark.environment import Environment
from nnunet_triad.benchmark.execute import steps, unmet_requirements
from nnunet_triad.benchmark.runs import Run
from nnunet_triad.benchmark.state import State, read_state
from nnunet_triad.files import write_table

_PLAN_COLUMNS = (
    "task",
    "dataset",
    "architecture",
    "initialization",
    "fold",
    "state",
    "missing",
    "commands",
)


def print_plan(runs: Sequence[Run], environment: Environment) -> None:
    """Print each run, what it requires and its commands, and a summary."""
    counts: Counter[str] = Counter()
    for number, run in enumerate(runs, 1):
        state = read_state(run, environment).state
        problems = unmet_requirements(run, environment) if state != "finished" else []
        counts["needs something" if problems else state] += 1
        print(f"[{number}/{len(runs)}] {_title(run)}: {'not ready' if problems else state}")
        for problem in problems:
            print(f"    needs    {problem}")
        if state != "finished":
            for step in steps(run, environment):
                print(f"    $ {step}")
    print(_summary(len(runs), counts))


def write_plan(path: Path, runs: Sequence[Run], environment: Environment) -> None:
    """Write the plan as a CSV, one row a run."""
    rows = []
    for run in runs:
        state = read_state(run, environment).state
        done = state == "finished"
        rows.append(
            [
                *(run.task, run.dataset, run.architecture, run.initialization, run.fold, state),
                "; ".join([] if done else unmet_requirements(run, environment)),
                " && ".join([] if done else map(str, steps(run, environment))),
            ]
        )
    write_table(path, pd.DataFrame(rows, columns=list(_PLAN_COLUMNS)))


def print_status(runs: Sequence[Run], environment: Environment) -> None:
    """Print a line a run that has begun, and how many have not."""
    counts: Counter[str] = Counter()
    for run in runs:
        state = read_state(run, environment)
        counts[state.state] += 1
        if state.state != "not started":
            print(f"{state.state:12} {_title(run)}{describe(state)}")
    print(_summary(len(runs), counts))


def describe(state: State) -> str:
    """Return what there is to say about a run's state, for the end of a line."""
    if state.state == "failed":
        return f": {state.message}"
    if state.state == "submitted":
        return f": job {state.job}"
    if state.state in ("running", "interrupted"):
        minutes = (time.time() - state.time_s) / 60
        return f": {state.step}, since {minutes:.0f} min, {state.host} process {state.process}"
    return ""


def _title(run: Run) -> str:
    parts = [run.task, run.dataset, run.architecture, run.initialization, f"fold {run.fold}"]
    parts += [f"seed {run.seed}"] if run.seed else []
    parts += [run.variant] if run.variant else []
    return "  ".join(parts)


def _summary(num_runs: int, counts: Counter[str]) -> str:
    return f"{num_runs} runs: " + ", ".join(f"{count} {state}" for state, count in counts.items())
