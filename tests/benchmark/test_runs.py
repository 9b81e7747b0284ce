"""Runs: the paper's list, a user's own list, and the choice among them."""

from collections import Counter

import pytest

from nnunet_triad.benchmark.runs import Run, paper_runs, read_runs, select_runs
from nnunet_triad.errors import UserError


def run(**changes):
    values = {
        "task": "segmentation",
        "dataset": "BraTS21",
        "architecture": "unet",
        "initialization": "triad",
    }
    return Run(**{**values, **changes})


def test_paper_has_the_product_of_datasets_architectures_and_initializations():
    counts = Counter(r.task for r in paper_runs())
    within, out = 5, 12
    assert counts["segmentation"] == 3 * (4 * within + 2 * out)
    assert counts["classification"] == 5 * (3 + 4)
    assert counts["registration"] == 3 * 3 + 2 * 5


def test_names_of_the_papers_runs_are_unique_and_safe_as_folders():
    names = [r.name for r in paper_runs()]
    assert len(set(names)) == len(names)
    assert not any(set(name) & set("/\\ :*?\"'$") for name in names)


def test_fold_seed_and_variant_make_another_name():
    others = [run(), run(fold=1), run(seed=1), run(variant="_quick")]
    assert len({other.name for other in others}) == 4


@pytest.mark.parametrize(
    ("dataset", "number"),
    [("BraTS21", 501), ("msd-colon", 517), ("Dataset500_Phantom", 500), ("Own", None)],
)
def test_nnunet_id_comes_from_the_paper_or_the_name(dataset, number):
    assert run(dataset=dataset).nnunet_id == number


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "detection"}, "task: expected one of segmentation, .*, got 'detection'"),
        ({"architecture": "transmorph_l"}, "architecture: expected one of unet, .*'transmorph_l'"),
        ({"dataset": "../x"}, r"dataset: expected letters, digits.*got '\.\./x'"),
        ({"initialization": ""}, "initialization: expected letters"),
        ({"fold": -1}, "fold: expected a number from 0, got -1"),
        ({"seed": -3}, "seed: expected a number from 0, got -3"),
        ({"variant": "; rm"}, "variant: expected a suffix"),
        (
            {"variant": "_frozen", "task": "classification"},
            "variant: expected nothing but for segmentation, got '_frozen'",
        ),
    ],
)
def test_impossible_run_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        run(**changes)


def test_selection_combines_its_filters_in_any_case():
    chosen = select_runs(paper_runs(), datasets=["brats21", "ADNI"], initializations=["Triad"])
    assert {(r.dataset, r.initialization) for r in chosen} == {
        ("BraTS21", "triad"),
        ("ADNI", "triad"),
    }
    assert len(chosen) == 4 + 2


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"datasets": ["BraTS12"]}, "dataset: expected .* got BraTS12; did you mean BraTS21"),
        ({"tasks": ["x"]}, "task: expected .* got x; known are segmentation, classification"),
        ({"tasks": ["registration"], "datasets": ["BraTS21"]}, "expected at least one with task"),
    ],
)
def test_selection_of_nothing_is_refused(filters, message):
    with pytest.raises(UserError, match=message):
        select_runs(paper_runs(), **filters)


def test_own_runs_are_read_from_a_table(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text(
        "\ufefftask,dataset,architecture,initialization,variant,seed\n"
        "segmentation,Dataset500_Phantom,swin_t,triad,_quick,\n"
        "classification,Lesions,unet,scratch,,2\n",
        encoding="utf-8",
    )
    assert read_runs(path) == (
        run(dataset="Dataset500_Phantom", architecture="swin_t", variant="_quick"),
        run(task="classification", dataset="Lesions", initialization="scratch", seed=2),
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "expected a CSV of runs, got no file"),
        ("", "expected a CSV of runs, got an empty file"),
        ("task,dataset\n", "expected at least one run, got none"),
        ("task,dataset\na,b\n", "line 2: expected the columns task, dataset, architecture"),
        ("task,dataset,architecture,initialization,colour\na,b,c,d,e\n", "got .*colour"),
        (
            "task,dataset,architecture,initialization,fold\nsegmentation,D,unet,scratch,one\n",
            "line 2: fold: expected a number, got one",
        ),
        (
            "task,dataset,architecture,initialization\n" + 2 * "segmentation,D,unet,scratch\n",
            "expected each run once, got segmentation-D-unet-scratch-fold0 twice",
        ),
        (
            "task,dataset,architecture,initialization\nsegmentation,D,vnet,scratch\n",
            "line 2: architecture: expected one of unet",
        ),
    ],
)
def test_table_that_is_no_list_of_runs_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "runs.csv").write_text(content)
    with pytest.raises(UserError, match=message):
        read_runs(tmp_path / "runs.csv")


def test_table_of_excel_is_read(tmp_path):
    text = "Task;Dataset;Architecture;Initialization;\r\nsegmentation;Koeln;unet;scratch;\r\n"
    (tmp_path / "runs.csv").write_bytes(text.encode("utf-16"))
    assert [run.dataset for run in read_runs(tmp_path / "runs.csv")] == ["Koeln"]
