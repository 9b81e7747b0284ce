"""The report's numbers: against naive computations, and what happens when they are missing."""

import csv
import json
import math

import numpy as np
import pytest
from scipy import stats

from nnunet_triad.benchmark.report.classes import predictions
from nnunet_triad.benchmark.report.data import (
    Model,
    initialization_name,
    load_results,
    samples,
)
from nnunet_triad.benchmark.report.scores import Scores
from nnunet_triad.benchmark.report.tables import make_tables, write_csv
from nnunet_triad.benchmark.runs import Run
from nnunet_triad.benchmark.segmentation import read_summary
from nnunet_triad.datasets import find_dataset
from nnunet_triad.evaluation import Result, append_results


def model(initialization, architecture="unet"):
    return Model(architecture=architecture, initialization=initialization)


def row(case, value, **changes):
    values = {
        "task": "segmentation",
        "dataset": "BraTS21",
        "architecture": "unet",
        "initialization": "scratch",
        "fold": 0,
        "label": "a",
        "metric": "dice",
    }
    return Result(**{**values, **changes}, case=case, value=value)


def load(tmp_path, rows):
    append_results(tmp_path / "r.csv", rows)
    return load_results([tmp_path / "r.csv"])


def scores_of(tmp_path, rows, num_resamples=300):
    return Scores(samples(load(tmp_path, rows)), num_resamples=num_resamples)


def test_score_is_the_mean_over_labels_of_the_mean_over_known_cases(tmp_path):
    rows = [row("1", 0.2), row("2", 0.4), row("1", 0.9, label="b"), row("2", math.nan, label="b")]
    score = scores_of(tmp_path, rows).score("segmentation", "BraTS21", model("scratch"))
    assert score.ours.estimate == pytest.approx(100 * (0.3 + 0.9) / 2)
    assert score.ours.num_cases == 2


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ((0.1,) * 5, "too few cases to say (fewer than 6)"),
        ((0.1, 0.12, 0.1, 0.08, 0.1, 0.1), "better"),
        ((-0.1, -0.12, -0.1, -0.08, -0.1, -0.1), "worse"),
        ((0.1, -0.12, 0.1, -0.08, 0.1, -0.1), "no difference shown: the interval includes zero"),
    ],
)
def test_verdict_is_that_of_the_interval_where_there_are_cases_enough(tmp_path, gains, expected):
    rows = [
        row(f"{case}", 0.5 + share * gain, initialization=name)
        for case, gain in enumerate(gains)
        for name, share in (("scratch", 0), ("triad", 1))
    ]
    scores = scores_of(tmp_path, rows)
    (found,) = scores.tests("segmentation", "BraTS21", "unet")
    assert found.verdict == expected
    (line,) = (
        one
        for one in csv.DictReader(write_csv([make_tables("segmentation", scores)]).splitlines())
        if one["table"] == "test"
    )
    assert line["note"] == expected


def test_names_of_nnunet_and_of_any_case_are_those_of_the_comparison(tmp_path):
    rows = [row("1", 0.2, dataset="Dataset501_Brats", initialization="Scratch"), row("2", 0.4)]
    (sample,) = samples(load(tmp_path, rows))
    assert (sample.dataset, sample.cases) == ("BraTS21", ("1", "2"))


def test_of_a_row_that_is_there_twice_the_last_one_counts(tmp_path):
    (sample,) = samples(load(tmp_path, [row("1", 0.2), row("1", 0.7)]))
    assert sample.values.tolist() == [[0.7]]


def test_mean_rows_are_not_a_label(tmp_path):
    (sample,) = samples(load(tmp_path, [row("1", 0.2), row("1", 0.2, label="mean")]))
    assert sample.labels == ("a",)


def test_ixi_is_compared_by_groups_of_structures_as_transmorph_publishes_it(tmp_path):
    shared = {"task": "registration", "dataset": "IXI", "architecture": "swinunetr_b"}
    rows = [row("1", 0.2, **shared), row("1", 0.7, **shared, metric="dice_linear_group")]
    rows.append(row("1", 0.2, **{**shared, "dataset": "OASIS"}, metric="dice_linear_group"))
    (sample,) = samples(load(tmp_path, rows))
    assert (sample.dataset, sample.values.tolist()) == ("IXI", [[0.7]])


