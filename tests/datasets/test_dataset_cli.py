"""`triad-dataset` and `python -m tests.layouts` as a user types them."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nnunet_triad.datasets import cli, known_datasets
from tests.commands import exit_code
from tests.layouts import __main__ as layouts

RAW, PREPROCESSED, RESULTS = "nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"


@pytest.fixture
def run(
    nnunet_folders: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run a command; return its exit code, its output and its errors."""

    def command(*arguments: object, main: Callable[[], None] = cli.main) -> tuple[int, str, str]:
        capsys.readouterr()
        code = exit_code(main, "triad", *arguments)
        return code, *capsys.readouterr()

    return command


@pytest.fixture
def converted(run, layout_trees: Callable[[int], Path]) -> Path:
    """KiPA22, converted."""
    code, _, _ = run("convert", "509", "--source", layout_trees(509), "--processes", "1")
    assert code == 0
    return layout_trees(509)


def error_line(result: tuple[int, str, str]) -> str:
    """The one line of a refusal, below whatever the progress bar has drawn."""
    code, _, err = result
    assert code == 2
    assert "Traceback" not in err
    *_, line = err.strip().splitlines()
    assert line.startswith("error: ")
    return line


def test_list_shows_every_dataset(run) -> None:
    code, out, _ = run("list")
    lines = out.splitlines()
    assert code == 0
    assert [line.split()[:2] for line in lines[1:]] == [
        [str(spec.id), spec.name] for spec in known_datasets().values()
    ]


def test_list_of_one_says_where_to_ask(run) -> None:
    _, out, _ = run("list", "BraTS21")
    spec = known_datasets()[501]
    for text in (spec.url, spec.access, spec.licence, spec.layout.description, *spec.notes):
        assert text in out


def test_list_as_json_can_be_read(run) -> None:
    _, out, _ = run("list", "--json")
    assert [entry["id"] for entry in json.loads(out)] == list(known_datasets())


def test_convert_says_what_comes_next(run, layout_trees: Callable[[int], Path]) -> None:
    code, out, _ = run("convert", "KiPA22", "--source", layout_trees(509), "--processes", "1")
    assert code == 0
    assert "Dataset509_KiPA22: 5 training cases and 1 test cases" in out
    assert "70 cases were expected" in out
    assert "nnUNetv2_plan_and_preprocess -d 509 --verify_dataset_integrity" in out


def test_status_follows_a_dataset(run, converted: Path) -> None:
    def row() -> dict[str, str]:
        (row,) = json.loads(run("status", "509", "--json")[1])
        return dict(row)

    assert (row()["raw"], row()["cases"], row()["expected"], row()["test"]) == (
        *("converted", "5", "70", "1"),
    )
    data = Path(os.environ[PREPROCESSED]) / "Dataset509_KiPA22" / "nnUNetPlans_3d_fullres"
    data.mkdir(parents=True)
    for number in range(3):
        (data / f"KiPA22_{number:03d}.pkl").touch()
    assert row()["preprocessed"] == "nnUNetPlans_3d_fullres 3"
    run("split", "509")
    assert row()["splits"] == "yes"
    name = "nnUNetTrainerTriadSwinT__nnUNetPlans__3d_fullres"
    fold = Path(os.environ[RESULTS]) / "Dataset509_KiPA22" / name / "fold_0"
    fold.mkdir(parents=True)
    assert row()["trained"] == "-"
    (fold / "checkpoint_final.pth").touch()
    assert row()["trained"] == f"{name} 0"


def test_status_shows_unfinished_and_foreign_folders(run, nnunet_folders: Path) -> None:
    (nnunet_folders / "raw" / "Dataset509_KiPA22" / "imagesTr").mkdir(parents=True)
    (nnunet_folders / "results" / "Dataset510_Other").mkdir()
    _, out, _ = run("status")
    rows = {line.split()[0]: line for line in out.splitlines()[1:]}
    assert "unfinished" in rows["509"]
    assert "conflict: Dataset510_Other" in rows["510"]
    assert len(rows) == len(known_datasets())


def test_split_from_a_list_is_what_nnunet_reads(run, converted: Path, tmp_path: Path) -> None:
    entries = [{"image": f"./imagesTr/{i}_0000.nii.gz"} for i in range(5)]
    file = tmp_path / "list.json"
    file.write_text(json.dumps({"training": entries[:3], "validation": entries[3:]}))
    code, out, _ = run("split", "509", "--from", file)
    path = Path(os.environ[PREPROCESSED]) / "Dataset509_KiPA22" / "splits_final.json"
    assert code == 0
    assert "1 fold, train+val 3+2" in out
    (split,) = json.loads(path.read_text())
    assert split["val"] == ["KiPA22_003", "KiPA22_004"]


def test_list_that_is_read_is_not_replaced(run, converted: Path) -> None:
    folder = Path(os.environ[PREPROCESSED]) / "Dataset509_KiPA22"
    folder.mkdir(parents=True)
    path = folder / "splits_final.json"
    path.write_text(json.dumps({"training": [{"image": "imagesTr/0_0000.nii.gz"}]}))
    line = error_line(run("split", "509", "--from", path, "--overwrite"))
    assert "expected an output that is none of the inputs" in line
    assert "training" in json.loads(path.read_text())


