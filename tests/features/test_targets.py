"""Targets as people write them: texts, numbers, gaps; and what cannot be probed."""

from pathlib import Path

import numpy as np
import pytest

from nnunet_triad.errors import UserError
from nnunet_triad.features.samples import read_manifest
from nnunet_triad.features.settings import ProbeSettings
from nnunet_triad.features.targets import check_folds, read_targets


def targets(tmp_path: Path, cells: list[str], *, subjects=None, **settings):
    path = tmp_path / "m.csv"
    lines = [f"i{number}.nii;{cell}" for number, cell in enumerate(cells)]
    path.write_text("\n".join(["image;label", *lines]) + "\n")
    table = read_manifest(path)
    names = [f"i{number}" for number in range(len(cells))]
    return read_targets(
        path,
        table,
        ProbeSettings(**settings),
        cases=names,
        subjects=subjects or names,
    )


def test_texts_and_few_whole_numbers_are_classes_in_natural_order(tmp_path: Path):
    found = targets(tmp_path, ["b2", "b10", "a", "b2"])
    assert found.classes == ("a", "b2", "b10")
    assert found.truth.tolist() == [1, 2, 0, 1]
    assert targets(tmp_path, ["10", "9", "9"]).classes == ("9", "10")


def test_many_or_broken_numbers_are_numbers(tmp_path: Path):
    ages = [str(20 + number) for number in range(11)]
    assert targets(tmp_path, ages).classes == ()
    found = targets(tmp_path, ["61,5", "62", "", "nan"])  # a decimal comma; two are not known
    assert found.classes == ()
    assert found.truth.tolist() == [61.5, 62]
    assert found.cases.tolist() == ["i0", "i1"]
    assert targets(tmp_path, ["1", "2", "3"], task="numbers").classes == ()
    assert len(targets(tmp_path, ages, task="classes").classes) == 11


def test_text_among_numbers_is_refused_by_its_line(tmp_path: Path):
    with pytest.raises(UserError, match=r"line 4: expected a number in the column label.*'sixty'"):
        targets(tmp_path, ["61", "62", "sixty", "59"])
    with pytest.raises(UserError, match="line 3: expected a number in the column label, got 'x'"):
        targets(tmp_path, ["61", "x", "y"], task="numbers")
    with pytest.raises(UserError, match="line 3: expected a finite number"):
        targets(tmp_path, ["61.5", "inf", "62"])


def test_column_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path):
    with pytest.raises(UserError, match=r"expected a column of .*m.csv \(image, label\), got age"):
        targets(tmp_path, ["1"], target="age")


@pytest.mark.parametrize(
    ("cells", "folds", "message"),
    [
        (["a"] * 8, 3, "expected two classes or more, got only a"),
        (["a", "b"], 3, "expected at most as many as subjects, 2, got 3"),
        (["a"] * 8 + ["b", "b"], 3, "expected at least 3 subjects of each class, got 2 of b"),
        (["0.5"] * 8, 3, "expected numbers that differ, got 0.5 in all 8 cases"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(tmp_path: Path, cells, folds, message):
    found = targets(tmp_path, cells)
    with pytest.raises(UserError, match=message):
        check_folds(found, ProbeSettings(folds=folds))


def test_classes_are_counted_by_subject(tmp_path: Path):
    cells, subjects = ["a", "b"] * 6, [f"s{number // 6}" for number in range(12)]
    found = targets(tmp_path, cells, subjects=subjects)
    with pytest.raises(UserError, match="expected at most as many as subjects, 2, got 5"):
        check_folds(found, ProbeSettings())
    assert np.unique(found.subjects).tolist() == ["s0", "s1"]
