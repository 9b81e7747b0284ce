"""Tables as spreadsheets and people write them: read right, or refused by the line."""

import ast
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import nnunet_triad
from nnunet_triad import tables
from nnunet_triad.datasets.split_files import read_list, read_patients
from nnunet_triad.errors import UserError
from nnunet_triad.evaluation import read_results
from nnunet_triad.evaluation.results import COLUMNS
from nnunet_triad.files import write_table
from nnunet_triad.tables import TableError, read_numbers, read_table
from registration.apply_command import read_points
from registration.manifest import read_manifest

POINTS = ((1.5, 2.25, -3.0), (10.0, 20.5, 0.125))

# The two points, as programs write them.
SPELLINGS = {
    "plain": "name,x,y,z\na,1.5,2.25,-3\nb,10,20.5,0.125\n",
    "trailing commas": "name,x,y,z,\na,1.5,2.25,-3,\nb,10,20.5,0.125,\n",
    "commas behind rows only": "name,x,y,z\na,1.5,2.25,-3,,\nb,10,20.5,0.125,,\n",
    "empty columns and rows": "name,x,y,z,,\na,1.5,2.25,-3,,\n,,,,,\nb,10,20.5,0.125,,\n,,,,,\n",
    "German Excel": "name;x;y;z\r\na;1,5;2,25;-3\r\nb;10;20,5;0,125\r\n",
    "semicolons with points": "name;x;y;z\na;1.5;2.25;-3\nb;10;20.5;0.125\n",
    "Excel's separator line": "sep=;\r\nname;x;y;z\r\na;1,5;2,25;-3\r\nb;10;20,5;0,125\r\n",
    "tabs": "name\tx\ty\tz\na\t1.5\t2.25\t-3\nb\t10\t20.5\t0.125\n",
    "quotes": '"name","x","y","z"\n"a","1.5","2.25","-3"\n"b","10","20.5","0.125"\n',
    "blanks": " name , x , y , z \na , 1.5, 2.25, -3\n\nb ,10 ,20.5 ,0.125 \n",
    "capitals": "Name,X,Y,Z\na,1.5,2.25,-3\nb,10,20.5,0.125\n",
    "old Macintosh": "name,x,y,z\ra,1.5,2.25,-3\rb,10,20.5,0.125\r",
    "pandas' index": ",name,x,y,z\n0,a,1.5,2.25,-3\n1,b,10,20.5,0.125\n",
    "another order": "z,name,y,x\n-3,a,2.25,1.5\n0.125,b,20.5,10\n",
}
REFUSED = {
    "decimal commas between commas": ("x,y,z\n1,5,2,25,-3,0\n", "line 2 the cell '25' without a"),
    "their zeros cut": ("x,y,z\n1,5,2,3\n", "line 2 the cell '3' without a column"),
    "padded as well": ("x,y,z,,,\n1,5,2,25,-3,0\n", "line 2 the cell '25' without a column"),
    "a header twice": ("x,y,z,x\n1,2,3,4\n", "each column once, got x more than once"),
    "a header twice, in capitals": ("x,y,z,X\n1,2,3,4\n", "got x more than once"),
    "names of rows without a header": ("x,y,z\na,1,2,3\n", "line 2 the cell '3' without a column"),
    "an open quote": ('x,y,z\n1,2,3\n4,"5,6\n7,8,9\n', "got in line 4 what is none"),
    "thousands": (
        "x\ty\tz\n1,500\t2\t3\n",
        "a number in the column x, got '1,500'",
    ),
    "a German thousand": ("x;y;z\n1.500,5;2;3\n", "column x, got '1.500,5'"),
    "a quoted decimal comma": ('x,y,z\n"1,5",2,3\n', "column x, got '1,5'"),
    "digits of another kind": ("x,y,z\n1_0,2,3\n", "column x, got '1_0'"),
    "an empty cell": ("x,y,z\n1,,3\n", "line 2: expected a number in the column y, got ''"),
    "a short row": ("x,y,z\n1,2\n", "line 2: expected a number in the column z, got ''"),
    "no column z": ("x,y,w\n1,2,3\n", "expected columns x, y, z .mm., got x, y, w"),
    "nothing": ("", "got an empty file"),
    "a delimiter alone": (",", "got a file without a header"),
    "zeros": ("\0" * 8, "got a binary file"),
}


def write(folder, text, *, encoding="utf-8", name="table.csv"):
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_points_are_the_same_however_they_are_spelled(tmp_path, spelling):
    table = read_points(write(tmp_path, SPELLINGS[spelling]))
    np.testing.assert_array_equal(table[["x", "y", "z"]], POINTS)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings_of_spreadsheets_are_read(tmp_path, encoding):
    table = read_points(write(tmp_path, "x,y,z,name\n1,2,3,Müller\n", encoding=encoding))
    assert table["name"].tolist() == ["Müller"]
    assert table["x"].tolist() == [1.0]


