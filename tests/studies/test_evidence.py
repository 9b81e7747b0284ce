from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from nnunet_triad.demo.steps import sentence_model
from nnunet_triad.errors import UserError
from studies.__main__ import app
from studies.design import (
    FINE_TUNINGS,
    PRETRAININGS,
    SCALES,
    SCRATCH,
    task_trials,
    trials,
)
from studies.report import write_report
from studies.run import run_evidence, trial_file
from studies.summary import (
    compare_all,
    compare_recipes,
    compare_repeats,
    iterations_to_scratch,
    read_trials,
    two_way_interval,
)
from studies.task_summary import compare_tasks


def rows(initialization, values, *, seed=0, finetuning="adamw", confirmation=False):
    """Dice by iteration, nearly the same for two cases."""
    return pd.DataFrame(
        [
            {
                **{"encoder": "unet_t", "initialization": initialization, "labelled": 1},
                **{"finetuning": finetuning, "seed": seed, "label": "CSF"},
                **{"is_confirmation": confirmation},
                **{"iteration": iteration, "case": case, "dice": value + 0.01 * (case == "b")},
            }
            for iteration, value in values.items()
            for case in ("a", "b")
        ]
    )


def test_trials_are_paired_with_scratch_and_have_five_seeds():
    found = list(trials(SCALES["full"]))

    assert len(found) == len(set(found)) == len({t.key for t in found})
    settings = {
        t: (
            *(t.encoder, t.labelled, t.seed, t.is_confirmation),
            FINE_TUNINGS[t.finetuning].scratch or t.finetuning,
        )
        for t in found
    }
    scratch = {settings[t] for t in found if t.initialization == SCRATCH}
    assert set(settings.values()) == scratch
    seeds = Counter(replace(t, seed=0) for t in found)
    # Scratch on the new subjects stands beside each of three pre-trainings' five seeds.
    assert set(seeds.values()) == {5, 15}
    assert {(t.initialization, t.is_confirmation) for t, n in seeds.items() if n == 15} == {
        (SCRATCH, True)
    }
    assert {t.finetuning for t in found} == set(FINE_TUNINGS)
    assert {t.labelled for t in found if t.encoder == "unet_t"} == {1, 2, 4, 8, 16}
    assert {t.labelled for t in found if t.encoder == "swin_t"} == {1, 2, 4, 8, 16}
    assert set(PRETRAININGS) < {t.initialization for t in found}


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


def test_repeats_of_a_pretraining_are_compared_one_by_one_and_together():
    offsets = {"long": 0.1, "long-seed1": 0.3, "long-seed2": 0.2}
    table = []
    for order, (name, offset) in enumerate(offsets.items()):
        for seed in (10 + 2 * order, 11 + 2 * order):
            for labelled in (1, 2):
                scratch = 0.05 * labelled + 0.01 * seed
                for which, value in ((SCRATCH, scratch), (name, scratch + labelled * offset)):
                    made = rows(which, {2: value}, seed=seed, confirmation=True)
                    table.append(made.assign(labelled=labelled))

    found = {(r.labelled, r.pretrainings): r for r in compare_repeats(pd.concat(table))}

    all_three, new = tuple(offsets), tuple(offsets)[1:]
    assert found[(1,), ("long",)].difference.estimate == pytest.approx(0.1)
    assert found[(2,), ("long-seed1",)].difference.estimate == pytest.approx(0.6)
    assert found[(1,), new].difference.estimate == pytest.approx(0.25)
    assert found[(1,), new].difference.low == pytest.approx(0.2)
    assert found[(1, 2), all_three].difference.estimate == pytest.approx(0.3)
    assert found[(1, 2), all_three].num_seeds == 6
    assert len(found) == 15
    unfinished = pd.concat(table).query("initialization != 'long-seed2' or labelled == 1")
    left = {(r.labelled, r.pretrainings) for r in compare_repeats(unfinished)}
    assert left == {key for key in found if "long-seed2" not in key[1] or key[0] == (1,)}


def test_two_way_interval_of_many_seeds_and_cases_is_that_of_the_normal_theory():
    values = np.random.default_rng(0).normal(0.3, 1, size=(40, 50))
    values += np.random.default_rng(1).normal(0, 2, size=(40, 1))

    interval = two_way_interval(values)

    half = 1.96 * values.mean(axis=1).std(ddof=1) / np.sqrt(40)
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.15)


def test_compare_all_subtracts_scratch_seed_by_seed_and_case_by_case():
    table = pd.concat(
        [
            rows(SCRATCH, {1: 0.1, 2: 0.50}, seed=0),
            rows(SCRATCH, {1: 0.1, 2: 0.30}, seed=1),
            rows("masked", {1: 0.9, 2: 0.53}, seed=0),
            rows("masked", {1: 0.9, 2: 0.33}, seed=1),
            rows("masked", {1: 0.9, 2: 0.99}, seed=2),  # no scratch to compare with
        ]
    )

    (comparison,) = compare_all(table)

    assert comparison.num_seeds == 2
    assert comparison.scratch == pytest.approx(0.405)
    assert comparison.difference.estimate == pytest.approx(0.03)
    assert comparison.difference.low == pytest.approx(0.03)


def test_compare_all_sets_a_frozen_encoder_against_scratch_that_is_not_frozen():
    table = pd.concat(
        [rows(SCRATCH, {2: 0.5}), rows("masked", {2: 0.4}, finetuning="adamw-frozen")]
    )

    (comparison,) = compare_all(table)

    assert comparison.finetuning == "adamw-frozen"
    assert comparison.difference.estimate == pytest.approx(-0.1)