def test_seeds_are_averaged_by_case(tmp_path):
    (sample,) = samples(load(tmp_path, [row("1", 0.2), row("1", 0.4, seed=1), row("2", 0.5)]))
    assert sample.values.ravel().tolist() == pytest.approx([0.3, 0.5])
    assert sample.num_seeds == 2


def test_average_counts_each_dataset_once_and_needs_all_of_them(tmp_path):
    rows = [
        row(f"{case}", value, task="registration", dataset=dataset, architecture="swinunetr_b")
        for dataset, values in (("IXI", (0.5, 0.7)), ("OASIS", (0.9, 0.9, 0.9, 0.5)))
        for case, value in enumerate(values)
    ]
    scores = scores_of(tmp_path, rows)
    scratch = model("scratch", "swinunetr_b")
    within = scores.score("registration", "within-domain", scratch)
    assert within.ours.estimate == pytest.approx(100 * (0.6 + 0.8) / 2)
    whole = scores.score("registration", "all", scratch)
    assert whole.ours is None
    assert (whole.num_run, whole.num_datasets) == (2, 3)


def test_interval_of_an_average_is_narrower_than_those_of_its_datasets(tmp_path):
    generator = np.random.default_rng(0)
    rows = [
        row(f"{case}", value, task="registration", dataset=dataset, architecture="swinunetr_b")
        for dataset in ("IXI", "OASIS")
        for case, value in enumerate(generator.uniform(0.6, 0.9, size=40))
    ]
    scores = scores_of(tmp_path, rows, num_resamples=2000)
    scratch = model("scratch", "swinunetr_b")
    ixi, oasis, both = (
        scores.score("registration", scope, scratch).ours
        for scope in ("IXI", "OASIS", "within-domain")
    )
    widths = [interval.high - interval.low for interval in (ixi, oasis)]
    independent = math.hypot(*widths) / 2
    assert both.high - both.low == pytest.approx(independent, rel=0.1)


def test_difference_uses_only_the_cases_of_both_models(tmp_path):
    rows = [row("1", 0.2), row("2", 0.4), row("3", 0.99)]
    rows += [row(c, v, initialization="triad") for c, v in (("2", 0.5), ("1", 0.5), ("4", 0.01))]
    difference = scores_of(tmp_path, rows).difference(
        "segmentation", "BraTS21", model("triad"), model("scratch")
    )
    assert difference.ours.estimate == pytest.approx(100 * (0.3 + 0.1) / 2)
    assert difference.ours.num_cases == difference.num_units == 2


def test_tests_are_wilcoxons_on_case_means_with_holms_correction(tmp_path):
    generator = np.random.default_rng(1)
    values = {
        name: generator.uniform(0.3, 0.9, size=(15, 2)) for name in ("scratch", "voco", "triad")
    }
    values["triad"] += 0.08
    rows = [
        row(f"{case}", value, initialization=name, label=label)
        for name, array in values.items()
        for case, pair in enumerate(array)
        for label, value in zip("ab", pair, strict=True)
    ]
    tests = scores_of(tmp_path, rows).tests("segmentation", "BraTS21", "unet")
    pairs = [(test.first.initialization, test.second.initialization) for test in tests]
    assert pairs == [("voco", "scratch"), ("triad", "scratch"), ("triad", "voco")]
    for test, (first, second) in zip(tests, pairs, strict=True):
        differences = values[first].mean(axis=1) - values[second].mean(axis=1)
        assert test.p_value == pytest.approx(stats.wilcoxon(differences).pvalue)
    smallest = min(tests, key=lambda test: test.p_value)
    assert smallest.p_holm == pytest.approx(min(1, 3 * smallest.p_value))
    assert all(test.p_holm >= test.p_value for test in tests)


