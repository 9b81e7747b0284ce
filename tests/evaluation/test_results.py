"""The tidy results table."""

import math
from concurrent.futures import ThreadPoolExecutor

import pytest

from nnunet_triad.errors import UserError
from nnunet_triad.evaluation import Result, append_results, read_results


def result(**changes):
    values = {
        "task": "segmentation",
        "dataset": "Phantom",
        "architecture": "swin_t",
        "initialization": "scratch",
        "fold": 0,
        "case": "007",
        "label": "lesion",
        "metric": "dice",
        "value": 0.5,
    }
    return Result(**{**values, **changes})


def test_appended_rows_come_after_the_old_ones(tmp_path):
    append_results(tmp_path / "r.csv", [result()])
    append_results(tmp_path / "r.csv", [result(case="008"), result(value=math.nan)])
    table = read_results(tmp_path / "r.csv")
    assert list(table["case"]) == ["007", "008", "007"]
    assert math.isnan(table["value"].iloc[2])


def test_no_row_is_lost_where_several_append_at_once(tmp_path):
    with ThreadPoolExecutor(8) as pool:  # the lock is one of threads, too
        rows = [[result(case=f"{n:03d}")] for n in range(24)]
        list(pool.map(append_results, [tmp_path / "new" / "r.csv"] * 24, rows))
    table = read_results(tmp_path / "new" / "r.csv")
    assert sorted(table["case"]) == [f"{n:03d}" for n in range(24)]


def test_table_of_other_columns_is_refused_and_kept(tmp_path):
    (tmp_path / "r.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="expected a results table with the columns task"):
        append_results(tmp_path / "r.csv", [result()])
    assert (tmp_path / "r.csv").read_text() == "a,b\n1,2\n"


def test_table_without_the_optional_columns_gets_their_defaults(tmp_path):
    append_results(tmp_path / "r.csv", [result(subject="sub-1", seed=3)])
    table = read_results(tmp_path / "r.csv")
    assert table.loc[0, ["subject", "seed"]].to_list() == ["sub-1", 3]
    table.drop(columns=["subject", "seed"]).to_csv(tmp_path / "short.csv", index=False)
    assert read_results(tmp_path / "short.csv").loc[0, ["subject", "seed"]].to_list() == ["", 0]


def test_label_named_na_and_case_with_leading_zeros_stay_texts(tmp_path):
    append_results(tmp_path / "r.csv", [result(label="NA", case="0012")])
    assert read_results(tmp_path / "r.csv").loc[0, ["label", "case"]].to_list() == ["NA", "0012"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"expected a results table \(CSV\), got no file"),
        (b"", r"expected a results table \(CSV\), got an empty file"),
        (b"\xff\xfe\x00\x81", r"expected a results table"),
        (b'a,b\n1,"2\n3', r"expected a results table"),
    ],
)
def test_file_that_is_no_results_table_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "r.csv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_results(tmp_path / "r.csv")


@pytest.mark.parametrize("column", ["value", "fold", "seed"])
def test_text_where_a_number_belongs_is_refused(tmp_path, column):
    append_results(tmp_path / "r.csv", [result()])
    table = read_results(tmp_path / "r.csv").astype({column: object})
    table.loc[0, column] = "many"
    table.to_csv(tmp_path / "r.csv", index=False)
    with pytest.raises(
        UserError, match=f"line 2: expected a number in the column {column}, got 'many'"
    ):
        read_results(tmp_path / "r.csv")