def test_split_keeps_the_patients_of_a_table_together(
    run, make_source: Callable[[int], Path], tmp_path: Path
) -> None:
    source = make_source(509)
    numbers = [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]
    for number in numbers[5:]:
        for kind in ("image", "label"):
            path = source / "train" / kind / f"{number}.nii.gz"
            shutil.copy(source / "train" / kind / f"{number - 10}.nii.gz", path)
        image = nib.load(source / "train" / "image" / f"{number}.nii.gz")
        changed = np.asanyarray(image.dataobj) + 1
        nib.save(nib.Nifti1Image(changed, image.affine), image.get_filename())
    code, _, err = run("convert", "509", "--source", source, "--processes", "1")
    assert code == 0, err
    table = tmp_path / "patients.csv"
    lines = [f"KiPA22_{number:03d},p{number % 5}" for number in numbers]
    table.write_text("\n".join(["case,patient", *lines]))
    assert run("split", "509", "--patients", table)[0] == 0
    path = Path(os.environ[PREPROCESSED]) / "Dataset509_KiPA22" / "splits_final.json"
    for split in json.loads(path.read_text()):
        patients = [int(name[-3:]) % 5 for name in split["val"]]
        assert len(patients) == 2
        assert len(set(patients)) == 1


def test_conversion_of_twins_writes_splits_by_patient(
    run, make_source: Callable[[int], Path]
) -> None:
    source = make_source(509)
    for kind in ("image", "label"):
        folder = source / "train" / kind
        shutil.copy(folder / "1.nii.gz", folder / "7.nii.gz")
    _, out, _ = run("convert", "509", "--source", source, "--processes", "1")
    assert "the same image in KiPA22_001, KiPA22_007" in out
    path = Path(os.environ[PREPROCESSED]) / "Dataset509_KiPA22" / "splits_final.json"
    for split in json.loads(path.read_text()):
        assert ("KiPA22_001" in split["val"]) == ("KiPA22_007" in split["val"])


@pytest.mark.parametrize("name", ["021", "21", "Dataset021_Own"])
def test_dataset_made_by_hand_with_four_cases_gets_four_folds(run, name: str) -> None:
    """nnU-Net itself stops there: n_splits=5 cannot be greater than the number of samples."""
    raw = Path(os.environ[RAW]) / "Dataset021_Own"
    for folder, ending in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz")):
        (raw / folder).mkdir(parents=True)
        for number in range(4):
            (raw / folder / f"scan_{number}{ending}").write_bytes(b"")
    (raw / "dataset.json").write_text('{"file_ending": ".nii.gz"}')
    code, out, _ = run("split", name)
    assert code == 0
    assert "4 folds, train+val 3+1, 3+1, 3+1, 3+1" in out
    path = Path(os.environ[PREPROCESSED]) / "Dataset021_Own" / "splits_final.json"
    folds = json.loads(path.read_text())
    assert sorted(name for fold in folds for name in fold["val"]) == [f"scan_{i}" for i in range(4)]


def test_dataset_made_by_hand_without_its_description_is_refused(run) -> None:
    (Path(os.environ[RAW]) / "Dataset021_Own").mkdir(parents=True)
    assert "expected a dataset as nnU-Net reads it" in error_line(run("split", "21"))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("convert", "999", "--source", "."), "dataset: expected one of 501 BraTS21"),
        (("convert", "501", "--source", "/nowhere"), "--source: expected a folder"),
        (("split", "510"), "expected the table that triad-dataset convert writes"),
        (("split", "509", "--from", "/nowhere.json"), "--from: expected a JSON or CSV file"),
        (("split", "509", "--patients", "/nowhere.csv"), "expected a CSV table for --patients"),
        (("list", "liver"), "got liver"),
    ],
)
def test_wrong_input_gives_one_line(run, converted: Path, arguments, match: str) -> None:
    assert match in error_line(run(*arguments))


def test_patients_must_cover_all_cases(run, converted: Path, tmp_path: Path) -> None:
    (tmp_path / "patients.csv").write_text("case,patient\nKiPA22_000,a\n")
    line = error_line(run("split", "509", "--patients", tmp_path / "patients.csv"))
    assert "got none for 4 (KiPA22_001" in line


def test_status_without_folders_is_refused(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("nnUNet_raw")
    assert "export nnUNet_raw=" in error_line(run("status"))


def test_phantom_layout_can_be_converted(run, tmp_path: Path) -> None:
    folder = tmp_path / "download"
    arguments = ("MSD-Spleen", folder, "--cases", "6", "--test-cases", "0")
    code, out, _ = run(*arguments, main=layouts.main)
    assert code == 0
    assert f"triad-dataset convert 516 --source {folder}" in out
    _, out, _ = run("convert", "516", "--source", folder, "--processes", "1")
    assert "6 training cases\n" in out


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("brain",), "layout: expected one of 501 BraTS21"),
        (("501", "--cases", "0"), "--cases, --test-cases, --seed: expected 1, 0 and 0 or more"),
    ],
)
def test_wrong_layout_gives_one_line(run, tmp_path: Path, arguments, match: str) -> None:
    dataset, *options = arguments
    result = run(dataset, tmp_path / "new", *options, main=layouts.main)
    assert match in error_line(result)


def test_layout_does_not_mix_with_other_files(run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    line = error_line(run("501", tmp_path, main=layouts.main))
    assert "expected a new or empty folder" in line
