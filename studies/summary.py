"""What the trials say: differences to scratch, with intervals."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nnunet_triad.errors import UserError
from nnunet_triad.evaluation.bootstrap import Interval
from nnunet_triad.evaluation.statistics import holm, wilcoxon
from studies.design import (
    ABLATION_ENCODER,
    ABLATION_LABELLED,
    FINE_TUNINGS,
    PLAIN,
    PRETRAININGS,
    SCRATCH,
)

_RESAMPLES = 5000
_SETTING = ["encoder", "labelled", "finetuning", "is_confirmation"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """An initialisation against scratch, all else equal."""

    encoder: str
    initialization: str
    labelled: int
    finetuning: str
    is_confirmation: bool
    num_seeds: int
    scratch: float  # mean Dice over seeds, test subjects and labels
    dice: float
    difference: Interval
    p_value: float  # Wilcoxon over the test subjects; corrected by `compare_all`


def read_trials(folder: Path) -> pd.DataFrame:
    """Read all finished trials.

    Raises:
        UserError: there is none, or one of an older version.
    """
    files = sorted((folder / "trials").glob("*.csv"))
    if not files:
        raise UserError(f"{folder}: expected finished trials, got none; run python -m studies")
    table = pd.concat([pd.read_csv(file) for file in files], ignore_index=True)
    if "finetuning" not in table or table["finetuning"].isna().any():
        raise UserError(
            f"{folder}: expected trials of this version, got older ones without the column "
            "finetuning; use another folder"
        )
    return table


def scores(table: pd.DataFrame, *, label: str | None = None) -> pd.DataFrame:
    """Return each trial's Dice at its end: a row a trial and test subject.

    Args:
        table: of `read_trials`.
        label: of this label; None: the mean over the labels.
    """
    final = table[table.iteration == table.iteration.max()]
    if label is not None:
        final = final[final.label == label]
    keys = [*_SETTING, "initialization", "seed", "case"]
    return final.groupby(keys, as_index=False).dice.mean()


def compare_all(table: pd.DataFrame, *, label: str | None = None) -> list[Comparison]:
    """Compare each initialisation with scratch where both have the same seeds; Holm over all."""
    final = scores(table, label=label)
    found = []
    for setting, group in final.groupby(_SETTING):
        values = dict(zip(_SETTING, setting, strict=True))
        reference = _scratch_beside(final, values)
        for name in PRETRAININGS:
            found += _compare(values, name, group, reference)
    corrected = holm([c.p_value for c in found])
    return [_with_p(c, float(p)) for c, p in zip(found, corrected, strict=True)]


def compare_recipes(table: pd.DataFrame) -> list[Comparison]:
    """Compare the masked recipe with the paper's (in `scratch`'s place), after as many steps."""
    final = scores(table)
    found = []
    for setting, group in final.groupby(_SETTING):
        values = dict(zip(_SETTING, setting, strict=True))
        for name, reference in (("masked", "paper"), ("long", "paper-long")):
            found += _compare(values, name, group, group, against=reference)
    corrected = holm([c.p_value for c in found])
    return [_with_p(c, float(p)) for c, p in zip(found, corrected, strict=True)]


@dataclass(frozen=True, kw_only=True)
class Repeats:
    """Pre-trainings that differ in their seed alone, against scratch on the confirmation."""

    labelled: tuple[int, ...]  # the mean over these settings
    pretrainings: tuple[str, ...]
    num_seeds: int  # of fine-tuning, over all pre-trainings
    scratch: float
    dice: float
    difference: Interval


def compare_repeats(table: pd.DataFrame, *, original: str = "long") -> list[Repeats]:
    """Compare each repeat of a pre-training with scratch, and all of them together.

    Each repeat has its own fine-tuning seeds. Where several are taken together, the interval draws
    pre-trainings, their seeds and the test subjects anew.

    Returns:
        For each number of labelled subjects, and for the mean over them: each pre-training, the
        repeats without the original, and all; nothing where no repeat was run.
    """
    final = scores(table)
    final = final[final.is_confirmation]
    names = [original, *(n for n, made in PRETRAININGS.items() if made.repeats == original)]
    names = [name for name in names if name in set(final.initialization)]
    if len(names) < 2:
        return []
    settings = sorted({int(n) for n in final.labelled[final.initialization.isin(names[1:])]})
    groups = [(n,) for n in settings] + ([tuple(settings)] if len(settings) > 1 else [])
    together = [names[1:], names] if len(names) > 2 else [names]
    found = [
        _pool(final, labelled, tuple(chosen))
        for labelled in groups
        for chosen in ([[name] for name in names] + together)
    ]
    return [repeats for repeats in found if repeats is not None]


def _pool(final: pd.DataFrame, labelled: tuple[int, ...], names: tuple[str, ...]) -> Repeats | None:
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
    return Repeats(
        labelled=labelled,
        pretrainings=names,
        num_seeds=len(group),
        scratch=float(reference.mean()),
        dice=float(values.mean()),
        difference=two_way_interval(values - reference, groups=np.array(group)),
    )


def _mean_over_labelled(rows: pd.DataFrame, labelled: tuple[int, ...]) -> pd.DataFrame:
    """Return seeds x test subjects, of the seeds that have all these numbers of subjects."""
    counts = rows.groupby("seed").labelled.nunique()
    complete = counts.index[counts == len(labelled)]
    return _matrix(rows[rows.seed.isin(complete)])


def _scratch_beside(final: pd.DataFrame, values: dict) -> pd.DataFrame:
    """Return the rows with the fine-tuning whose scratch is compared with."""
    finetuning = str(values["finetuning"])
    values = {**values, "finetuning": FINE_TUNINGS[finetuning].scratch or finetuning}
    return final[(final[_SETTING] == pd.Series(values)[_SETTING]).all(axis=1)]


def _compare(
    values: dict,
    name: str,
    group: pd.DataFrame,
    reference: pd.DataFrame,
    *,
    against: str = SCRATCH,
) -> list[Comparison]:
    first = _matrix(group[group.initialization == name])
    second = _matrix(reference[reference.initialization == against])
    seeds = first.index.intersection(second.index)
    if seeds.empty:
        return []
    first, second = first.loc[seeds], second.loc[seeds]
    differences = (first - second).to_numpy()
    return [
        Comparison(
            **values,
            initialization=name,
            num_seeds=len(seeds),
            scratch=float(np.nanmean(second.to_numpy())),
            dice=float(np.nanmean(first.to_numpy())),
            difference=two_way_interval(differences),
            p_value=wilcoxon(np.nanmean(differences, axis=0)),
        )
    ]


def _matrix(rows: pd.DataFrame) -> pd.DataFrame:
    """Return seeds x test subjects."""
    return rows.pivot_table(index="seed", columns="case", values="dice")


def _with_p(comparison: Comparison, p_value: float) -> Comparison:
    return Comparison(**{**vars(comparison), "p_value": p_value})


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
    if groups is None:
        rows = list(random.integers(num_seeds, size=(_RESAMPLES, num_seeds)))
    else:
        rows = _draw_grouped(groups, random)
    columns = random.integers(num_cases, size=(_RESAMPLES, num_cases))
    means = [np.nanmean(differences[r][:, c]) for r, c in zip(rows, columns, strict=True)]
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(
        estimate=float(np.nanmean(differences)),
        low=float(low),
        high=float(high),
        num_cases=num_cases,
    )


def _draw_grouped(groups: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    return [
        np.concatenate(
            [
                random.choice(members[group], size=len(members[group]))
                for group in random.integers(len(members), size=len(members))
            ]
        )
        for _ in range(_RESAMPLES)
    ]


def is_ablation(comparison: Comparison) -> bool:
    """Say whether a comparison belongs to the ablations."""
    setting = (comparison.encoder, comparison.labelled, comparison.is_confirmation)
    return setting == (ABLATION_ENCODER, ABLATION_LABELLED, False)


def ordinary(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the first subjects, fine-tuned by the plain recipe."""
    return table[~table.is_confirmation & (table.finetuning == PLAIN)]


