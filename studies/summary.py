"""What the trials say: differences to scratch, with intervals."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnunet_triad.errors import UserError
from nnunet_triad.evaluation.bootstrap import Interval, percentile_interval
from nnunet_triad.evaluation.statistics import holm, wilcoxon
from studies.design import (
    DATA,
    FINETUNE,
    PLAIN,
    PRETRAININGS,
    SCRATCH,
    TRAININGS,
)
from studies.tasks import BEFORE

SEGMENTATION = ("brains", "new-brains")
AXES = "thick-slices"
_FEW = 4  # labelled subjects; up to here settings are also taken together
_RESAMPLES = 5000
_SETTING = ["data", "network", "labelled", "training"]
_WORDS = ["case", "label", "metric", "network", "data", "initialization", "training"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Initialisations, or ways of training, against another one, all else equal."""

    data: str
    network: str
    labelled: tuple[int, ...]  # the mean over these settings
    training: str
    initializations: tuple[str, ...]
    num_seeds: int  # over all initialisations
    reference: float  # mean over seeds, test cases and labels
    value: float
    difference: Interval  # in the task's unit; for an endpoint error less is better
    p_value: float = float("nan")  # Wilcoxon over the test cases, Holm over the family
    before: float = float("nan")  # endpoint error of the pairs as they are, mm

    @property
    def initialization(self) -> str:
        """The only one."""
        (name,) = self.initializations
        return name


def read_table(folder: Path) -> pd.DataFrame:
    """Read all finished trials: a row a case, label, metric and iteration.

    Raises:
        UserError: there is none.
    """
    files = sorted((folder / "trials").glob("*.csv"))
    if not files:
        raise UserError(f"{folder}: expected finished trials, got none; run python -m studies")
    options: dict[str, Any] = {"dtype": dict.fromkeys(_WORDS, str), "keep_default_na": False}
    tables: list[pd.DataFrame] = [
        pd.read_csv(f, na_values={"value": ["", "nan"]}, **options) for f in files
    ]
    table: pd.DataFrame = pd.concat(
        [t if "iteration" in t else t.assign(iteration=0) for t in tables]
    )
    order = [*_SETTING, "initialization", "seed", "iteration", "metric", "case", "label"]
    table = table.sort_values(by=order)
    return table.reset_index(drop=True)


def scores(table: pd.DataFrame, *, label: str | None = None) -> pd.DataFrame:
    """Return each trial's measure at its end: a row a trial and test case.

    Args:
        table: of `read_table`.
        label: of this label; None: the mean over the labels.
    """
    measures = table.data.map({name: data.measure for name, data in DATA.items()})
    final = table[(table.metric == measures) & (table.case != "")]
    last = final.groupby(["data", "training"]).iteration.transform("max")
    final = final[final.iteration == last]
    if label is not None:
        final = final[final.label == label]
    keys = [*_SETTING, "initialization", "seed", "case"]
    return final.groupby(keys, as_index=False)[["value"]].mean()


def compare(
    table: pd.DataFrame, data: Collection[str], *, label: str | None = None
) -> list[Comparison]:
    """Compare each initialisation with scratch where both have the same seeds; Holm over all."""
    final = scores(table[table.data.isin(data)], label=label)
    found = []
    for values, group in _settings(final):
        beside = {**values, "training": TRAININGS[values["training"]].scratch or values["training"]}
        second = _of(final, {**beside, "initialization": SCRATCH})
        before = final[(final.data == values["data"]) & (final.network == BEFORE)].value.mean()
        present = set(group.initialization)
        for name in (name for name in PRETRAININGS if name in present):
            first = group[group.initialization == name]
            found += [
                replace(c, before=float(before)) for c in _compare(values, name, first, second)
            ]
    return _corrected(found)


def compare_recipes(table: pd.DataFrame) -> list[Comparison]:
    """Compare the masked recipe with the paper's, after as many steps."""
    found = []
    for values, group in _settings(scores(table[table.data.isin(SEGMENTATION)])):
        for name, reference in (("masked", "paper"), ("long", "paper-long")):
            first, second = (group[group.initialization == n] for n in (name, reference))
            found += _compare(values, name, first, second)
    return _corrected(found)


def compare_remedies(table: pd.DataFrame) -> list[Comparison]:
    """Compare the remedies for rare classes with the plain training."""
    final = scores(table[table.data == "rare"])
    plain = final[final.training == FINETUNE]
    found = []
    for values, group in _settings(final):
        if values["training"] != FINETUNE:
            found += _compare(values, SCRATCH, group, plain)
    return _corrected(found)


