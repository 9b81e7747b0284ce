"""Numbers of the report, in percent: ours with intervals, the paper's beside them, paired tests."""

import itertools
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nnunet_triad.benchmark.paper import GROUPS, Published, members, published
from nnunet_triad.benchmark.report.data import (
    Model,
    Sample,
    case_means,
    label_mean,
    scratch_of,
)
from nnunet_triad.evaluation.bootstrap import Interval, bootstrap_means, percentile_interval
from nnunet_triad.evaluation.statistics import holm, mcnemar, wilcoxon

_METRICS = {"segmentation": "dice", "classification": "accuracy", "registration": "dice"}
_NONE = Model(architecture="", initialization="")
FEWEST_CASES = 6  # with fewer Wilcoxon's p is never below 0.05: 2 / 2^5


@dataclass(frozen=True, kw_only=True)
class Number:
    """What we found on one dataset, or on all datasets of a group, beside what the paper prints."""

    task: str
    scope: str
    label: str  # empty: the mean over the labels
    ours: Interval | None  # None: not (wholly) run
    paper: Published | None

    @property
    def minus_paper(self) -> float:
        """Ours - paper, in percentage points; NaN where either is missing."""
        if self.ours is None or self.paper is None:
            return math.nan
        return self.ours.estimate - self.paper.value


@dataclass(frozen=True, kw_only=True)
class Score(Number):
    """One model."""

    model: Model
    num_run: int  # datasets of the scope that were run
    num_datasets: int


@dataclass(frozen=True, kw_only=True)
class Difference(Number):
    """Two models on the same cases."""

    first: Model
    second: Model
    p_value: float  # NaN for groups: a test is made on each dataset
    p_holm: float  # corrected over the pairs of initialisations of one architecture and dataset
    test: str
    num_units: int

    @property
    def has_few_cases(self) -> bool:
        """Whether there are fewer cases than could ever give p < 0.05."""
        return self.test == "Wilcoxon" and 0 < self.num_units < FEWEST_CASES

    @property
    def verdict(self) -> str:
        """What the difference says, in words; empty where there is none, or no interval."""
        if self.ours is None or math.isnan(self.ours.estimate):
            return ""
        if self.has_few_cases:
            return f"too few cases to say (fewer than {FEWEST_CASES})"
        if math.isnan(self.ours.low):
            return ""
        if self.ours.low > 0 or self.ours.high < 0:
            return "better" if self.ours.low > 0 else "worse"
        return "no difference shown: the interval includes zero"


@dataclass(frozen=True, kw_only=True)
class Category:
    """One model on one label of a dataset."""

    score: Score
    difference: Interval | None  # to Scratch, on the same cases; None where there is none


class Scores:
    """Scores and differences of samples; each bootstrap distribution is computed once."""

    def __init__(self, samples: Sequence[Sample], *, num_resamples: int) -> None:
        self.samples = list(samples)
        self._num_resamples = num_resamples
        self._by_key = {(s.task, s.dataset, s.model): s for s in samples}
        self._drawn: dict[tuple[str, str, Model, str], NDArray[np.float64]] = {}

    def sample(self, task: str, dataset: str, model: Model) -> Sample | None:
        """Return a model's sample of a dataset; None when it was not run."""
        return self._by_key.get((task, dataset, model))

    def score(self, task: str, scope: str, model: Model, label: str = "") -> Score:
        """Return a model's score on a dataset or a group; a group only when all of it was run."""
        names = members(task, scope)
        found = [s for name in names if (s := self.sample(task, name, model)) is not None]
        found = [s for s in found if not label or label in s.labels]
        return Score(
            task=task,
            scope=scope,
            label=label,
            model=model,
            ours=self._average(found, label) if found and len(found) == len(names) else None,
            num_run=len(found),
            num_datasets=len(names),
            paper=_printed(task, scope, label, model),
        )

    def difference(
        self, task: str, scope: str, first: Model, second: Model, label: str = ""
    ) -> Difference:
        """Return the paired difference of two models on the cases that both have.

        On one dataset with a test; on a group the mean of the datasets' differences, when both
        models were run on all of them.
        """
        names = members(task, scope)
        pairs = [
            (one, other)
            for name in names
            if (one := self.sample(task, name, first)) is not None
            and (other := self.sample(task, name, second)) is not None
            and (not label or (_find(one, label) and _find(other, label)))
        ]
        ours, p_value, test, units = None, math.nan, "", 0
        if pairs and len(pairs) == len(names):
            parts = [self._paired(one, other, label) for one, other in pairs]
            ours = _mean_interval([part[:2] for part in parts], sum(part[2] for part in parts))
            if scope not in GROUPS:
                p_value, test, units = _test(*_common(*pairs[0], label))
        return Difference(
            task=task,
            scope=scope,
            label=label,
            first=first,
            second=second,
            ours=ours,
            p_value=p_value,
            p_holm=math.nan,
            test=test,
            num_units=units,
            paper=_printed(task, scope, label, first, second),
        )

    def tests(self, task: str, dataset: str, architecture: str) -> list[Difference]:
        """Return all pairs of an architecture's initialisations on a dataset, Holm-corrected."""
        models = [
            s.model
            for s in self.samples
            if (s.task, s.dataset, s.model.architecture) == (task, dataset, architecture)
        ]
        # The later one minus the earlier one: Triad - Scratch.
        pairs = [
            self.difference(task, dataset, second, first)
            for first, second in itertools.combinations(models, 2)
        ]
        corrected = holm([pair.p_value for pair in pairs])
        return [replace(pair, p_holm=float(p)) for pair, p in zip(pairs, corrected, strict=True)]

    def categories(self, task: str, dataset: str, model: Model) -> list[Category]:
        """Return a model's score of each label, and its paired difference to Scratch."""
        sample = self._by_key[(task, dataset, model)]
        scratch = self.scratch_of(task, dataset, model)
        return [
            Category(
                score=self.score(task, dataset, model, label),
                difference=self.difference(task, dataset, model, scratch, label).ours
                if scratch
                else None,
            )
            for label in sample.labels
        ]

    def scratch_of(self, task: str, dataset: str, model: Model) -> Model | None:
        """Return the Scratch that a model is compared with on a dataset, if it was run."""
        present = [s.model for s in self.samples if (s.task, s.dataset) == (task, dataset)]
        return scratch_of(model, present)

    def _average(self, found: list[Sample], label: str) -> Interval:
        parts = [(self._estimate(s, label), self._distribution(s, label)) for s in found]
        return _mean_interval(parts, sum(len(s.cases) for s in found))

    def _estimate(self, sample: Sample, label: str) -> float:
        values = sample.column(label)[:, None] if label else sample.values
        return 100 * label_mean(values)

    def _distribution(self, sample: Sample, label: str) -> NDArray[np.float64]:
        key = (sample.task, sample.dataset, sample.model, label)
        if key not in self._drawn:
            values = sample.column(label)[:, None] if label else sample.values
            self._drawn[key] = 100 * _nanmean(
                self._column_means(values, sample.subjects, sample.dataset)
            )
        return self._drawn[key]

    def _paired(
        self, one: Sample, other: Sample, label: str
    ) -> tuple[float, NDArray[np.float64], int]:
        first, second, subjects = _common(one, other, label)
        both = np.concatenate([first, second], axis=1)
        drawn = self._column_means(both, subjects, one.dataset)
        middle = first.shape[1]
        difference = _nanmean(drawn[:, :middle]) - _nanmean(drawn[:, middle:])
        estimate = label_mean(first) - label_mean(second)
        return 100 * estimate, 100 * difference, len(first)

    def _column_means(
        self, values: NDArray[np.float64], subjects: Sequence[str], dataset: str
    ) -> NDArray[np.float64]:
        """Resample a dataset; by its own seed, so that datasets are drawn independently."""
        if len(set(subjects)) < 2:  # no interval from one subject
            return np.full((self._num_resamples, values.shape[1]), math.nan)
        return bootstrap_means(
            values,
            subjects=subjects,
            num_resamples=self._num_resamples,
            seed=zlib.crc32(dataset.encode()),
        )