def test_each_label_has_its_interval_and_its_difference_to_scratch(tmp_path):
    generator = np.random.default_rng(2)
    values = generator.uniform(0.3, 0.6, size=(12, 2))
    gains = {"scratch": (0.0, 0.0), "triad": (0.3, -0.1)}
    rows = [
        row(f"{case}", value + gain, initialization=name, label=label)
        for name, both in gains.items()
        for case, pair in enumerate(values)
        for label, value, gain in zip("ab", pair, both, strict=True)
    ]
    (table,) = make_tables("segmentation", scores_of(tmp_path, rows)).category_tables
    found = {(c.score.label, c.score.model.initialization): c for c in table}
    assert list(found) == [(label, name) for label in "ab" for name in gains]
    for (label, name), category in found.items():
        column = "ab".index(label)
        shown = category.score.ours
        assert shown.estimate == pytest.approx(
            100 * (values[:, column].mean() + gains[name][column])
        )
        assert shown.low < shown.estimate < shown.high
        if name == "triad":  # the same gain on every case: the paired interval has no width
            expected = pytest.approx(100 * gains[name][column])
            assert (category.difference.low, category.difference.high) == (expected, expected)
        else:
            assert category.difference is None


def test_names_of_cases_keep_their_dots(tmp_path):
    path = tmp_path / "summary.json"
    names = ("case.1.nii.gz", "case.2.nii.gz", "case.3.mha")
    cases = [{"prediction_file": f"/a.b/{n}", "metrics": {"1": {"Dice": 0.5}}} for n in names]
    path.write_text(json.dumps({"metric_per_case": cases}))
    run = Run(task="segmentation", dataset="BraTS21", architecture="unet", initialization="scratch")
    table = read_summary(path, {frozenset({1}): "tumour"}, run)
    assert list(table["case"]) == ["case.1", "case.2", "case.3"]


def test_variants_of_a_trainer_are_models_of_their_own(tmp_path):
    path = tmp_path / "summary.json"
    cases = [{"prediction_file": "case_1.nii.gz", "metrics": {"1": {"Dice": 0.5}}}]
    path.write_text(json.dumps({"metric_per_case": cases}))
    runs = [
        Run(
            task="segmentation",
            dataset="BraTS21",
            architecture="unet",
            initialization=name,
            variant=variant,
        )
        for name in ("scratch", "triad")
        for variant in ("", "_frozen", "_warmup_adamw")
        if (name, variant) != ("scratch", "_frozen")
    ]
    for run in runs:
        table = read_summary(path, {frozenset({1}): "tumour"}, run)
        table.to_csv(tmp_path / f"{run.name}.csv", index=False)

    table = load_results(sorted(tmp_path.glob("*.csv")))
    found = Scores(samples(table), num_resamples=100)

    models = {s.model.initialization: s.model for s in found.samples}
    assert {name: initialization_name(name) for name in models} == {
        "scratch": "Scratch",
        "scratch-warmup-adamw": "Scratch (warmup, adamw)",
        "triad": "Triad",
        "triad-frozen": "Triad (frozen)",
        "triad-warmup-adamw": "Triad (warmup, adamw)",
    }
    references = {
        name: found.scratch_of("segmentation", "BraTS21", m) for name, m in models.items()
    }
    assert {name: m and m.initialization for name, m in references.items()} == {
        "scratch": None,
        "scratch-warmup-adamw": None,
        "triad": "scratch",
        "triad-frozen": "scratch",  # its own was not run
        "triad-warmup-adamw": "scratch-warmup-adamw",
    }


def test_dataset_of_one_label_has_no_table_of_labels(tmp_path):
    rows = [row("1", 0.2), row("2", 0.4), row("1", 0.5, initialization="triad")]
    assert make_tables("segmentation", scores_of(tmp_path, rows)).category_tables == []


def test_accuracies_are_compared_by_mcnemar(tmp_path):
    rows = [
        row(f"{case}", float(value), task="classification", dataset="ADNI", metric="correct",
            label="CN" if case % 2 else "AD", initialization=name)
        for name, right in (("scratch", (1, 0, 0, 0, 1, 0)), ("triad", (1, 1, 1, 1, 0, 1)))
        for case, value in enumerate(right)
    ]  # fmt: skip
    (test,) = scores_of(tmp_path, rows).tests("classification", "ADNI", "unet")
    assert test.test == "McNemar"
    assert test.ours.estimate == pytest.approx(100 * (5 - 2) / 6)
    assert test.p_value == pytest.approx(stats.binomtest(4, 5).pvalue)


