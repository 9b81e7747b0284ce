"""A dataset of one's own: described in a file, as docs/own-dataset.md does it."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

from nnunet_triad.datasets import cli, find_dataset, known_datasets
from nnunet_triad.datasets.convert import convert_dataset
from nnunet_triad.datasets.spec_file import read_spec
from nnunet_triad.errors import UserError
from tests.commands import exit_code

GUIDE = Path(__file__).parents[2] / "docs" / "own-dataset.md"
VISITS = [f"P{patient:04d}_2023{month:02d}14" for patient in range(6) for month in (1, 8)]


@pytest.fixture
def spec_text() -> str:
    """The file that the guide shows."""
    (text,) = re.findall(r"```toml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    return str(text)


@pytest.fixture
def spec_path(spec_text: str, tmp_path: Path) -> Path:
    path = tmp_path / "liver.toml"
    path.write_text(spec_text, encoding="utf-8")
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A hospital's folders, with files that nobody asked for."""
    root = tmp_path / "archive"
    affine = np.diag([-1.5, 1.5, 4.0, 1.0])
    for number, visit in enumerate(VISITS):
        folder = root / visit[:5] / visit
        folder.mkdir(parents=True)
        values = np.random.default_rng(number).integers(1, 900, (2, 8, 9, 10), dtype=np.int16)
        label = np.zeros((8, 9, 10), np.int16)
        label[1:6] = 10
        label[2], label[3] = 20, 21
        for name, array in zip(("t1_axial", "t2_axial"), values, strict=True):
            nib.save(nib.Nifti1Image(array, affine), folder / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(label, affine), folder / "segmentation.nii.gz")
        nib.save(nib.Nifti1Image(values[0], affine), folder / "localizer.nii.gz")
    return root


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[str, str]]:
    """Run `triad-dataset`; return its output, and its errors."""

    def command(*arguments: object) -> tuple[str, str]:
        code = exit_code(cli.main, "triad-dataset", *arguments)
        out, err = capsys.readouterr()
        assert (code == 2) == ("error: " in err)
        return out, err

    return command


def test_guides_dataset_passes_nnunets_own_check(
    run, spec_path: Path, archive: Path, nnunet_folders: Path, in_process: None
) -> None:
    out, _ = run("convert", spec_path, "--source", archive, "--processes", "1")
    assert "Dataset601_Clinic-Liver: 12 training cases\n" in out
    assert "folds that keep each patient's cases together" in out
    folder = nnunet_folders / "raw" / "Dataset601_Clinic-Liver"
    verify_dataset_integrity(str(folder), num_processes=1)
    label = nib.load(folder / "labelsTr" / f"{VISITS[3]}.nii.gz")
    rows = np.asarray(label.dataobj)[:, 0, 0]
    assert rows.tolist() == [0, 1, 2, 2, 1, 1, 0, 0]
    for channel, name in enumerate(("t1_axial", "t2_axial")):
        image = folder / "imagesTr" / f"{VISITS[3]}_{channel:04d}.nii.gz"
        assert image.resolve() == archive / "P0001" / VISITS[3] / f"{name}.nii.gz"
    splits = nnunet_folders / "preprocessed" / "Dataset601_Clinic-Liver" / "splits_final.json"
    for fold in json.loads(splits.read_text()):
        assert not {name[:5] for name in fold["train"]} & {name[:5] for name in fold["val"]}


def test_other_commands_take_the_file(
    run, spec_path: Path, archive: Path, nnunet_folders: Path
) -> None:
    assert "Dataset601_Clinic-Liver" in run("list", spec_path)[0]
    run("convert", spec_path, "--source", archive, "--processes", "1")
    (row,) = json.loads(run("status", spec_path, "--json")[0])
    assert (row["raw"], row["cases"], row["expected"]) == ("converted", "12", "-")
    out, _ = run("split", spec_path, "--overwrite")
    assert "5 folds" in out


def test_json_says_the_same(spec_path: Path) -> None:
    spec = read_spec(spec_path)
    path = spec_path.with_suffix(".json")
    fields = {
        "id": 601,
        "name": "Clinic-Liver",
        "channels": ["T1w", "T2w"],
        "labels": {"background": 0, "liver": 1, "tumour": 2},
        "source_values": {"0": 0, "10": 1, "20": 2, "21": 2},
        "layout": {
            "kind": "pattern",
            "case": r"(?P<patient>P\d+)_\d{8}",
            "images": ["{}/t1_axial", "{}/t2_axial"],
            "label": "{}/segmentation",
        },
    }
    path.write_text(json.dumps(fields), encoding="utf-8")
    assert find_dataset(str(path)) == spec