def test_trials_of_an_older_version_are_refused(tmp_path):
    (tmp_path / "trials").mkdir()
    older = rows(SCRATCH, {2: 0.5}).drop(columns="finetuning").assign(optimizer="adamw")
    older.to_csv(tmp_path / "trials" / "a.csv", index=False)
    with pytest.raises(UserError, match="expected trials of this version, got older ones"):
        read_trials(tmp_path)


def test_compare_all_keeps_the_subjects_of_the_confirmation_apart():
    table = pd.concat(
        [
            rows(SCRATCH, {2: 0.5}),
            rows("long", {2: 0.6}),
            rows(SCRATCH, {2: 0.3}, confirmation=True, seed=10),
            rows("long", {2: 0.5}, confirmation=True, seed=10),
        ]
    )

    first, second = sorted(compare_all(table), key=lambda c: c.is_confirmation)

    assert (first.is_confirmation, second.is_confirmation) == (False, True)
    assert first.difference.estimate == pytest.approx(0.1)
    assert second.difference.estimate == pytest.approx(0.2)


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


def test_evidence_goes_on_where_it_stopped_and_draws_its_figures(tmp_path):
    scale = SCALES["smoke"]
    first, second = list(trials(scale))[:2]
    missing = run_evidence(tmp_path, scale, model=sentence_model(), workers=1, limit=1)
    before = trial_file(tmp_path, first).read_bytes()
    trial_file(tmp_path, first).unlink()

    now_missing = run_evidence(tmp_path, scale, model=sentence_model(), workers=1, limit=2)

    assert now_missing == missing - 1
    assert trial_file(tmp_path, first).read_bytes() == before  # the same on a second run
    table = pd.read_csv(trial_file(tmp_path, second))
    assert table.dice.dropna().between(0, 1).all()
    assert len(table[table.iteration == 2]) == scale.test_subjects * 4
    for path in write_report(tmp_path, tmp_path / "report"):
        assert path.stat().st_size > 0


def test_other_tasks_are_compared_seed_by_seed_and_case_by_case():
    def made(task, network, mode, initialization, seed, values):
        return pd.DataFrame(
            {
                **{"task": task, "network": network, "mode": mode, "seed": seed},
                **{"initialization": initialization, "value": values},
                "case": [f"case{k}" for k in range(len(values))],
            }
        )

    table = pd.concat(
        [
            made("registration", "before", "finetune", SCRATCH, 0, [3.0, 4.0]),
            made("registration", "transmorph_t", "finetune", SCRATCH, 0, [2.0, 3.0]),
            made("registration", "transmorph_t", "finetune", "long", 0, [1.5, 2.5]),
            made("registration", "transmorph_t", "finetune", "long", 1, [0.0, 0.0]),  # no pair
            made("classification", "swin_t", "linear-probe", SCRATCH, 0, [0.0, 1.0]),
            made("classification", "swin_t", "linear-probe", "long", 0, [1.0, 1.0]),
        ]
    )

    classified, registered = compare_tasks(table)

    assert (classified.scratch, classified.pretrained) == (0.5, 1.0)
    assert np.isnan(classified.before)
    assert (registered.before, registered.scratch, registered.pretrained) == (3.5, 2.5, 2.0)
    assert registered.num_seeds == 1
    assert registered.difference.low == registered.difference.high == pytest.approx(-0.5)


@pytest.mark.parametrize(("task", "cases"), [("classification", 10), ("registration", 1)])
def test_other_tasks_run_by_their_own_commands(tmp_path, task, cases):
    scale = SCALES["smoke"]
    first = next(t for t in task_trials(scale) if t.task == task)

    missing = run_evidence(
        tmp_path, scale, model=sentence_model(), workers=1, limit=1, tasks=(task,)
    )

    assert missing == len([t for t in task_trials(scale) if t.task == task]) - 1
    table = pd.read_csv(trial_file(tmp_path, first))
    assert len(table[table.network == first.network]) == cases
    assert table.value.between(0, 1 if task == "classification" else 20).all()
    assert (set(table.network) == {first.network, "before"}) == (task == "registration")
    for path in write_report(tmp_path, tmp_path / "report"):
        assert path.exists()


def test_evidence_of_another_scale_is_refused(tmp_path):
    (tmp_path / "scale.json").write_text('{"iterations": 7}', encoding="utf-8")

    with pytest.raises(UserError, match="expected an experiment of this scale"):
        run_evidence(tmp_path, SCALES["smoke"], model=sentence_model(), workers=1)


def test_evidence_takes_no_file_for_a_folder(tmp_path):
    file = tmp_path / "file"
    file.touch()
    for arguments in ([str(file)], [str(tmp_path / "new"), "--output", str(file)]):
        result = CliRunner().invoke(app, arguments)
        assert isinstance(result.exception, UserError)
        assert str(result.exception) == f"{file}: expected a folder, got a file; name another one"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--scale", "x"), "--scale: expected full or smoke, got 'x'"),
        (("--workers", "0"), "--workers: expected 1 or more, got 0"),
        (("--limit", "-1"), "--limit: expected 0 or more, got -1"),
        (("--task", "x"), "--task: expected segmentation, classification or registration"),
    ],
)
def test_evidence_command_names_a_wrong_option(tmp_path, options, message):
    result = CliRunner().invoke(app, [str(tmp_path), *options])

    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)
