"""Results tables as samples: one model on one dataset, a row a case and a column a label."""

import difflib
import math
import warnings
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nnunet_triad.benchmark.paper import (
    ARCHITECTURES,
    TASKS,
    datasets,
    find_dataset,
    initializations,
)
from nnunet_triad.errors import UserError
from nnunet_triad.evaluation.results import read_results

# The metric that the paper compares by, and how the results table names it.
PRIMARY_METRICS = {"segmentation": "dice", "classification": "correct", "registration": "dice"}
# TransMorph's published IXI Dice, which the paper follows, is the mean over 17 groups of
# structures, left and right together, of labels warped linearly. The first that is there counts.
_METRICS_BY_DATASET = {("registration", "IXI"): ("dice_linear_group", "dice_group", "dice")}
_MEAN_LABEL = "mean"  # a row that is the mean over a case's other labels
_KEY = [
    *("task", "dataset", "architecture", "initialization"),
    *("fold", "seed", "case", "label", "metric"),
]


@dataclass(frozen=True, kw_only=True)
class Model:
    """What is compared on a dataset."""

    architecture: str
    initialization: str

    @property
    def name(self) -> str:
        """As it is shown."""
        return f"{architecture_name(self.architecture)}, {initialization_name(self.initialization)}"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The primary metric of one model on one dataset."""

    task: str
    dataset: str
    model: Model
    cases: tuple[str, ...]
    subjects: tuple[str, ...]
    labels: tuple[str, ...]
    values: NDArray[np.float64]  # (cases, labels), shares; NaN where undefined
    num_seeds: int

    def column(self, label: str) -> NDArray[np.float64]:
        """Return one label's values."""
        return self.values[:, self.labels.index(label)]


def load_results(paths: Sequence[Path]) -> pd.DataFrame:
    """Read results tables as one; of a row that is there twice, the last one counts.

    Raises:
        UserError: there is no table, one cannot be read, has an unknown task, or a Dice or a
            probability that is no share.
    """
    if not paths:
        raise UserError("results: expected at least one results table, got none; run first")
    tables = [read_results(path) for path in paths]
    for path, table in zip(paths, tables, strict=True):
        unknown = sorted(set(table["task"]) - set(TASKS))
        if unknown:
            got = ", ".join(map(repr, unknown[:3]))
            raise UserError(f"{path}: task: expected one of {', '.join(TASKS)}, got {got}")
        _check_shares(path, table)
    return normalize(pd.concat(tables, ignore_index=True))


