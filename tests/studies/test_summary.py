"""Differences to scratch: by hand, by the normal theory, and as they are published."""

import re
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nnunet_triad.errors import UserError
from studies.design import DATA, PRETRAININGS, SCRATCH
from studies.report import tables
from studies.simulate import LABELS
from studies.summary import (
    SEGMENTATION,
    compare,
    compare_recipes,
    compare_remedies,
    compare_repeats,
    iterations_to_scratch,
    mean_and_spread,
    read_table,
    two_way_interval,
)

ROOT = Path(__file__).parents[2]
EVIDENCE, DIARY = ROOT / "docs" / "evidence", ROOT / "studies" / "diary.md"


def rows(initialization, values, *, seed=0, training="adamw", data="brains", labelled=1):
    """Dice by iteration, nearly the same for two cases."""
    return pd.DataFrame(
        [
            {
                **{"network": "unet_t", "initialization": initialization, "labelled": labelled},
                **{"training": training, "seed": seed, "label": label, "data": data},
                **{"metric": "dice", "iteration": iteration, "case": case},
                **{"value": value + 0.01 * (case == "b")},
            }
            for iteration, value in values.items()
            for case in ("a", "b")
            for label in LABELS
        ]
    )


def other_rows(data, network, initialization, seed, values, *, training="finetune", metric=""):
    return pd.DataFrame(
        {
            **{"data": data, "network": network, "training": training, "seed": seed},
            **{"initialization": initialization, "value": values, "labelled": 0, "iteration": 0},
            **{"metric": metric, "label": "", "case": [f"case{k}" for k in range(len(values))]},
        }
    )


def published():
    """The tables of docs/evidence in the form that a report writes now."""
    segmentation = pd.read_csv(EVIDENCE / "evidence.csv").rename(
        columns={"encoder": "network", "finetuning": "training", "dice": "value"}
    )
    data = segmentation.is_confirmation.map({True: "new-brains", False: "brains"})
    others = pd.read_csv(EVIDENCE / "tasks.csv").rename(columns={"mode": "training"})
    names = {"classification": "sequences", "registration": "aligned-brains"}
    others = others.assign(data=others.task.map(names), labelled=0, iteration=0, label="")
    axes = pd.read_csv(EVIDENCE / "axes.csv", keep_default_na=False, na_values={"value": [""]})
    return pd.concat([segmentation.assign(data=data, metric="dice"), others, axes])


def split_row(line):
    """A table's row as its words and its numbers."""
    number = r"[+-]?\d*\.?\d+(?:e-\d+)?"
    return re.sub(number, "#", line), [float(n) for n in re.findall(number, line)]


@cache
def published_rows():
    """The rows that a report writes now of the published values."""
    rows = [line for line in tables(published()).splitlines() if line.startswith("| ")]
    return [row for row in rows if "difference (95 % interval)" not in row]


def estimates(line):
    """Reference, value, difference and its interval of a table's row; whether it is bold."""
    found = re.search(r"([^|]*\|[^|]*\|[^|]*\([-+.\d]+ to [-+.\d]+\))", line)
    numbers = found and [float(n) for n in re.findall(r"[+-]?\d*\.\d+", found[1])]
    return (numbers, "**" in line) if numbers else None


def test_the_published_tables_follow_from_the_published_values():
    text = DIARY.read_text(encoding="utf-8")
    expected = [split_row(line) for line in text.splitlines() if line.startswith("| ")]

    rows = [split_row(line) for line in published_rows()]

    def is_published(words, numbers):
        # A bound that lies between two roundings may take either.
        near = [np.allclose(numbers, n, rtol=0, atol=0.00101) for w, n in expected if w == words]
        return any(near)

    assert len(rows) > 160
    assert [row for row in rows if not is_published(*row)] == []


def test_the_page_shows_a_selection_of_the_published_rows():
    text = (EVIDENCE / "phantoms.md").read_text(encoding="utf-8")
    shown = [estimates(line) for line in text.splitlines() if line.startswith("| ")]
    shown = [one for one in shown if one]

    found = [one for line in published_rows() if (one := estimates(line))]

    def is_found(numbers, is_bold):
        return any(
            np.allclose(numbers, n, rtol=0, atol=0.00101) for n, bold in found if bold == is_bold
        )

    assert len(shown) == 9 + 6 + 4
    assert [one for one in shown if not is_found(*one)] == []


def test_recipes_are_compared_after_as_many_steps():
    values = {"paper": 0.3, "masked": 0.4, "paper-long": 0.5, "long": 0.45}
    table = pd.concat(
        [rows(name, {2: value}, seed=seed) for name, value in values.items() for seed in (0, 1)]
    )

    short, long = compare_recipes(table)

    assert (short.initialization, long.initialization) == ("masked", "long")
    assert short.difference.estimate == pytest.approx(0.1)
    assert long.difference.estimate == pytest.approx(-0.05)
    assert short.num_seeds == 2


