"""Which volumes are drawn, and which are held out."""

import numpy as np
import pandas as pd
import pytest

from nnunet_triad.errors import UserError
from pretraining.volume_table import (
    VolumeTable,
    balanced_draw,
    choose_held_out,
    default_held_out,
)

NOTHING = np.array([], dtype=int)


def make_table(subjects, *, datasets=None, organs=None) -> VolumeTable:
    number = len(subjects)
    return VolumeTable(
        shape=(8, 8, 8),
        names=tuple(f"{subject}/{index}" for index, subject in enumerate(subjects)),
        means=np.zeros(number),
        stds=np.ones(number),
        datasets=pd.Categorical(datasets or ["D"] * number),
        organs=pd.Categorical(organs or [""] * number),
        subjects=pd.Categorical(subjects),
        descriptions=pd.Categorical(["text"] * number),
    )


def shares(draw, number: int, *, draws: int = 4000) -> np.ndarray:
    random = np.random.default_rng(0)
    return np.bincount([draw(random) for _ in range(draws)], minlength=number) / draws


def test_draw_by_volume_takes_each_volume_equally_often():
    table = make_table(["s"] * 5, datasets=["A"] * 4 + ["B"])

    found = shares(balanced_draw(table, "volume", held_out=NOTHING), 5)

    assert found == pytest.approx(np.full(5, 1 / 5), abs=0.03)


@pytest.mark.parametrize("balance", ["dataset", "organ"])
def test_balanced_draw_takes_each_group_equally_often(balance):
    groups = ["b", "a", "b", "b", "c", "b"]  # four of b, in any order
    table = make_table(["s"] * 6, datasets=groups, organs=groups)

    found = shares(balanced_draw(table, balance, held_out=NOTHING), 6)

    expected = [1 / 12, 1 / 3, 1 / 12, 1 / 12, 1 / 3, 1 / 12]
    assert found == pytest.approx(np.array(expected), abs=0.03)


@pytest.mark.parametrize("balance", ["volume", "dataset"])
def test_draw_leaves_out_what_is_held_out(balance):
    table = make_table(["s"] * 5, datasets=["A", "B", "A", "B", "C"])

    found = shares(balanced_draw(table, balance, held_out=np.array([1, 4])), 5)

    assert (found > 0).tolist() == [True, False, True, True, False]
    expected = 1 / 3 if balance == "volume" else 1 / 2
    assert found[3] == pytest.approx(expected, abs=0.03)


def test_draw_by_organ_of_a_store_without_organs_raises():
    with pytest.raises(UserError, match="balance: expected a store that names the organs"):
        balanced_draw(make_table(["s"] * 3), "organ", held_out=NOTHING)


def test_draw_of_nothing_raises():
    with pytest.raises(UserError, match="held_out: expected fewer than the store's 2 volumes"):
        balanced_draw(make_table(["s", "s"]), "volume", held_out=np.array([0, 1]))


def test_held_out_volumes_are_those_of_whole_subjects():
    subjects = [f"D/sub-{index // 3}" for index in range(60)]
    table = make_table(subjects)

    chosen = choose_held_out(table, 10)

    assert len(chosen) == 9  # three subjects; a fourth would be too many
    assert len({subjects[index] for index in chosen}) == 3
    assert np.array_equal(chosen, np.unique(chosen))


def test_held_out_subjects_do_not_depend_on_the_order_of_the_store():
    subjects = [f"D/sub-{index}" for index in range(30)]
    chosen = {subjects[index] for index in choose_held_out(make_table(subjects), 6)}

    reverse = subjects[::-1]

    assert {reverse[index] for index in choose_held_out(make_table(reverse), 6)} == chosen
    assert len(chosen) == 6


def test_held_out_passes_over_a_subject_that_has_too_many_volumes():
    table = make_table(["D/large"] * 20 + ["D/small"] * 2)

    assert choose_held_out(table, 5).tolist() == [20, 21]
    assert choose_held_out(table, 0).tolist() == []


@pytest.mark.parametrize(
    ("num_volumes", "expected"), [(5, 0), (39, 0), (40, 4), (200, 20), (131_170, 64)]
)
def test_default_held_out_is_a_tenth_up_to_64(num_volumes, expected):
    assert default_held_out(num_volumes) == expected