def iterations_to_scratch(table: pd.DataFrame) -> pd.DataFrame:
    """Return when the mean learning curve reaches scratch's last value on the same subjects.

    Returns:
        Columns encoder, labelled, initialization, iterations (NaN: not within the run); between
        two measurements the curve is taken as straight.
    """
    plain = ordinary(table)
    early = plain[plain.iteration < plain.iteration.max()].case.unique()
    curves = plain[plain.case.isin(early)].groupby(
        ["encoder", "labelled", "initialization", "iteration"], as_index=False
    )
    rows = []
    for (encoder, labelled), group in curves.dice.mean().groupby(["encoder", "labelled"]):
        by_name = dict(list(group.groupby("initialization")))
        if SCRATCH not in by_name:
            continue
        target = by_name[SCRATCH].dice.iloc[-1]
        for name, part in by_name.items():
            reached = _first_crossing(part.iteration.to_numpy(), part.dice.to_numpy(), target)
            rows.append((encoder, labelled, name, reached))
    return pd.DataFrame(rows, columns=["encoder", "labelled", "initialization", "iterations"])


def _first_crossing(iterations: np.ndarray, values: np.ndarray, target: float) -> float:
    for k, value in enumerate(values):
        if value >= target:
            if k == 0:
                return float(iterations[0])
            share = (target - values[k - 1]) / (value - values[k - 1])
            return float(iterations[k - 1] + share * (iterations[k] - iterations[k - 1]))
    return float("nan")