def test_values_are_those_of_the_files_when_left_out(spec_text: str, tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(re.sub(r"\[source_values\][^\[]*", "", spec_text), encoding="utf-8")
    assert read_spec(path).source_values == {0: 0, 1: 1, 2: 2}


def test_decathlons_layout_can_be_used(
    layout_trees: Callable[[int], Path], nnunet_folders: Path, tmp_path: Path
) -> None:
    path = tmp_path / "spleen.toml"
    path.write_text(
        'id = 602\nname = "Own"\nchannels = ["CT"]\nlabels = {background = 0, spleen = 1}\n'
        'layout = {kind = "msd", task = "Task09_Spleen"}\n',
        encoding="utf-8",
    )
    own, known = read_spec(path), known_datasets()[516]
    folders = [convert_dataset(spec, layout_trees(516)).folder for spec in (own, known)]
    names = [sorted(file.name for file in folder.rglob("*.nii.gz")) for folder in folders]
    assert names[0] == names[1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("id = 601", "id = '601'", "liver.toml: id: expected a whole number, got '601'"),
        ("id = 601", "id = true", "id: expected a whole number, got True"),
        ("id = 601", "id = 1601", "id: expected 1 to 999, got 1601"),
        ("id = 601", "", "liver.toml: expected id, got name, channels"),
        ('"Clinic-Liver"', '"Clinic/Liver"', "name: expected letters, digits, - and _"),
        ('name = "', 'nmae = "', "expected fields id, name, channels, .*, got nmae"),
        ('channels = ["T1w", "T2w"]', 'channels = "T1w"', "channels: expected a list, got 'T1w'"),
        ('channels = ["T1w", "T2w"]', "channels = [1]", "channels: expected text, got 1"),
        ('channels = ["T1w", "T2w"]', "channels = []", "channels: expected at least one"),
        ("background = 0", "nothing = 0", "labels: expected background = 0, got"),
        ("tumour = 2", "tumour = 1", r"labels: expected names for \[0, 1, 2\], got"),
        ("tumour = 2", "tumour = 2\nlesion = 2", "labels: expected a value of its own for each"),
        ("tumour = 2", "tumour = 2.5", "labels, tumour: expected a whole number, got 2.5"),
        ("tumour = 2", "tumour = [1, 2]", "regions_class_order: expected with regions"),
        ("21 = 2  ", "x = 2", "source_values: expected whole numbers, got 'x'"),
        ("21 = 2  ", "21 = 5", "labels: expected values 0 to n without gaps"),
        (
            'kind = "pattern"',
            'kind = "paten"',
            "expected a kind of msd, pattern, .*'paten'",
        ),
        ('kind = "pattern"', 'kind = "msd"', "layout: expected fields task, got case"),
        ('label = "{}/segmentation"', "", "layout: expected label, got case, images"),
        ('label = "{}/seg', 'label = "seg', "layout: images, label: expected {} in each"),
        (r"P\d+)", r"P\d+", r"layout: case, test_case: expected a regular expression, got"),
        ('kind = "p', 'case_name = "L_{:d}"\nkind = "p', "layout: case_name: expected a format"),
        ('kind = "p', 'test_images = ["{}"]\nkind = "p', "layout: test_images: expected 2"),
        ("[layout]", "[layout", "expected a dataset's description in TOML or JSON"),
    ],
)
def test_wrong_field_gives_one_line(
    run, spec_path: Path, spec_text: str, old: str, new: str, message: str
) -> None:
    assert old in spec_text
    spec_path.write_text(spec_text.replace(old, new, 1), encoding="utf-8")
    (line,) = run("list", spec_path)[1].splitlines()
    assert re.search(message, line), line


def test_missing_file_gives_one_line(run, tmp_path: Path) -> None:
    (line,) = run("list", tmp_path / "no.toml")[1].splitlines()
    assert "no.toml: expected a dataset's description in TOML or JSON" in line


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("/t1_axial", "/t1w", r"12 incomplete \(.*/t1w.nii.gz"),
        (r"P\d+)", r"Q\d+)", r"expected {}/t1_axial.nii.gz, .*, got P0000/P0000_20230114/"),
        (r"(?P<patient>P\d+)_\d{8}", ".+", "expected a case name without folders"),
        ('"T1w", ', "", "expected 1 channels, got 2"),
    ],
)
def test_pattern_that_does_not_fit_is_refused(
    spec_path: Path,
    spec_text: str,
    archive: Path,
    nnunet_folders: Path,
    old: str,
    new: str,
    message: str,
) -> None:
    assert old in spec_text
    spec_path.write_text(spec_text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        convert_dataset(read_spec(spec_path), archive)


def test_id_of_another_dataset_is_refused(
    spec_path: Path, archive: Path, nnunet_folders: Path
) -> None:
    (nnunet_folders / "preprocessed" / "Dataset601_Knee").mkdir()
    with pytest.raises(UserError, match=r"id 601: expected Dataset601_Clinic-Liver or nothing"):
        convert_dataset(read_spec(spec_path), archive)
