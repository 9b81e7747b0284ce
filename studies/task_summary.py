"""What the trials of classification and registration say: differences to scratch."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nnunet_triad.evaluation.bootstrap import Interval
from nnunet_triad.evaluation.statistics import holm, wilcoxon
from studies.design import OTHER_TASKS, SCRATCH
from studies.summary import two_way_interval
from studies.tasks import BEFORE

UNITS = {"classification": "accuracy", "registration": "endpoint error, mm"}


@dataclass(frozen=True, kw_only=True)
class TaskComparison:
    """A pre-training against scratch, all else equal."""

    task: str
    network: str
    mode: str
    initialization: str
    num_seeds: int
    before: float  # endpoint error of the pairs as they are, mm; NaN for classification
    scratch: float  # mean over seeds and test cases
    pretrained: float
    difference: Interval  # in the task's unit; for an endpoint error less is better
    p_value: float  # Wilcoxon over the test cases, Holm over all comparisons


def read_task_trials(folder: Path) -> pd.DataFrame:
    """Read the finished trials of the other tasks; empty where there is none."""
    files = sorted((folder / "tasks").glob("*.csv"))
    if not files:
        return pd.DataFrame()
    return pd.concat([pd.read_csv(file) for file in files], ignore_index=True)


def compare_tasks(table: pd.DataFrame) -> list[TaskComparison]:
    """Compare each network where scratch and pre-trained have the same seeds.

    Args:
        table: of `read_task_trials`.
    """
    found = []
    for task, network, mode in OTHER_TASKS if len(table) else ():
        rows = table[(table.task == task) & (table["mode"] == mode)]
        before = rows[rows.network == BEFORE].value.mean()
        rows = rows[rows.network == network]
        by_name = {
            str(name): group.pivot_table(index="seed", columns="case", values="value")
            for name, group in rows.groupby("initialization")
        }
        reference = by_name.pop(SCRATCH, pd.DataFrame())
        for name, values in by_name.items():
            seeds = values.index.intersection(reference.index)
            if seeds.empty:
                continue
            differences = (values.loc[seeds] - reference.loc[seeds]).to_numpy()
            found.append(
                TaskComparison(
                    task=task,
                    network=network,
                    mode=mode,
                    initialization=name,
                    num_seeds=len(seeds),
                    before=float(before),
                    scratch=float(reference.loc[seeds].to_numpy().mean()),
                    pretrained=float(values.loc[seeds].to_numpy().mean()),
                    difference=two_way_interval(differences),
                    p_value=wilcoxon(differences.mean(axis=0)),
                )
            )
    corrected = holm([c.p_value for c in found])
    return [
        TaskComparison(**{**vars(c), "p_value": float(p)})
        for c, p in zip(found, corrected, strict=True)
    ]