def normalize(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with the comparison's names of datasets and initialisations."""
    pairs = table[["task", "dataset"]].drop_duplicates().itertuples(index=False, name=None)
    names = {pair: find_dataset(*pair) for pair in pairs}
    return table.assign(
        dataset=[
            known.name if (known := names[task, dataset]) else dataset
            for task, dataset in zip(table["task"], table["dataset"], strict=True)
        ],
        architecture=table["architecture"].str.lower(),
        initialization=table["initialization"].str.lower(),
    ).drop_duplicates(_KEY, keep="last", ignore_index=True)


def near_misses(table: pd.DataFrame) -> list[str]:
    """Return a sentence for each dataset that is not the paper's but whose name is close to one."""
    sentences = []
    for task, dataset in table[["task", "dataset"]].drop_duplicates().itertuples(index=False):
        known = [d.name for d in datasets() if d.task == task]
        near = difflib.get_close_matches(
            dataset.lower(), [k.lower() for k in known], 1, cutoff=0.75
        )
        if dataset not in known and near:
            meant = next(k for k in known if k.lower() == near[0])
            sentences.append(f"{dataset} is no dataset of the paper; was {meant} meant?")
    return sentences


def samples(table: pd.DataFrame) -> list[Sample]:
    """Return the primary metric of each model and dataset, in the paper's order."""
    keys = ["task", "dataset", "architecture", "initialization"]
    groups = (_primary(rows) for _, rows in table.groupby(keys, sort=False))
    found = [_sample(rows) for rows in groups if len(rows)]
    return sorted(found, key=_order)


def label_mean(values: NDArray[np.float64]) -> float:
    """Return the mean over labels of the mean over cases, as nnU-Net does; NaN without a value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # an empty column is NaN, and left out
        return float(np.nanmean(np.nanmean(values, axis=0))) if values.size else math.nan


def case_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over the labels of each case; NaN where none is defined."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmean(values, axis=1)


def architecture_name(architecture: str) -> str:
    """Return an architecture as it is shown."""
    return ARCHITECTURES.get(architecture, architecture)


def initialization_name(initialization: str) -> str:
    """Return an initialisation as it is shown: `triad-frozen` as Triad (frozen)."""
    base, variant = split_initialization(initialization)
    name = initializations().get(base, base)
    return f"{name} ({variant.replace('-', ', ')})" if variant else name


def split_initialization(initialization: str) -> tuple[str, str]:
    """Return what the network starts from, and the trainer's variant, often empty."""
    base, _, variant = initialization.partition("-")
    return (base, variant) if base in initializations() else (initialization, "")


def scratch_of(model: Model, present: Collection[Model]) -> Model | None:
    """Return what a model is compared with: Scratch in its variant, else Scratch, if it is there.

    Args:
        model: None comes back for Scratch itself.
        present: the models of the dataset.
    """
    base, variant = split_initialization(model.initialization)
    if base == "scratch":
        return None
    names = (f"scratch-{variant}", "scratch") if variant else ("scratch",)
    candidates = [replace(model, initialization=name) for name in names]
    return next((candidate for candidate in candidates if candidate in present), None)


def ordered(names: Iterable[str], order: Sequence[str]) -> list[str]:
    """Return distinct names, known ones first in their order, then the others by name."""
    return sorted(set(names), key=lambda name: (_place(name, order), name))


def sort_models(models: Iterable[Model]) -> list[Model]:
    """Return distinct models by architecture, then initialisation, in the paper's order."""
    return sorted(
        set(models),
        key=lambda m: (
            _place(m.architecture, list(ARCHITECTURES)),
            m.architecture,
            _initialization_place(m.initialization),
        ),
    )


def _check_shares(path: Path, table: pd.DataFrame) -> None:
    """Refuse percentages: a share of 79.3 would become 7930 %."""
    shares = table[table["metric"].str.startswith(("dice", "correct", "probability"))]
    wrong = shares[~shares["value"].between(0, 1) & shares["value"].notna()]
    if len(wrong):
        first = wrong.iloc[0]
        raise UserError(
            f"{path}: {first['metric']}: expected shares from 0 to 1, got {first['value']:g} "
            f"for {first['case']}; divide percentages by 100"
        )


def _primary(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the metric that one task and dataset is compared by."""
    task, dataset = str(rows["task"].iloc[0]), str(rows["dataset"].iloc[0])
    wanted = _METRICS_BY_DATASET.get((task, dataset), (PRIMARY_METRICS[task],))
    metric = next((name for name in wanted if (rows["metric"] == name).any()), wanted[0])
    chosen = rows[rows["metric"] == metric]
    others = chosen["label"] != _MEAN_LABEL
    return chosen[others] if others.any() else chosen


def _sample(rows: pd.DataFrame) -> Sample:
    """Return the sample of rows that are all of one task, dataset and model."""
    first = rows.iloc[0]
    task = str(first["task"])
    if task == "classification":  # the label is the true class: one column, not one a class
        rows = rows.assign(label="")
    labels = tuple(dict.fromkeys(rows["label"]))
    wide = rows.pivot_table(
        index="case", columns="label", values="value", aggfunc="mean", dropna=False, sort=False
    )
    subjects = rows.drop_duplicates("case").set_index("case")["subject"]
    cases = tuple(map(str, wide.index))
    return Sample(
        task=task,
        dataset=str(first["dataset"]),
        model=Model(architecture=first["architecture"], initialization=first["initialization"]),
        cases=cases,
        subjects=tuple(str(subjects[case]) or case for case in cases),
        labels=labels,
        values=wide.reindex(columns=list(labels)).to_numpy(dtype=np.float64),
        num_seeds=rows["seed"].nunique(),
    )


def _order(sample: Sample) -> tuple[int, int, str, int, tuple[int, str]]:
    names = [dataset.name for dataset in datasets() if dataset.task == sample.task]
    return (
        TASKS.index(sample.task),
        _place(sample.dataset, names),
        sample.dataset,
        _place(sample.model.architecture, list(ARCHITECTURES)),
        _initialization_place(sample.model.initialization),
    )


def _initialization_place(initialization: str) -> tuple[int, str]:
    base, variant = split_initialization(initialization)
    known = initializations()
    return _place(base, list(known)), variant if base in known else base


def _place(name: str, order: Sequence[str]) -> int:
    return list(order).index(name) if name in order else len(order)