def compare_axes(
    table: pd.DataFrame, *, data: str = AXES, label: str | None = None
) -> list[Comparison]:
    """Compare the axes as pre-trained with the exchanged ones; reference: the exchanged."""
    final = scores(table[table.data == data], label=label)
    found = []
    for values, exchanged in _settings(final):
        training = TRAININGS[values["training"]]
        if training.claimed_axes:
            values = {**values, "training": training.scratch}
            (name,) = exchanged.initialization.unique()
            plain = _of(final, {**values, "initialization": name})
            found += _compare(values, name, plain, exchanged)
    return _corrected(found)


def _settings(final: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    for setting, group in final.groupby(_SETTING):
        values = dict(zip(_SETTING, setting, strict=True))
        if values["network"] != BEFORE:
            yield values, group


def _of(final: pd.DataFrame, values: Mapping[str, Any]) -> pd.DataFrame:
    return final[(final[list(values)] == pd.Series(values)).all(axis=1)]


def _compare(
    values: Mapping[str, Any], name: str, first: pd.DataFrame, second: pd.DataFrame
) -> list[Comparison]:
    """Compare two trainings over the seeds that both have; nothing where they have none."""
    if first.empty or second.empty:
        return []
    one, other = _matrix(first), _matrix(second)
    seeds = one.index.intersection(other.index)
    if seeds.empty:
        return []
    one, other = one.loc[seeds], other.loc[seeds]
    differences = (one - other).to_numpy()
    return [
        Comparison(
            **{**values, "labelled": (int(values["labelled"]),)},
            initializations=(name,),
            num_seeds=len(seeds),
            reference=float(np.nanmean(other.to_numpy())),
            value=float(np.nanmean(one.to_numpy())),
            difference=two_way_interval(differences),
            p_value=wilcoxon(np.nanmean(differences, axis=0)),
        )
    ]


def _corrected(found: list[Comparison]) -> list[Comparison]:
    p_values = holm([c.p_value for c in found])
    return [replace(c, p_value=float(p)) for c, p in zip(found, p_values, strict=True)]


def _matrix(rows: pd.DataFrame) -> pd.DataFrame:
    """Return seeds x test cases."""
    return rows.pivot_table(index="seed", columns="case", values="value")


def compare_repeats(
    table: pd.DataFrame,
    *,
    original: str = "long",
    data: str = "new-brains",
    training: str = PLAIN,
) -> list[Comparison]:
    """Compare each repeat of a pre-training with scratch on other subjects, and all together.

    Each repeat has its own fine-tuning seeds. Where several are taken together, the interval draws
    pre-trainings, their seeds and the test subjects anew.

    Returns:
        For each number of labelled subjects, and for the mean over few: each pre-training, the
        repeats without the original, and all; nothing where no repeat was run.
    """
    final = scores(table[(table.data == data) & (table.training == training)])
    names = [original, *(n for n, made in PRETRAININGS.items() if made.repeats == original)]
    names = [name for name in names if name in set(final.initialization)]
    if len(names) < 2:
        return []
    settings = sorted({int(n) for n in final.labelled[final.initialization.isin(names[1:])]})
    few = tuple(n for n in settings if n <= _FEW)
    groups = [(n,) for n in settings] + ([few] if len(few) > 1 else [])
    together = [names[1:], names] if len(names) > 2 else [names]
    found = [
        _pool(final, labelled, tuple(chosen))
        for labelled in groups
        for chosen in ([[name] for name in names] + together)
    ]
    return [comparison for comparison in found if comparison is not None]


def _pool(
    final: pd.DataFrame, labelled: tuple[int, ...], names: tuple[str, ...]
) -> Comparison | None:
    """Take pre-trainings together; None where one of them lacks some of these settings."""
    part = final[final.labelled.isin(labelled)]
    scratch = _mean_over_labelled(part[part.initialization == SCRATCH], labelled)
    first, second, group = [], [], list[int]()
    for number, name in enumerate(names):
        tuned = _mean_over_labelled(part[part.initialization == name], labelled)
        seeds = tuned.index.intersection(scratch.index)
        if seeds.empty:
            return None
        first.append(tuned.loc[seeds])
        second.append(scratch.loc[seeds])
        group += [number] * len(seeds)
    values, reference = pd.concat(first).to_numpy(), pd.concat(second).to_numpy()
    return Comparison(
        data=str(final.data.iloc[0]),
        network=str(final.network.iloc[0]),
        labelled=labelled,
        training=str(final.training.iloc[0]),
        initializations=names,
        num_seeds=len(group),
        reference=float(reference.mean()),
        value=float(values.mean()),
        difference=two_way_interval(values - reference, groups=np.array(group)),
    )


def _mean_over_labelled(rows: pd.DataFrame, labelled: tuple[int, ...]) -> pd.DataFrame:
    """Return seeds x test subjects, of the seeds that have all these numbers of subjects."""
    counts = rows.groupby("seed").labelled.nunique()
    complete = counts.index[counts == len(labelled)]
    return _matrix(rows[rows.seed.isin(complete)])


def two_way_interval(
    differences: np.ndarray, *, groups: np.ndarray | None = None, seed: int = 0
) -> Interval:
    """Return the mean and its 95 % interval; seeds and test subjects are both drawn anew.

    An interval over the test subjects alone would take the training subjects and the initial
    weights, which a seed stands for, as given once for all.

    Args:
        differences: (seeds, subjects).
        groups: (seeds,) which pre-training is behind a seed, 0, 1, ...: these are drawn anew first,
            then the seeds of each. Few groups make the interval too narrow: the mean of G scatters
            by sqrt((G - 1) / G) of what it should.
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    num_seeds, num_cases = differences.shape
    seeds = _draw(num_seeds, random) if groups is None else _draw_grouped(groups, random)
    cases = _draw(num_cases, random)
    known = ~np.isnan(differences)
    total = (seeds @ np.where(known, differences, 0) * cases).sum(axis=1)
    with np.errstate(invalid="ignore"):  # NaN where nothing that is known was drawn
        means = total / (seeds @ known * cases).sum(axis=1)
    return percentile_interval(float(np.nanmean(differences)), means, num_cases=num_cases)


def _draw(num: int, random: np.random.Generator) -> np.ndarray:
    """Return how often each of `num` is drawn, (resamples, num)."""
    draws = random.integers(num, size=(_RESAMPLES, num))
    return np.stack([(draws == k).sum(axis=1) for k in range(num)], axis=1)


def _draw_grouped(groups: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return how often each seed is drawn, (resamples, seeds): groups first, then their seeds."""
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    counts = []
    for _ in range(_RESAMPLES):
        chosen = random.integers(len(members), size=len(members))
        drawn = [random.choice(members[k], size=len(members[k])) for k in chosen]
        counts.append(np.bincount(np.concatenate(drawn), minlength=len(groups)))
    return np.array(counts)


def mean_and_spread(rows: pd.DataFrame, metric: str, label: str = "") -> tuple[float, float]:
    """Return the mean over cases and seeds, and the standard deviation over seeds.

    Args:
        rows: of one setting and initialisation.
        metric: its name in the table.
        label: of a metric that has some.

    Returns:
        NaN for a spread of one seed, and for both where the metric is not there.
    """
    found = rows[(rows.metric == metric) & (rows.label == label)]
    means = found.groupby("seed").value.mean()
    return float(means.mean()), float(means.std())


def ordinary(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the first subjects, fine-tuned by the plain recipe."""
    return table[(table.data == "brains") & (table.training == PLAIN)]


def iterations_to_scratch(table: pd.DataFrame) -> pd.DataFrame:
    """Return when the mean learning curve reaches scratch's last value on the same subjects.

    Returns:
        Columns network, labelled, initialization, iterations (NaN: not within the run); between
        two measurements the curve is taken as straight.
    """
    plain = ordinary(table)
    early = plain[plain.iteration < plain.iteration.max()].case.unique()
    curves = plain[plain.case.isin(early)].groupby(
        ["network", "labelled", "initialization", "iteration"], as_index=False
    )
    rows = []
    for (network, labelled), group in curves.value.mean().groupby(["network", "labelled"]):
        by_name = dict(list(group.groupby("initialization")))
        if SCRATCH not in by_name:
            continue
        target = by_name[SCRATCH].value.iloc[-1]
        for name, part in by_name.items():
            reached = _first_crossing(part.iteration.to_numpy(), part.value.to_numpy(), target)
            rows.append((network, labelled, name, reached))
    return pd.DataFrame(rows, columns=["network", "labelled", "initialization", "iterations"])


def _first_crossing(iterations: np.ndarray, values: np.ndarray, target: float) -> float:
    for k, value in enumerate(values):
        if value >= target:
            if k == 0:
                return float(iterations[0])
            share = (target - values[k - 1]) / (value - values[k - 1])
            return float(iterations[k - 1] + share * (iterations[k] - iterations[k - 1]))
    return float("nan")