def test_one_subject_has_a_value_and_no_interval(tmp_path):
    rows = [row("scan1", 0.2, subject="s"), row("scan2", 0.4, subject="s")]
    ours = scores_of(tmp_path, rows).score("segmentation", "BraTS21", model("scratch")).ours
    assert ours.estimate == pytest.approx(30)
    assert math.isnan(ours.low)


def test_paper_is_beside_ours_where_it_prints_a_number(tmp_path):
    rows = [
        row(f"{case}", 0.75, task="registration", dataset=dataset, architecture="swinunetr_b")
        for dataset in ("IXI", "ACDC")
        for case in range(3)
    ]
    scores = scores_of(tmp_path, rows)
    scratch = model("scratch", "swinunetr_b")
    ixi = scores.score("registration", "IXI", scratch)
    assert ixi.minus_paper == pytest.approx(75 - ixi.paper.value)
    assert scores.score("registration", "ACDC", scratch).paper is None


def test_printed_difference_of_one_label_is_compared_by_that_label(tmp_path):
    rows = [
        row(str(case), value, architecture="swin_b", initialization=name, label=label)
        for name, values in (("voco", (0.5, 0.9)), ("triad", (0.6, 0.1)))
        for label, value in zip(("tumor core", "Whole Tumor"), values, strict=True)
        for case in range(3)
    ]
    scores = scores_of(tmp_path, rows)
    difference = scores.difference(
        "segmentation", "BraTS21", model("triad", "swin_b"), model("voco", "swin_b"), "tumor core"
    )
    assert difference.paper is not None
    assert difference.ours.estimate == pytest.approx(10)


def test_converted_datasets_have_the_labels_whose_differences_the_paper_prints(tmp_path):
    values = {"scratch": 0.3, "voco": 0.5, "triad": 0.6}
    rows = [
        row(str(case), values[name] + 0.01 * place, dataset=dataset, architecture=architecture,
            initialization=name, label=label)
        for dataset in ("BraTS21", "MSD-Liver")
        for architecture in ("unet", "swin_b")
        for name in values
        for place, label in enumerate(find_dataset(dataset).labels) if label != "background"
        for case in range(3)
    ]  # fmt: skip
    found = {
        (d.scope, d.label, d.first.architecture): (d.paper.value, round(d.ours.estimate, 6))
        for d in make_tables("segmentation", scores_of(tmp_path, rows)).differences
    }
    assert found == {
        ("BraTS21", "Tumor Core", "swin_b"): (2.08, 10),
        ("BraTS21", "Enhancing Tumor", "swin_b"): (1.38, 10),
        ("MSD-Liver", "Cancer", "unet"): (14.77, 30),
        ("MSD-Liver", "Cancer", "swin_b"): (17.97, 30),
    }


def test_label_is_found_where_two_models_spell_it_in_another_case(tmp_path):
    rows = [
        row("1", value, architecture="swin_b", initialization=name, label=label)
        for name, value, label in (("voco", 0.5, "TUMOR CORE"), ("triad", 0.7, "tumor core"))
    ]
    (only,) = make_tables("segmentation", scores_of(tmp_path, rows)).differences
    assert only.ours.estimate == pytest.approx(20)


def test_initialisations_of_a_task_are_its_own_in_the_papers_order(tmp_path):
    rows = [row("1", 0.5, initialization=name) for name in ("triad", "own", "scratch")]
    rows += [
        row("1", 0.5, task="registration", dataset="IXI", architecture="transmorph_l",
            initialization="voco")
    ]  # fmt: skip
    scores = scores_of(tmp_path, rows)
    found = {t: make_tables(t, scores).initializations for t in ("segmentation", "registration")}
    assert found == {"segmentation": ["scratch", "triad", "own"], "registration": ["voco"]}


def test_table_of_printed_differences_holds_only_what_was_run(tmp_path):
    rows = [
        row(f"{case}", 0.7 + 0.01 * case, task="registration", dataset="IXI",
            architecture="transmorph_l", initialization=name)
        for name in ("scratch", "triad")
        for case in range(4)
    ]  # fmt: skip
    table = make_tables("registration", scores_of(tmp_path, rows))
    (only,) = table.differences
    assert (only.scope, only.first.initialization) == ("IXI", "triad")
    assert only.ours.estimate == 0


