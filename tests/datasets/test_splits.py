"""Splits by patient, and from the lists that others publish."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nnunetv2.utilities.crossval_split import generate_crossval_split

from nnunet_triad.datasets import known_datasets
from nnunet_triad.datasets.convert import convert_dataset
from nnunet_triad.datasets.records import CASES_FILE, read_cases
from nnunet_triad.datasets.split_files import read_list, read_patients
from nnunet_triad.datasets.splits import split_by_patient, split_from_list, write_splits
from nnunet_triad.errors import UserError

Rows = list[dict[str, str]]


@pytest.fixture
def rows_of(layout_trees: Callable[[int], Path], nnunet_folders: Path) -> Callable[[int], Rows]:
    """The training cases of a converted dataset."""

    def rows(dataset_id: int) -> Rows:
        folder = convert_dataset(known_datasets()[dataset_id], layout_trees(dataset_id)).folder
        return [row for row in read_cases(folder / CASES_FILE) if row["is_training"] == "1"]

    return rows


def make_rows(num_cases: int) -> Rows:
    return [
        {"case": f"c{i:03d}", "patient": f"c{i:03d}", "sources": f"images/c{i:03d}.nii.gz"}
        for i in range(num_cases)
    ]


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def sides(split: dict[str, list[str]]) -> tuple[set[str], set[str]]:
    return set(split["train"]), set(split["val"])


def test_one_case_a_patient_gives_nnunets_own_folds() -> None:
    names = [f"case_{i}" for i in range(23)]
    made = split_by_patient({name: name for name in names})
    expected = generate_crossval_split(sorted(names), seed=12345, n_splits=5)
    assert [sides(fold) for fold in made] == [sides(fold) for fold in expected]
    json.dumps(made)  # plain strings, as nnU-Net's file holds


def test_no_patient_is_on_both_sides() -> None:
    patients = {f"case_{i:02d}": f"patient_{i // 3}" for i in range(40)}
    folds = split_by_patient(patients)
    validated: list[str] = []
    for fold in folds:
        train, val = sides(fold)
        assert train | val == patients.keys()
        assert not {patients[name] for name in train} & {patients[name] for name in val}
        validated += fold["val"]
    assert sorted(validated) == sorted(patients)


def test_folds_by_patient_have_similar_sizes() -> None:
    patients = {f"case_{i:03d}": f"patient_{i // 2}" for i in range(100)}
    assert all(16 <= len(fold["val"]) <= 24 for fold in split_by_patient(patients))


@pytest.mark.parametrize("num_patients", [2, 3, 4])
def test_fewer_patients_than_five_are_a_fold_each(num_patients: int) -> None:
    patients = {f"case_{i}": f"patient_{i % num_patients}" for i in range(8)}
    folds = split_by_patient(patients)
    assert len(folds) == num_patients
    assert all(len({patients[name] for name in fold["val"]}) == 1 for fold in folds)


def test_one_patient_cannot_be_divided() -> None:
    with pytest.raises(UserError, match="expected at least 2, one to train and one to validate"):
        split_by_patient({"a": "p", "b": "p"})


def test_fewer_folds_hold_all_cases_once_and_keep_patients_together():
    patients = {f"{patient}{scan}": f"{patient}" for patient in range(5) for scan in "ab"}
    for cases in (patients, {name: name for name in patients}):
        folds = split_by_patient(cases, num_folds=2)
        assert len(folds) == 2
        assert sorted(name for fold in folds for name in fold["val"]) == sorted(cases)
        for fold in folds:
            sides = [{cases[name] for name in fold[side]} for side in ("train", "val")]
            assert not sides[0] & sides[1]


# The published lists name files of VoCo's own copies of the datasets in these forms.
VOCO_NAMES: dict[int, Callable[[str], Any]] = {
    501: lambda n: {
        "image": [f"./{n}/{n}_{m}.nii.gz" for m in ("flair", "t1ce", "t1", "t2")],
        "label": f"./{n}/{n}_seg.nii.gz",
    },
    502: lambda n: {"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"},
    505: lambda n: {
        "image": [f"./imagesTr/{n}_{c:04d}.nii.gz" for c in range(2)],
        "label": f"./labelsTr/{n}.nii.gz",
    },
    506: lambda n: {
        "image": f"./images/{n}_image.nii.gz",
        "label": f"./labels/{n}_label.nii.gz",
    },
    507: lambda n: {
        "image": f"imagesTr/im{int(n[-3:])}.nii.gz",
        "label": f"labelsTr/lb{int(n[-3:])}.nii.gz",
    },
    509: lambda n: {
        "image": f"./imagesTr/{int(n[-3:])}_0000.nii.gz",
        "label": f"./labelsTr/{int(n[-3:])}.nii.gz",
    },
    512: lambda n: {"image": f"./imagesTr/{n}_0000.nii.gz", "label": f"./labelsTr/{n}.nii.gz"},
}


@pytest.mark.parametrize("dataset_id", sorted(VOCO_NAMES))
def test_names_of_published_lists_lead_to_the_cases(
    rows_of, tmp_path: Path, dataset_id: int
) -> None:
    rows = rows_of(dataset_id)
    names = [row["case"] for row in rows]
    entries = [VOCO_NAMES[dataset_id](name) for name in names]
    file = write(tmp_path / "list.json", {"training": entries[1:], "validation": entries[:1]})
    result = split_from_list(read_list(file), rows)
    assert result.splits == [{"train": sorted(names[1:]), "val": names[:1]}]
    assert (result.num_unknown, result.num_unused, result.divided_patients) == (0, 0, ())


@pytest.mark.parametrize("fold", ["", "one", [64, 64, 64], 1.5, -1, True, {"fold": 1}])
def test_a_data_list_with_a_fold_that_is_no_number_is_refused(tmp_path: Path, fold: object) -> None:
    file = tmp_path / "folds.json"
    file.write_text(json.dumps({"training": [{"image": "a.nii.gz", "fold": fold}]}))
    with pytest.raises(UserError, match=r"training\[0\]: expected a fold number, got"):
        read_list(file)


def test_folds_of_a_data_list_become_folds(tmp_path: Path) -> None:
    rows = make_rows(10)
    entries = [{"image": row["sources"], "fold": i % 5} for i, row in enumerate(rows)]
    file = write(tmp_path / "folds.json", {"training": entries})
    splits = split_from_list(read_list(file), rows).splits
    assert [fold["val"] for fold in splits] == [[f"c{i:03d}", f"c{i + 5:03d}"] for i in range(5)]
    assert all(len(set(fold["train"]) | set(fold["val"])) == 10 for fold in splits)


@pytest.mark.parametrize("key", ["validation", "val", "valid"])
def test_side_of_a_data_list_may_have_several_names(tmp_path: Path, key: str) -> None:
    rows = make_rows(3)
    content = {"train": ["c000.nii.gz", "c001.nii.gz"], key: ["c002.nii.gz"], "test": ["c009"]}
    file = write(tmp_path / "list.json", content)
    assert split_from_list(read_list(file), rows).splits[0]["val"] == ["c002"]


@pytest.mark.parametrize(
    "table",
    [
        "image,label,split\na/c000.nii.gz,,train\na/c001.nii.gz,,train\na/c002.nii.gz,,valid\n",
        "case,split\nc000,training\nc001,train\nc002,Validation\nc003,test\n",
        "ID,Split\nc000,train\nc001,train\nc002,val\n",
    ],
)
def test_table_with_sides_becomes_one_fold(tmp_path: Path, table: str) -> None:
    file = write(tmp_path / "list.csv", table)
    splits = split_from_list(read_list(file), make_rows(3)).splits
    assert splits == [{"train": ["c000", "c001"], "val": ["c002"]}]


def test_table_with_folds_becomes_folds(tmp_path: Path) -> None:
    file = write(tmp_path / "list.csv", "case,fold\nc000,0\nc001,1\nc002,2\n")
    splits = split_from_list(read_list(file), make_rows(3)).splits
    assert [fold["val"] for fold in splits] == [["c000"], ["c001"], ["c002"]]


def test_published_division_can_be_used(rows_of, nnunet_folders: Path) -> None:
    rows = rows_of(504)
    file = nnunet_folders / "raw" / "Dataset504_Prostate158" / CASES_FILE
    result = split_from_list(read_list(file), rows)
    assert result.splits[0]["val"] == ["Prostate158_024"]
    assert len(result.splits[0]["train"]) == 4
    assert result.num_unused == 1  # of the test part


def test_divided_patients_are_reported(tmp_path: Path) -> None:
    rows = [{**row, "patient": "p0"} if i < 2 else row for i, row in enumerate(make_rows(4))]
    content = {"training": ["c000", "c002", "c003"], "validation": ["c001"]}
    file = write(tmp_path / "list.json", content)
    assert split_from_list(read_list(file), rows).divided_patients == ("p0",)


def test_unlisted_cases_are_counted(tmp_path: Path) -> None:
    file = write(tmp_path / "list.json", {"training": ["c000"], "validation": ["c001"]})
    assert split_from_list(read_list(file), make_rows(5)).num_unused == 3


def test_unknown_cases_are_refused_or_left_out(tmp_path: Path) -> None:
    content = {"training": ["c000", "c900", "c901"], "validation": ["c001"]}
    file = write(tmp_path / "list.json", content)
    with pytest.raises(UserError, match=r"got 2 of 4 that it does not have \(c900, c901\)"):
        split_from_list(read_list(file), make_rows(2))
    assert split_from_list(read_list(file), make_rows(2), is_partial=True).num_unknown == 2


def test_case_on_both_sides_is_refused(tmp_path: Path) -> None:
    content = {"training": ["c000", "c001"], "validation": ["c001"]}
    file = write(tmp_path / "list.json", content)
    with pytest.raises(UserError, match=r"c001: .* in training\[1\] and validation\[0\]"):
        split_from_list(read_list(file), make_rows(2))


def test_cases_kept_for_validation_are_in_no_fold_s_training(tmp_path: Path) -> None:
    folds = [{"image": f"c00{i}", "fold": i} for i in range(2)]
    file = write(tmp_path / "list.json", {"training": folds, "validation": ["c002"]})
    with pytest.raises(UserError, match="a fold for each case or for none, got none for c002"):
        split_from_list(read_list(file), make_rows(3))


def test_list_without_validation_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "list.json", {"training": ["c000", "c001"]})
    with pytest.raises(UserError, match="got none for val"):
        split_from_list(read_list(file), make_rows(2))


def test_entry_of_two_cases_is_refused(tmp_path: Path) -> None:
    content = {"training": [{"image": "c000.nii.gz", "label": "c001.nii.gz"}], "val": ["c002"]}
    file = write(tmp_path / "list.json", content)
    with pytest.raises(UserError, match="leads to c000, c001"):
        split_from_list(read_list(file), make_rows(3))


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("list.json", "{", "expected JSON"),
        ("list.json", "[]", "expected lists named training and validation"),
        ("list.json", {"training": [{"mask": "a"}]}, r"training\[0\]: expected an entry with"),
        ("list.csv", "a,b\n1,2\n", "expected a column split or fold"),
        ("list.csv", "case,split\nc0,maybe\n", "line 2: expected split train, valid or test"),
        ("list.csv", "case,split\nc0,val\n,train\n", "line 3: expected a case, got an empty one"),
        ("list.csv", "case,fold\nc0,first\n", "line 2: expected a fold number"),
        ("list.txt", "c000", r"expected a .json or .csv file"),
    ],
)
def test_unusable_list_is_refused(tmp_path: Path, name: str, content: Any, match: str) -> None:
    with pytest.raises(UserError, match=match):
        read_list(write(tmp_path / name, content))


def test_missing_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--from: expected a JSON or CSV file, got .*none.json"):
        read_list(tmp_path / "none.json")


def test_table_of_patients_is_read(tmp_path: Path) -> None:
    file = write(tmp_path / "patients.csv", "Case,Patient\nc000,007\nc001,007\n")
    assert read_patients(file) == {"c000": "007", "c001": "007"}


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("case,who\nc0,p\n", "expected columns case and patient"),
        ("case,patient\na,1\na,2\n", "one"),
    ],
)
def test_unusable_table_of_patients_is_refused(tmp_path: Path, content: str, match: str) -> None:
    with pytest.raises(UserError, match=match):
        read_patients(write(tmp_path / "patients.csv", content))


def test_splits_are_not_overwritten_by_accident(tmp_path: Path) -> None:
    first, second = [{"train": ["a"], "val": ["b"]}], [{"train": ["b"], "val": ["a"]}]
    path = write_splits(tmp_path, first)
    with pytest.raises(UserError, match=r"expected no splits yet, got some; .*--overwrite"):
        write_splits(tmp_path, second)
    assert json.loads(path.read_text()) == first
    write_splits(tmp_path, second, is_overwritten=True)
    assert json.loads(path.read_text()) == second