def test_two_way_interval_is_as_wide_as_the_seeds_differ():
    by_seed = np.array([0.0, 0.2])[:, None] + np.zeros((2, 30))

    interval = two_way_interval(by_seed)

    # Two seeds, drawn twice: both are the first one in a quarter of the draws.
    assert (interval.low, interval.high) == (0.0, pytest.approx(0.2))
    assert interval.estimate == pytest.approx(0.1)


def test_two_way_interval_of_groups_is_as_wide_as_the_groups_differ():
    groups = np.repeat([0, 1, 2, 3], 10)
    values = np.array([0.0, 0.0, 0.2, 0.2])[groups][:, None] + np.zeros((40, 30))

    grouped, plain = two_way_interval(values, groups=groups), two_way_interval(values)

    # All four draws fall on groups of the same value in a sixteenth of the resamples each.
    assert (grouped.low, grouped.high) == (0.0, pytest.approx(0.2))
    assert plain.high - plain.low == pytest.approx(2 * 1.96 * 0.1 / np.sqrt(40), rel=0.15)
    assert grouped.estimate == plain.estimate == pytest.approx(0.1)


def test_two_way_interval_takes_groups_of_different_sizes():
    groups = np.array([0, 1, 1])
    values = np.array([0.0, 0.2, 0.2])[:, None] + np.zeros((3, 4))

    interval = two_way_interval(values, groups=groups)

    assert (interval.low, interval.high) == (0.0, pytest.approx(0.2))


def test_two_way_interval_leaves_unknown_values_out():
    values = np.array([[0.1, np.nan, 0.1], [0.1, 0.1, 0.1]])

    interval = two_way_interval(values)

    assert (interval.low, interval.estimate, interval.high) == pytest.approx((0.1, 0.1, 0.1))


def test_two_way_interval_of_many_seeds_and_cases_is_that_of_the_normal_theory():
    values = np.random.default_rng(0).normal(0.3, 1, size=(40, 50))
    values += np.random.default_rng(1).normal(0, 2, size=(40, 1))

    interval = two_way_interval(values)

    half = 1.96 * values.mean(axis=1).std(ddof=1) / np.sqrt(40)
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.15)


def test_repeats_of_a_pretraining_are_compared_one_by_one_and_together():
    offsets = {"long": 0.1, "long-seed1": 0.3, "long-seed2": 0.2}
    made = []
    for order, (name, offset) in enumerate(offsets.items()):
        for seed in (10 + 2 * order, 11 + 2 * order):
            for labelled in (1, 2):
                scratch = 0.05 * labelled + 0.01 * seed
                for which, value in ((SCRATCH, scratch), (name, scratch + labelled * offset)):
                    where = {"seed": seed, "data": "new-brains", "labelled": labelled}
                    made.append(rows(which, {2: value}, **where))
    table = pd.concat(made)

    found = {(r.labelled, r.initializations): r for r in compare_repeats(table)}

    all_three, new = tuple(offsets), tuple(offsets)[1:]
    assert found[(1,), ("long",)].difference.estimate == pytest.approx(0.1)
    assert found[(2,), ("long-seed1",)].difference.estimate == pytest.approx(0.6)
    assert found[(1,), new].difference.estimate == pytest.approx(0.25)
    assert found[(1,), new].difference.low == pytest.approx(0.2)
    assert found[(1, 2), all_three].difference.estimate == pytest.approx(0.3)
    assert found[(1, 2), all_three].num_seeds == 6
    assert len(found) == 15
    unfinished = table.query("initialization != 'long-seed2' or labelled == 1")
    left = {(r.labelled, r.initializations) for r in compare_repeats(unfinished)}
    assert left == {key for key in found if "long-seed2" not in key[1] or key[0] == (1,)}


def test_compare_subtracts_scratch_seed_by_seed_and_case_by_case():
    table = pd.concat(
        [
            rows(SCRATCH, {1: 0.1, 2: 0.50}, seed=0),
            rows(SCRATCH, {1: 0.1, 2: 0.30}, seed=1),
            rows("masked", {1: 0.9, 2: 0.53}, seed=0),
            rows("masked", {1: 0.9, 2: 0.33}, seed=1),
            rows("masked", {1: 0.9, 2: 0.99}, seed=2),  # no scratch to compare with
        ]
    )

    (comparison,) = compare(table, SEGMENTATION)

    assert comparison.num_seeds == 2
    assert comparison.reference == pytest.approx(0.405)
    assert comparison.difference.estimate == pytest.approx(0.03)
    assert comparison.difference.low == pytest.approx(0.03)