@pytest.mark.parametrize("case", REFUSED)
def test_what_could_mean_something_else_is_refused(tmp_path, case):
    text, message = REFUSED[case]
    with pytest.raises(UserError, match=message):
        read_points(write(tmp_path, text))


def test_lines_are_those_of_the_file(tmp_path):
    path = write(tmp_path, '\n\nname,x\n\n"two\nlines",1\n\nb,no\n')
    with pytest.raises(UserError, match="line 8: expected a number in the column x, got 'no'"):
        read_numbers(path, read_table(path, "a table"), ["x"])


def test_manifest_of_pairs_in_semicolons_with_a_mark(tmp_path):
    for name in ("a.nii", "b.nii"):
        (tmp_path / name).touch()
    text = "Moving;Fixed;moving_labels;fixed_labels;Split;;\r\na.nii;b.nii;;;train;;\r\n"
    (pair,) = read_manifest(write(tmp_path, text, encoding="utf-8-sig"))
    assert (pair.moving.name, pair.fixed.name, pair.split) == ("a.nii", "b.nii", "train")
    assert not pair.has_labels


def test_lists_of_cases_in_semicolons_and_capitals(tmp_path):
    (case,) = read_list(write(tmp_path, "Case;Fold;\r\nBRATS_001;2;\r\n", encoding="utf-16"))
    assert (case.paths, case.fold) == (("BRATS_001",), 2)
    path = write(tmp_path, "PATIENT,Case,\np1,a,\n")
    assert read_patients(path) == {"a": "p1"}


def test_results_of_a_spreadsheet_keep_names_and_numbers(tmp_path):
    text = ";".join(COLUMNS) + "\r\nsegmentation;D;unet;scratch;0;007;NA;dice;0,5;;0\r\n"
    text += "segmentation;D;unet;scratch;0;008;NA;dice;;;0\r\n"
    table = read_results(write(tmp_path, text))
    assert table["case"].tolist() == ["007", "008"]
    assert table["label"].tolist() == ["NA", "NA"]
    assert table["value"][0] == 0.5 and math.isnan(table["value"][1])
    with pytest.raises(UserError, match="whole numbers in the column fold"):
        read_results(write(tmp_path, text.replace("scratch;0", "scratch;0,5")))


@pytest.mark.parametrize("cell", ["=1+2", "@SUM(A1)", "+a", "-a", "'=x", "''-y", "-", "=", "'"])
def test_no_text_that_is_written_is_a_formula_and_each_comes_back(tmp_path, cell):
    write_table(tmp_path / "a.csv", pd.DataFrame({"text": [cell, "b"], "value": [-1.5, 2.0]}))
    row = (tmp_path / "a.csv").read_text().splitlines()[1]
    assert row[0] not in "=+-@"
    assert row.endswith(",-1.5")
    assert read_table(tmp_path / "a.csv", "a table")["text"].tolist() == [cell, "b"]


def test_numbers_in_texts_are_no_formulas(tmp_path):
    write_table(tmp_path / "a.csv", pd.DataFrame({"text": ["-1.5", "+2e-3"]}))
    assert (tmp_path / "a.csv").read_text() == "text\n-1.5\n+2e-3\n"


@pytest.mark.parametrize(
    ("path", "got"), [("none.csv", "no file"), (".", "a folder"), ("/dev/zero", "no regular file")]
)
def test_what_is_no_file_is_refused_at_once(tmp_path, path, got):
    with pytest.raises(UserError, match=f"expected a table, got .*{got}"):
        read_table(tmp_path / path, "a table")


def test_a_table_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "large.csv").open("wb") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(UserError, match="of at most 256 MiB, got 1048576"):
        read_table(tmp_path / "large.csv", "a table")


# A log is cut while it is written, and drawn; studies and benchmarks read their own.
OWN_LOGS = {
    "nnunet_triad/training/training_log.py",
    "pretraining/pictures.py",
    "classification/run.py",
}


def test_nothing_that_ships_reads_a_table_by_other_means():
    root = Path(nnunet_triad.__file__).parents[1]
    found = set()
    for package in ("nnunet_triad", "pretraining", "registration", "classification"):
        for path in (root / package).rglob("*.py"):
            calls = {
                node.attr
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                if isinstance(node, ast.Attribute)
            }
            if calls & {"read_csv", "read_table", "DictReader", "read_excel"}:
                found.add(path.relative_to(root).as_posix())
    assert found <= OWN_LOGS


def test_rows_are_counted_before_they_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_MAX_ROWS", 3)
    (tmp_path / "a.csv").write_text("a\n1\n2\n3\n")
    assert len(read_table(tmp_path / "a.csv", "a table")) == 3
    (tmp_path / "a.csv").write_text("a\n1\n2\n3\n4\n")
    with pytest.raises(TableError, match=r"a table of at most 3 rows, got more; divide it"):
        read_table(tmp_path / "a.csv", "a table")
