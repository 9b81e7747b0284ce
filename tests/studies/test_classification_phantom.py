"""What the comparison on phantoms plans, and how it joins seeds."""

import numpy as np
import pytest

from classification.metrics import accuracy, macro_auc
from classification.predict import Predictions
from studies import classification_phantom_report
from studies.classification_phantom import (
    CLOSER_LOOK,
    MORE_SEEDS,
    REMEDIES,
    SEEDS,
    planned_runs,
)
from studies.classification_phantom_report import Group, comparison_table, mean_over_seeds

CLASSES = ("a", "b", "c")


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty resamples an interval instead of a thousand."""
    monkeypatch.setattr(classification_phantom_report, "_RESAMPLES", 50)


def _predictions(seed: int, num_samples: int = 24) -> Predictions:
    random = np.random.default_rng(seed)
    names = np.array([f"sub-{number:02d}" for number in range(num_samples)])
    return Predictions(
        classes=CLASSES,
        cases=names,
        subjects=names,
        splits=np.full(num_samples, "test"),
        truth=np.arange(num_samples) % len(CLASSES),
        probabilities=random.dirichlet(np.ones(len(CLASSES)), num_samples),
    )


def _perfect() -> Predictions:
    run = _predictions(0)
    return Predictions(**{**vars(run), "probabilities": np.eye(len(CLASSES))[run.truth]})


def test_mean_over_seeds_is_the_mean_of_each_seeds_metric():
    group = Group(seeds=tuple(_predictions(seed) for seed in range(3)))
    expected = np.mean([macro_auc(_predictions(seed).rows) for seed in range(3)])
    assert mean_over_seeds(macro_auc, 1 + len(CLASSES))(group.rows()) == pytest.approx(expected)
    assert group.interval(macro_auc).estimate == pytest.approx(expected)


def test_difference_of_a_group_and_itself_is_zero_on_every_resample():
    group = Group(seeds=(_predictions(1), _predictions(2)))
    interval = group.difference(group, accuracy)
    assert (interval.estimate, interval.low, interval.high) == (0, 0, 0)


def test_difference_compares_one_frozen_run_with_every_seed():
    seeds = Group(seeds=tuple(_predictions(seed) for seed in range(3)))
    once = Group(seeds=(_perfect(),))
    expected = 1 - np.mean([accuracy(seed.rows) for seed in seeds.seeds])
    assert once.difference(seeds, accuracy).estimate == pytest.approx(expected)


def test_difference_of_groups_with_other_numbers_of_seeds_takes_the_first_ones_of_both():
    three = Group(seeds=tuple(_predictions(seed) for seed in range(3)))
    two = Group(seeds=three.seeds[:2])
    interval = three.difference(two, accuracy)
    assert (interval.estimate, interval.low, interval.high) == (0, 0, 0)


def test_comparison_table_shows_the_difference_from_scratch_only_for_the_others():
    groups = {
        ("lesion", "swin_t", "finetune", "scratch", "plain"): Group(seeds=(_predictions(1),)),
        ("lesion", "swin_t", "finetune", "triad", "plain"): Group(seeds=(_perfect(),)),
    }
    scratch, triad = comparison_table(groups).splitlines()[2:]
    assert scratch.endswith("|  |  |")
    gain = 1 - accuracy(_predictions(1).rows)
    assert "| 1.00 (1.00 to 1.00) | one |" in triad and f"| {gain:+.2f} (" in triad


def test_planned_runs_are_distinct_and_repeat_each_fine_tuning_for_every_seed():
    runs = list(planned_runs())
    assert len({run.name for run in runs}) == len(runs)
    tuned = [run for run in runs if run.mode == "finetune" and run.task != "rare"]
    seeds: dict[tuple[str, str, str], set[int]] = {}
    for run in tuned:
        seeds.setdefault((run.task, run.encoder, run.initialization), set()).add(run.seed)
    # the masked recipe on the sequences, and a longer pre-training in one setting
    assert len(seeds) == 3 * 2 * 2 + 2 + 1
    for (task, encoder, _), found in seeds.items():
        assert found == set(MORE_SEEDS if (task, encoder) == CLOSER_LOOK else SEEDS)
    assert len([run for run in runs if run.task == "rare"]) == len(REMEDIES) * len(SEEDS)