def _find(sample: Sample, label: str) -> str:
    """Return the label as the sample spells it; another case is the same one. Empty: not there."""
    if label in sample.labels:
        return label
    return next((name for name in sample.labels if name.lower() == label.lower()), "")


def _common(
    one: Sample, other: Sample, label: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Return both models' values on the cases and labels that both have, and the subjects."""
    places = {case: i for i, case in enumerate(other.cases)}
    rows = [(i, places[case]) for i, case in enumerate(one.cases) if case in places]
    shared = [(name, name) for name in one.labels if name in other.labels]
    labels = [(_find(one, label), _find(other, label))] if label else shared
    first = one.values[:, [one.labels.index(mine) for mine, _ in labels]]
    second = other.values[:, [other.labels.index(theirs) for _, theirs in labels]]
    mine, theirs = [i for i, _ in rows], [j for _, j in rows]
    return first[mine], second[theirs], [one.subjects[i] for i in mine]


def _test(
    first: NDArray[np.float64], second: NDArray[np.float64], subjects: list[str]
) -> tuple[float, str, int]:
    """Return the p value, the test's name and how many units it compared."""
    if first.shape[1] == 1 and np.isin(first, (0, 1)).all() and np.isin(second, (0, 1)).all():
        return mcnemar(first[:, 0], second[:, 0]), "McNemar", len(first)
    differences = case_means(first) - case_means(second)
    by_subject: dict[str, list[float]] = {name: [] for name in subjects}
    for name, value in zip(subjects, differences, strict=True):
        if not math.isnan(value):
            by_subject[name].append(value)
    means = [sum(values) / len(values) for values in by_subject.values() if values]
    return wilcoxon(means), "Wilcoxon", len(means)


def _mean_interval(parts: Sequence[tuple[float, NDArray[np.float64]]], num_cases: int) -> Interval:
    """Return the mean of independent datasets' estimates, with the interval of that mean."""
    estimate = float(np.mean([part[0] for part in parts]))
    drawn = np.mean([part[1] for part in parts], axis=0)
    return percentile_interval(estimate, drawn, num_cases=num_cases)


def _nanmean(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over columns that are known, without numpy's warning for none."""
    known = ~np.isnan(drawn)
    with np.errstate(invalid="ignore"):
        return np.where(known, drawn, 0.0).sum(axis=1) / known.sum(axis=1)


def sides(number: Published) -> tuple[Model, Model]:
    """Return the models of a printed difference; of a value, the second is `_NONE`."""
    return (
        Model(architecture=number.architecture, initialization=number.initialization),
        Model(architecture=number.minus_architecture, initialization=number.minus_initialization),
    )


def _printed(
    task: str, scope: str, label: str, first: Model, second: Model = _NONE
) -> Published | None:
    """Return what the paper prints of a model, or of the difference of two."""
    for number in published():
        if (
            (number.task, number.scope, number.metric) == (task, scope, _METRICS[task])
            and number.label.lower() == label.lower()
            and sides(number) == (first, second)
        ):
            return number
    return None