def test_compare_sets_a_frozen_encoder_against_scratch_that_is_not_frozen():
    table = pd.concat([rows(SCRATCH, {2: 0.5}), rows("masked", {2: 0.4}, training="adamw-frozen")])

    (comparison,) = compare(table, SEGMENTATION)

    assert comparison.training == "adamw-frozen"
    assert comparison.difference.estimate == pytest.approx(-0.1)


def test_compare_keeps_the_new_subjects_apart():
    table = pd.concat(
        [
            rows(SCRATCH, {2: 0.5}),
            rows("long", {2: 0.6}),
            rows(SCRATCH, {2: 0.3}, data="new-brains", seed=10),
            rows("long", {2: 0.5}, data="new-brains", seed=10),
        ]
    )

    first, second = compare(table, SEGMENTATION)

    assert (first.data, second.data) == SEGMENTATION
    assert first.difference.estimate == pytest.approx(0.1)
    assert second.difference.estimate == pytest.approx(0.2)


def test_other_tasks_are_compared_seed_by_seed_and_case_by_case():
    error = {"metric": "endpoint_error_mm"}
    right = {"metric": "correct", "training": "linear-probe"}
    table = pd.concat(
        [
            other_rows("aligned-brains", "before", SCRATCH, 0, [3.0, 4.0], **error),
            other_rows("aligned-brains", "transmorph_t", SCRATCH, 0, [2.0, 3.0], **error),
            other_rows("aligned-brains", "transmorph_t", "long", 0, [1.5, 2.5], **error),
            other_rows("aligned-brains", "transmorph_t", "long", 1, [0.0, 0.0], **error),  # no pair
            other_rows("sequences", "swin_t", SCRATCH, 0, [0.0, 1.0], **right),
            other_rows("sequences", "swin_t", "long", 0, [1.0, 1.0], **right),
        ]
    )

    registered, classified = compare(table, ("sequences", "aligned-brains"))

    assert (classified.reference, classified.value) == (0.5, 1.0)
    assert np.isnan(classified.before)
    assert (registered.before, registered.reference, registered.value) == (3.5, 2.5, 2.0)
    assert registered.num_seeds == 1
    assert registered.difference.low == registered.difference.high == pytest.approx(-0.5)


def test_remedies_are_compared_with_the_plain_training():
    right = {"metric": "correct"}
    table = pd.concat(
        [
            other_rows("rare", "unet_4", SCRATCH, 0, [0.0, 1.0], **right),
            other_rows("rare", "unet_4", SCRATCH, 0, [1.0, 1.0], training="focal-loss", **right),
        ]
    )

    (comparison,) = compare_remedies(table)

    assert (comparison.training, comparison.difference.estimate) == ("focal-loss", 0.5)


def test_mean_and_spread_are_those_of_the_seeds_means():
    table = pd.concat(
        [
            other_rows("rare", "unet_4", SCRATCH, seed, [value, value + 0.2], metric="recall")
            for seed, value in enumerate((0.1, 0.2, 0.6))
        ]
    )

    mean, spread = mean_and_spread(table, "recall")

    assert (mean, spread) == pytest.approx((0.4, np.std([0.2, 0.3, 0.7], ddof=1)))
    assert np.isnan(mean_and_spread(table, "recall", "T1w")).all()


def test_iterations_to_scratch_are_read_from_the_straight_line_between_measurements():
    table = pd.concat(
        [
            rows(SCRATCH, {10: 0.2, 20: 0.4}),
            rows("masked", {10: 0.3, 20: 0.5}),
            rows("paper", {10: 0.1, 20: 0.2}),
        ]
    )

    found = iterations_to_scratch(table).set_index("initialization").iterations

    assert found["masked"] == pytest.approx(15)
    assert found[SCRATCH] == pytest.approx(20)
    assert np.isnan(found["paper"])


def test_tables_show_all_kinds_of_trials(tmp_path):
    found = []
    for name, data in DATA.items():
        network = "unet_4" if data.task == "classification" else "transmorph_t"
        for initialization, value in ((SCRATCH, 0.2), ("long", 0.4)):
            if data.task == "segmentation":
                found.append(rows(initialization, {1: value, 2: value}, data=name))
            else:
                made = other_rows(name, network, initialization, 0, [value, value])
                found.append(made.assign(metric=data.measure))
    (tmp_path / "trials").mkdir()
    pd.concat(found).to_csv(tmp_path / "trials" / "all.csv", index=False)

    text = tables(read_table(tmp_path))

    title = PRETRAININGS["long"].title
    assert f"| phantoms: ventricles: unet_4, fine-tuned | {title} | 1 |  | 0.200 | 0.400 |" in text
    assert f"| phantoms: registration | transmorph_t | fine-tuned | {title} | 0.40 |" in text
    assert f"| unet_t | 1 | {title} | adamw | 1 | 0.205 | 0.405 | +0.200" in text


def test_a_folder_without_trials_is_refused(tmp_path):
    with pytest.raises(UserError, match="expected finished trials, got none"):
        read_table(tmp_path)
