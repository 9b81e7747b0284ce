"""The paper's comparison as data: counts, keys, ranges, and the arithmetic of its own numbers."""

import itertools

import pytest

from nnunet_triad.benchmark.paper import (
    ARCHITECTURES,
    GROUPS,
    TASKS,
    comparisons,
    datasets,
    find_dataset,
    initializations,
    members,
    published,
)


def of_kind(kind):
    return [number for number in published() if number.kind == kind]


def value(task, scope, architecture, initialization):
    found = [
        number.value
        for number in of_kind("value")
        if (number.task, number.scope) == (task, scope)
        and (number.architecture, number.initialization) == (architecture, initialization)
    ]
    return found[0] if found else None


def test_there_are_17_and_5_and_3_datasets():
    assert [sum(d.task == task for d in datasets()) for task in TASKS] == [17, 5, 3]


@pytest.mark.parametrize(
    ("task", "group", "count"),
    [
        ("segmentation", "within-domain", 5),
        ("segmentation", "out-of-domain", 12),
        ("segmentation", "msd-ct", 6),
        ("classification", "within-domain", 2),
        ("classification", "out-of-domain", 3),
        ("registration", "within-domain", 2),
        ("registration", "out-of-domain", 1),
    ],
)
def test_groups_have_the_papers_sizes(task, group, count):
    assert len(members(task, group)) == count


def test_each_dataset_is_in_exactly_one_domain():
    for dataset in datasets():
        assert len({"within-domain", "out-of-domain"} & set(dataset.groups)) == 1


def test_nnunet_ids_are_501_to_517_in_order():
    ids = [dataset.nnunet_id for dataset in datasets() if dataset.task == "segmentation"]
    assert ids == list(range(501, 518))


def test_printed_splits_add_up_to_the_printed_cases():
    # OASIS has no test set; LUNA16, BreastDM and the segmentation datasets print no split sizes.
    for dataset in datasets():
        if dataset.num_train is not None and dataset.num_cases is not None:
            parts = (dataset.num_train, dataset.num_validation or 0, dataset.num_test or 0)
            assert sum(parts) == dataset.num_cases, dataset.name


def test_published_numbers_refer_to_known_things():
    for number in published():
        assert number.task in TASKS
        assert number.scope in GROUPS or find_dataset(number.task, number.scope) is not None
        assert number.section
        if number.kind == "count":
            continue
        assert number.architecture in ARCHITECTURES
        assert number.initialization in initializations()
        assert (number.kind == "difference") == bool(number.minus_architecture)
        assert bool(number.minus_architecture) == bool(number.minus_initialization)


def test_published_values_are_percentages_and_differences_small():
    assert all(50 < number.value < 100 for number in of_kind("value"))
    assert all(-1 < number.value < 20 for number in of_kind("difference"))


def test_no_number_is_listed_twice():
    keys = [
        (
            *(n.task, n.kind, n.scope, n.label, n.architecture, n.initialization),
            *(n.minus_architecture, n.minus_initialization),
        )
        for n in published()
    ]
    assert len(keys) == len(set(keys))


def test_every_published_run_is_in_the_comparison():
    planned = {
        (comparison.task, name, comparison.architecture, initialization)
        for comparison in comparisons()
        for group in comparison.groups
        for name in members(comparison.task, group)
        for initialization in comparison.initializations
    }
    for number in of_kind("value") + of_kind("difference"):
        for name in members(number.task, number.scope):
            assert (number.task, name, number.architecture, number.initialization) in planned


def test_printed_differences_are_those_of_the_printed_values():
    # Where both values are printed, each difference follows; the paper rounds to 0.01.
    checked = 0
    for number in of_kind("difference"):
        first = value(number.task, number.scope, number.architecture, number.initialization)
        second = value(
            number.task, number.scope, number.minus_architecture, number.minus_initialization
        )
        if not number.label and first is not None and second is not None:
            assert first - second == pytest.approx(number.value, abs=0.0101), number
            checked += 1
    assert checked == 14


def test_registration_gain_of_the_abstract_is_the_mean_of_its_two_datasets():
    gains = [
        number.value
        for number in of_kind("difference")
        if number.scope in ("IXI", "OASIS")
        and (number.architecture, number.initialization) == ("swinunetr_b", "triad")
    ]
    (stated,) = [
        n.value
        for n in of_kind("difference")
        if n.section == "abstract and 3" and n.task == "registration"
    ]
    assert sum(gains) / len(gains) == pytest.approx(stated)


def segmentation_gain(scope):
    (number,) = [
        n
        for n in of_kind("difference")
        if (n.task, n.scope, n.label) == ("segmentation", scope, "")
        and (n.architecture, n.initialization) == ("unet", "triad")
        and n.minus_initialization == "scratch"
    ]
    return number.value


def test_segmentation_gain_of_2_02_cannot_be_over_all_12_out_of_domain_datasets():
    # 5 datasets at +1.45 and 12 at +2.02 give +1.85 over 17, while the abstract says +2.51.
    within, out, overall = map(segmentation_gain, ("within-domain", "out-of-domain", "all"))
    assert (5 * within + 12 * out) / 17 == pytest.approx(1.85, abs=0.01)
    assert abs((5 * within + 12 * out) / 17 - overall) > 0.5


def test_triad_is_below_scratch_where_the_paper_says_it_outperforms_all_baselines():
    # Section 3: "Triad outperforms baseline models across all downstream tasks".
    losses = [
        (number.scope, number.architecture)
        for number in of_kind("value")
        if number.initialization == "triad"
        and number.value < value(number.task, number.scope, number.architecture, "scratch")
    ]
    assert losses == [("msd-ct", "swin_b"), ("ACDC", "transmorph_l")]


@pytest.mark.parametrize("name", ["BraTS21", "brats21", "Dataset501_BraTS21", "Dataset501_Other"])
def test_dataset_is_found_by_name_and_by_nnunet_id(name):
    assert find_dataset("segmentation", name).name == "BraTS21"


@pytest.mark.parametrize("name", ["BraTS", "Dataset500_Phantom", "", "ADNI"])
def test_unknown_dataset_is_not_found(name):
    assert find_dataset("segmentation", name) is None


def test_tables_name_each_section_and_each_figure_of_the_results():
    figures = {number.figure for number in published() if number.figure}
    assert {"3b", "3c", "3d", "4a", "4b", "5c", "6a", "6c"} <= figures
    assert all(comparison.section for comparison in comparisons())


def test_initializations_of_a_comparison_are_distinct_and_start_from_scratch():
    for comparison in comparisons():
        assert comparison.initializations[0] == "scratch"
        pairs = itertools.combinations(comparison.initializations, 2)
        assert all(first != second for first, second in pairs)
