"""The tidy results table."""

import math

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


def test_table_of_other_columns_is_refused_and_kept(tmp_path):
    (tmp_path / "r.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="expected a results table with the columns task"):
        append_results(tmp_path / "r.csv", [result()])
    assert (tmp_path / "r.csv").read_text() == "a,b\n1,2\n"