def test_sizes_are_counted_when_all_of_them_were_run(tmp_path):
    from nnunet_triad.benchmark.paper import members

    dice = {"swin_b": 0.5, "swin_l": 0.6, "swin_h": 0.7}
    rows = [
        row("1", value, dataset=dataset, architecture=size, initialization=name)
        for dataset in members("segmentation", "within-domain")
        for name in ("scratch", "voco", "triad")
        for size, value in dice.items()
    ]
    # In two of them the largest is no better than the middle one, or worse.
    rows.append(row("1", 0.6, dataset="BraTS21", architecture="swin_h", initialization="triad"))
    rows.append(row("1", 0.2, dataset="BreastDM", architecture="swin_h"))
    counted = make_tables("segmentation", scores_of(tmp_path, rows)).sizes
    assert (counted.ours, counted.total, counted.paper.value) == (2, 15, 11)
    fewer = [r for r in rows if (r.dataset, r.architecture) != ("Prostate158", "swin_l")]
    (tmp_path / "r.csv").unlink()
    assert make_tables("segmentation", scores_of(tmp_path, fewer)).sizes is None


def test_csv_has_the_pages_numbers_and_no_number_of_what_was_not_run(tmp_path):
    rows = [row(f"{case}", 0.5, dataset="BraTS21") for case in range(3)]
    tables = make_tables("segmentation", scores_of(tmp_path, rows))
    lines = list(csv.DictReader(write_csv([tables]).splitlines()))
    (dataset,) = [line for line in lines if line["table"] == "dataset"]
    assert (dataset["ours"], dataset["low"], dataset["num_cases"]) == ("50", "50", "3")
    averages = [line for line in lines if line["table"] == "average"]
    assert averages
    assert all(line["ours"] == "" and "datasets run" in line["note"] for line in averages)


def test_csv_holds_no_formula(tmp_path):
    rows = [row(f"{case}", 0.5, dataset="=1+1") for case in range(3)]
    tables = make_tables("segmentation", scores_of(tmp_path, rows))
    lines = list(csv.DictReader(write_csv([tables]).splitlines()))
    cells = [cell for line in lines for cell in line.values()]
    assert "'=1+1" in cells
    assert not [cell for cell in cells if cell.startswith(("=", "@"))]


def classification_rows(chances, truths, classes=("a", "b", "c")):
    for case, (values, truth) in enumerate(zip(chances, truths, strict=True)):
        shared = {"task": "classification", "dataset": "LUNA16"}
        is_right = float(np.argmax(values) == truth)
        yield row(str(case), is_right, **shared, metric="correct", label=classes[truth])
        for label, value in zip(classes, values, strict=True):
            yield row(str(case), float(value), **shared, metric="probability", label=label)


def test_confusion_and_area_are_scikit_learns(tmp_path):
    from sklearn.metrics import confusion_matrix, roc_auc_score

    generator = np.random.default_rng(2)
    truths = generator.integers(3, size=60)
    chances = generator.dirichlet(np.ones(3), size=60) + 0.4 * np.eye(3)[truths]
    chances /= chances.sum(axis=1, keepdims=True)
    (item,) = predictions(load(tmp_path, classification_rows(chances, truths)))
    naive = confusion_matrix(truths, chances.argmax(axis=1))
    assert item.confusion.tolist() == naive.tolist()
    false_rate, true_rate, area = item.roc()
    assert area == pytest.approx(roc_auc_score(truths, chances, multi_class="ovr", average="macro"))
    assert (np.diff(false_rate) >= 0).all()
    assert (np.diff(true_rate) >= 0).all()


def test_two_classes_have_the_second_ones_curve(tmp_path):
    chances = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3]])
    rows = classification_rows(chances, [0, 0, 1, 1], classes=("neg", "pos"))
    (item,) = predictions(load(tmp_path, rows))
    assert item.roc()[2] == pytest.approx(3 / 4)


def test_one_true_class_has_a_confusion_matrix_and_no_curve(tmp_path):
    rows = classification_rows(np.array([[0.9, 0.1], [0.4, 0.6]]), [0, 0], classes=("n", "p"))
    (item,) = predictions(load(tmp_path, rows))
    assert item.roc() is None
    assert item.confusion.tolist() == [[1, 1], [0, 0]]
