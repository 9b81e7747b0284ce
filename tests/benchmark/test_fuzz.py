"""Whatever is in a table: it is read, or refused with one line."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_triad.benchmark.report.classes import predictions
from nnunet_triad.benchmark.report.data import load_results, near_misses, samples
from nnunet_triad.benchmark.report.scores import Scores
from nnunet_triad.benchmark.report.tables import make_tables, write_csv
from nnunet_triad.benchmark.runs import Run, read_runs
from nnunet_triad.errors import UserError
from nnunet_triad.evaluation.results import COLUMNS

FEW = settings(max_examples=150, deadline=None)
KNOWN = (
    *("segmentation", "registration", "classification", "BraTS21", "IXI", "unet", "swin_b"),
    *("scratch", "triad", "dice", "correct", "probability"),
    *("", "0", "1", "0.5", "-3", "nan", "inf", "1e300"),
)
WORDS = st.one_of(st.sampled_from(KNOWN), st.text(max_size=6))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def as_csv(header, rows):
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


def report(path):
    table = load_results([path])
    scores = Scores(samples(table), num_resamples=100)
    near_misses(table)
    predictions(table)
    tasks = {sample.task for sample in scores.samples}
    write_csv([make_tables(task, scores) for task in tasks])


def accept_or_refuse(function, path):
    try:
        function(path)
    except UserError as error:
        assert "\n" not in str(error)


@FEW
@given(st.binary(max_size=200))
def test_any_bytes_are_a_table_or_refused(folder, content):
    for name, function in (("results.csv", report), ("runs.csv", read_runs)):
        (folder / name).write_bytes(content)
        accept_or_refuse(function, folder / name)


@FEW
@given(st.lists(st.lists(WORDS, min_size=len(COLUMNS), max_size=len(COLUMNS)), max_size=6))
def test_any_rows_of_results_are_reported_or_refused(folder, rows):
    (folder / "results.csv").write_bytes(as_csv(COLUMNS, rows))
    accept_or_refuse(report, folder / "results.csv")


PLAUSIBLE = st.tuples(
    st.sampled_from(["segmentation", "registration", "classification"]),
    st.sampled_from(["BraTS21", "IXI", "ADNI", "Own"]),
    st.sampled_from(["unet", "swin_b", "swinunetr_b"]),
    st.sampled_from(["scratch", "triad", "other"]),
    st.sampled_from(["0", "1"]),
    st.sampled_from(["case-1", "case-2", "case-3"]),
    st.sampled_from(["", "a", "mean", "b"]),
    st.sampled_from(["dice", "correct", "probability", "dice_group"]),
    st.sampled_from(["0", "1", "0.25", "nan", ""]),
    st.sampled_from(["", "s"]),
    st.sampled_from(["0", "1"]),
)


@FEW
@given(st.lists(PLAUSIBLE, max_size=25))
def test_any_plausible_results_are_reported(folder, rows):
    (folder / "results.csv").write_bytes(as_csv(COLUMNS, rows))
    accept_or_refuse(report, folder / "results.csv")


@FEW
@given(st.lists(st.lists(WORDS, min_size=4, max_size=7), max_size=4), st.integers(4, 7))
def test_any_rows_of_runs_are_read_or_refused(folder, rows, width):
    header = ["task", "dataset", "architecture", "initialization", "fold", "seed", "variant"]
    (folder / "runs.csv").write_bytes(as_csv(header[:width], rows))
    accept_or_refuse(read_runs, folder / "runs.csv")


@FEW
@given(WORDS, WORDS, WORDS, WORDS, WORDS)
def test_any_run_is_named_safely_or_refused(task, dataset, architecture, initialization, variant):
    try:
        run = Run(
            task=task,
            dataset=dataset,
            architecture=architecture,
            initialization=initialization,
            variant=variant,
        )
    except UserError:
        return
    assert Path(run.name).name == run.name
    assert not set(run.name) & set("/\\\0\n ")
