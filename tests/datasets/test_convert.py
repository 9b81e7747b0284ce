"""What a conversion makes of the published files."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nnunetv2.dataset_conversion import convert_MSD_dataset
from nnunetv2.dataset_conversion.Dataset137_BraTS21 import (
    convert_labels_back_to_BraTS,
    copy_BraTS_segmentation_and_convert_labels_to_nnUNet,
)

from nnunet_triad.datasets import DatasetSpec, known_datasets
from nnunet_triad.datasets.convert import _join_twins, convert_dataset
from nnunet_triad.datasets.convert_case import ConversionOptions
from nnunet_triad.datasets.layouts import PatternLayout
from nnunet_triad.errors import UserError
from nnunet_triad.files import only_process, sha256
from tests.layouts import write_layout
from tests.layouts.challenges import HEART_VALUES

Tree = Callable[[int], Path]
COPIED = ConversionOptions(is_copied=True)


@pytest.fixture(autouse=True)
def _folders(nnunet_folders: Path) -> None:
    pass


def array(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj)


def contents(folder: Path) -> dict[str, str]:
    """Every file with the hash of its content, or where it leads."""
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else sha256(path)
        for path in sorted(folder.rglob("*"))
        if not path.is_dir()
    }


def test_brats21_labels_are_nnunets_own(layout_trees: Tree, tmp_path: Path) -> None:
    folder = convert_dataset(known_datasets()[501], layout_trees(501)).folder
    for path in sorted((folder / "labelsTr").iterdir()):
        name = path.name.removesuffix(".nii.gz")
        source = layout_trees(501) / name / f"{name}_seg.nii.gz"
        copy_BraTS_segmentation_and_convert_labels_to_nnUNet(str(source), str(tmp_path / path.name))
        assert np.array_equal(array(path), array(tmp_path / path.name))
        assert set(np.unique(array(source))) == {0, 1, 2, 4}
        assert np.array_equal(convert_labels_back_to_BraTS(array(path)), array(source))


def test_brats21_regions_are_nested(layout_trees: Tree) -> None:
    folder = convert_dataset(known_datasets()[501], layout_trees(501)).folder
    content = json.loads((folder / "dataset.json").read_text())
    regions = [set(value) for value in content["labels"].values() if isinstance(value, list)]
    assert regions[0] > regions[1] > regions[2]
    assert content["regions_class_order"] == [1, 2, 3]
    assert list(content["channel_names"].values()) == ["T1", "T1ce", "T2", "Flair"]


@pytest.mark.parametrize("dataset_id", [502, 505, 512])
def test_msd_is_what_nnunets_converter_makes(
    layout_trees: Tree,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    in_process: None,
    dataset_id,
) -> None:
    spec = known_datasets()[dataset_id]
    ours = convert_dataset(spec, layout_trees(dataset_id), options=COPIED).folder
    other = tmp_path / "other"
    monkeypatch.setenv("nnUNet_raw", str(other))
    for variable in ("nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, str(tmp_path / "none"))
    task = layout_trees(dataset_id) / spec.layout.task
    convert_MSD_dataset.convert_msd_dataset(str(task), overwrite_target_id=dataset_id)
    (theirs,) = other.iterdir()
    files = {name: digest for name, digest in contents(theirs).items() if name.endswith(".gz")}
    assert len(files) == 5 * (1 + len(spec.channels)) + len(spec.channels)
    assert files == {name: d for name, d in contents(ours).items() if name.endswith(".gz")}
    made = json.loads((ours / "dataset.json").read_text())
    expected = json.loads((theirs / "dataset.json").read_text())
    for key in ("labels", "channel_names", "file_ending", "numTraining"):
        assert made[key] == expected[key]


def test_heart_values_become_consecutive(layout_trees: Tree) -> None:
    spec = known_datasets()[506]
    folder = convert_dataset(spec, layout_trees(506)).folder
    source = array(layout_trees(506) / "mr_train" / "mr_train_1001_label.nii.gz")
    made = array(folder / "labelsTr" / "mr_train_1001.nii.gz")
    assert set(np.unique(source)) == {0, *HEART_VALUES.values()}
    for published, value in spec.source_values.items():
        assert (made[source == published] == value).all()
    assert set(np.unique(made)) == set(range(8))


def test_prostate_tumours_lie_over_the_zones(layout_trees: Tree) -> None:
    folder = convert_dataset(known_datasets()[504], layout_trees(504)).folder
    study = layout_trees(504) / "prostate158_train" / "train" / "020"
    made = array(folder / "labelsTr" / "Prostate158_020.nii.gz")
    tumour = array(study / "adc_tumor_reader1.nii.gz") > 0
    zones = array(study / "t2_anatomy_reader1.nii.gz")
    assert tumour.any()
    assert np.array_equal(made == 3, tumour)
    assert np.array_equal(made[~tumour], zones[~tumour])


def test_prostate_study_without_a_tumour_has_zones_only(layout_trees: Tree) -> None:
    folder = convert_dataset(known_datasets()[504], layout_trees(504)).folder
    assert (layout_trees(504) / "prostate158_train" / "train" / "021" / "empty.nii.gz").exists()
    made = array(folder / "labelsTr" / "Prostate158_021.nii.gz")
    assert set(np.unique(made)) == {0, 1, 2}


def test_published_division_is_kept_in_the_table(layout_trees: Tree) -> None:
    folder = convert_dataset(known_datasets()[504], layout_trees(504)).folder
    lines = (folder / "cases.csv").read_text().splitlines()[1:]
    assert [line.split(",")[2] for line in lines] == ["test", *["train"] * 4, "valid"]


def test_breast_slices_come_to_lie_as_published(layout_trees: Tree) -> None:
    folder = convert_dataset(known_datasets()[503], layout_trees(503)).folder
    patient = "BreaDM-Ma-1802"
    images = layout_trees(503) / "seg3D" / "train" / "images" / patient
    for channel, sequence in enumerate(("VIBRANT", "VIBRANT+C2", "SUB2")):
        image = nib.load(folder / "imagesTr" / f"{patient}_{channel:04d}.nii.gz")
        published = np.load(images / f"{sequence}.npy")
        # columns run to the left (-x of RAS), rows to the back (-y), slices up
        assert np.array_equal(np.asanyarray(image.dataobj), published.transpose(1, 0, 2))
        assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
    mask = np.load(images.parents[1] / "labels" / patient / "VIBRANT+C2.npy")
    label = array(folder / "labelsTr" / f"{patient}.nii.gz")
    assert np.array_equal(label == 1, (mask == 255).transpose(1, 0, 2))


def test_masks_of_patients_without_images_are_left_out(layout_trees: Tree) -> None:
    root = layout_trees(503) / "seg3D"
    masks = {path.name for path in (root / "train" / "labels").iterdir()}
    images = {path.name for path in (root / "train" / "images").iterdir()}
    assert masks > images
    assert convert_dataset(known_datasets()[503], layout_trees(503)).num_training == 6


def test_files_are_linked_by_default(layout_trees: Tree) -> None:
    folder = convert_dataset(known_datasets()[507], layout_trees(507)).folder
    link = folder / "imagesTr" / "ATLAS_003_0000.nii.gz"
    assert link.is_symlink()
    assert link.resolve().name == "im3.nii.gz"
    assert (folder / "labelsTr" / "ATLAS_003.nii.gz").resolve().name == "lb3.nii.gz"


def test_copies_stand_alone(make_source: Callable[[int], Path]) -> None:
    source = make_source(507)
    before = contents(source / "atlas-train-dataset-1.0.1" / "imagesTr")
    folder = convert_dataset(known_datasets()[507], source, options=COPIED).folder
    made = contents(folder / "imagesTr")
    assert made["ATLAS_003_0000.nii.gz"] == before["im3.nii.gz"]
    assert not any(path.is_symlink() for path in folder.rglob("*"))


def test_copies_replace_links(layout_trees: Tree) -> None:
    folder = convert_dataset(known_datasets()[507], layout_trees(507)).folder
    linked = {name: array(folder / name) for name in contents(folder) if name.endswith(".gz")}
    summary = convert_dataset(known_datasets()[507], layout_trees(507), options=COPIED)
    assert summary.num_converted == 5
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    assert all(np.array_equal(array(folder / name), values) for name, values in linked.items())


def test_uncompressed_files_are_compressed(make_source: Callable[[int], Path]) -> None:
    source = make_source(506)
    path = source / "mr_train" / "mr_train_1002_image.nii.gz"
    nib.save(nib.load(path), path.with_suffix(""))
    expected = array(path)
    path.unlink()
    folder = convert_dataset(known_datasets()[506], source).folder
    made = folder / "imagesTr" / "mr_train_1002_0000.nii.gz"
    assert not made.is_symlink()
    assert np.array_equal(array(made), expected)


def test_archive_may_lie_deeper(make_source: Callable[[int], Path], tmp_path: Path) -> None:
    deep = tmp_path / "download" / "2017" / "MR data"
    deep.parent.mkdir(parents=True)
    make_source(506).rename(deep)
    assert convert_dataset(known_datasets()[506], tmp_path / "download").num_training == 5


def test_rounding_of_a_header_is_mended(make_source: Callable[[int], Path]) -> None:
    source = make_source(509)
    path = source / "train" / "label" / "1.nii.gz"
    label = nib.load(path)
    affine = label.affine.copy()
    affine[0, 3] += 0.002
    nib.save(nib.Nifti1Image(array(path), affine), path)
    folder = convert_dataset(known_datasets()[509], source).folder
    made = nib.load(folder / "labelsTr" / "KiPA22_001.nii.gz")
    image = nib.load(folder / "imagesTr" / "KiPA22_001_0000.nii.gz")
    assert np.array_equal(made.affine, image.affine)
    assert np.array_equal(np.asanyarray(made.dataobj), array(path))


def test_geometry_from_image_overrules_a_wrong_header(make_source: Callable[[int], Path]) -> None:
    source = make_source(501)
    case = source / "BraTS2021_00001"
    for ending in ("seg", "t2"):
        path = case / f"BraTS2021_00001_{ending}.nii.gz"
        nib.save(nib.Nifti1Image(array(path), np.eye(4)), path)
    options = ConversionOptions(is_geometry_from_image=True)
    folder = convert_dataset(known_datasets()[501], source, options=options).folder
    expected = nib.load(case / "BraTS2021_00001_t1.nii.gz").affine
    t2 = folder / "imagesTr" / "BraTS2021_00001_0002.nii.gz"
    for made in (t2, folder / "labelsTr" / "BraTS2021_00001.nii.gz"):
        assert np.allclose(nib.load(made).affine, expected)
    assert np.array_equal(array(t2), array(case / "BraTS2021_00001_t2.nii.gz"))


def test_geometry_that_itk_refuses_is_read_by_nibabel(make_source: Callable[[int], Path]) -> None:
    source = make_source(506)
    for kind in ("image", "label"):
        path = source / "mr_train" / f"mr_train_1003_{kind}.nii.gz"
        image = nib.load(path)
        sheared = image.affine.copy()
        sheared[0, 1] = 2.5
        made = nib.Nifti1Image(array(path), sheared)
        made.set_qform(None, code=0)
        nib.save(made, path)
    folder = convert_dataset(known_datasets()[506], source).folder
    content = json.loads((folder / "dataset.json").read_text())
    assert content["overwrite_image_reader_writer"] == "NibabelIOWithReorient"


def test_second_run_changes_nothing(layout_trees: Tree) -> None:
    folder = convert_dataset(known_datasets()[501], layout_trees(501)).folder
    before = {path: path.lstat().st_mtime_ns for path in folder.glob("*/*.nii.gz")}
    assert convert_dataset(known_datasets()[501], layout_trees(501)).num_converted == 0
    assert {path: path.lstat().st_mtime_ns for path in folder.glob("*/*.nii.gz")} == before


def test_replaced_file_is_converted_again(make_source: Callable[[int], Path]) -> None:
    source = make_source(501)
    folder = convert_dataset(known_datasets()[501], source).folder
    path = source / "BraTS2021_00002" / "BraTS2021_00002_seg.nii.gz"
    label = nib.load(path)
    nib.save(nib.Nifti1Image(np.where(array(path) == 4, 1, array(path)), label.affine), path)
    assert convert_dataset(known_datasets()[501], source).num_converted == 1
    made = array(folder / "labelsTr" / "BraTS2021_00002.nii.gz")
    assert set(np.unique(made)) == {0, 1, 2}


def test_table_of_another_version_is_written_anew(layout_trees: Tree) -> None:
    folder = convert_dataset(known_datasets()[509], layout_trees(509)).folder
    before = contents(folder)
    (folder / "cases.csv").write_text("case,patient\nKiPA22_000,KiPA22_000\n")
    assert convert_dataset(known_datasets()[509], layout_trees(509)).num_converted == 6
    assert contents(folder) == before


def test_deleted_channel_is_converted_again(layout_trees: Tree) -> None:
    folder = convert_dataset(known_datasets()[501], layout_trees(501)).folder
    before = contents(folder)
    (folder / "imagesTr" / "BraTS2021_00002_0003.nii.gz").unlink()
    assert convert_dataset(known_datasets()[501], layout_trees(501)).num_converted == 1
    assert contents(folder) == before


def test_processes_do_not_change_the_result(
    layout_trees: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = convert_dataset(known_datasets()[508], layout_trees(508)).folder
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "other"))
    two = convert_dataset(known_datasets()[508], layout_trees(508), num_processes=2).folder
    assert contents(one) == contents(two)


@pytest.mark.parametrize("at", range(0, 24, 3))
def test_conversion_that_was_killed_ends_with_the_same_files(
    layout_trees: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    expected = contents(convert_dataset(known_datasets()[501], layout_trees(501)).folder)
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "killed"))
    calls, replace = iter(range(10**6)), Path.replace

    def replace_until(path: Path, target: Path) -> Path:
        if next(calls) == at:
            raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace_until)
        with pytest.raises(KeyboardInterrupt):
            convert_dataset(known_datasets()[501], layout_trees(501))
    folder = tmp_path / "killed" / known_datasets()[501].folder_name
    assert not (folder / "dataset.json").exists()
    summary = convert_dataset(known_datasets()[501], layout_trees(501))
    assert contents(summary.folder) == expected
    # the journal's own rename is the first, six a case follow: the label's twice
    assert summary.num_converted == 5 - max(0, at - 1) // 6


def test_process_that_was_killed_leaves_what_the_next_one_finishes(
    layout_trees: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = contents(
        convert_dataset(known_datasets()[505], layout_trees(505), options=COPIED).folder
    )
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "killed"))
    script = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from nnunet_triad.datasets import known_datasets, convert, convert_case as module\n"
        "write = module._write_label\n"
        "def write_and_die(spec, case, *rest):\n"
        "    write(spec, case, *rest)\n"
        "    if case.name == 'prostate_02': os.kill(os.getpid(), signal.SIGKILL)\n"
        "module._write_label = write_and_die\n"
        "options = module.ConversionOptions(is_copied=True)\n"
        "spec = known_datasets()[505]\n"
        f"convert.convert_dataset(spec, Path({str(layout_trees(505))!r}), options=options)"
    )
    done = subprocess.run([sys.executable, "-c", script], env=os.environ, check=False)
    assert done.returncode < 0
    folder = tmp_path / "killed" / known_datasets()[505].folder_name
    assert (folder / ".unfinished" / "prostate_02").exists()
    summary = convert_dataset(known_datasets()[505], layout_trees(505), options=COPIED)
    assert summary.num_converted == 4
    assert contents(summary.folder) == expected


def test_further_archive_adds_its_cases(layout_trees: Tree, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "prostate158_train").symlink_to(layout_trees(504) / "prostate158_train")
    assert convert_dataset(known_datasets()[504], source).num_training == 5
    (source / "prostate158_test").symlink_to(layout_trees(504) / "prostate158_test")
    summary = convert_dataset(known_datasets()[504], source)
    assert (summary.num_training, summary.num_converted) == (6, 1)


def test_same_image_under_two_names_counts_as_one_patient(
    make_source: Callable[[int], Path],
) -> None:
    source = make_source(509)
    for kind in ("image", "label"):
        path = source / "train" / kind / "1.nii.gz"
        path.with_name("7.nii.gz").write_bytes(path.read_bytes())
    summary = convert_dataset(known_datasets()[509], source)
    assert summary.twins == (("KiPA22_001", "KiPA22_007"),)
    assert (summary.num_training, summary.num_patients) == (6, 5)


def test_patients_with_the_same_image_are_one_with_all_their_cases() -> None:
    made = {
        "a": ("x", "p1"),
        "b": ("x", "p2"),
        "c": ("y", "p2"),
        "d": ("y", "p3"),
        "e": ("z", "p4"),
    }
    rows = {name: {"sha256": image, "patient": who} for name, (image, who) in made.items()}
    joined, twins = _join_twins(rows)
    assert twins == (("a", "b"), ("c", "d"))
    assert len({joined[name]["patient"] for name in "abcd"}) == 1
    assert joined["e"] == rows["e"]


def test_more_labels_than_a_byte_holds_keep_their_values(
    tmp_path: Path, nnunet_folders: Path
) -> None:
    values = np.arange(300, dtype=np.int16).reshape(10, 6, 5)
    for folder, content in (("images", values), ("labels", 2 * values)):  # to be renumbered
        (tmp_path / folder).mkdir()
        nib.save(nib.Nifti1Image(content, np.eye(4)), tmp_path / folder / "a.nii.gz")
    spec = DatasetSpec(
        id=700,
        name="Many",
        channels=("MRI",),
        labels={"background": 0} | {f"l{value}": value for value in range(1, 300)},
        source_values={2 * value: value for value in range(300)},
        layout=PatternLayout(case="[^/]+", images=("images/{}",), label="labels/{}"),
    )
    made = convert_dataset(spec, tmp_path).folder / "labelsTr" / "a.nii.gz"
    np.testing.assert_array_equal(array(made), values)


def test_layout_is_the_same_for_the_same_seed(layout_trees: Tree, tmp_path: Path) -> None:
    for dataset_id in (503, 505, 509):
        write_layout(dataset_id, tmp_path / f"{dataset_id}")
        assert contents(tmp_path / f"{dataset_id}") == contents(layout_trees(dataset_id))


def test_second_conversion_of_a_dataset_is_refused(
    layout_trees: Tree, nnunet_folders: Path
) -> None:
    lock = nnunet_folders / "raw" / f".{known_datasets()[509].folder_name}.lock"
    with (
        only_process(lock, refusal="busy"),
        pytest.raises(UserError, match="another triad-dataset is converting; wait"),
    ):
        convert_dataset(known_datasets()[509], layout_trees(509))
    assert convert_dataset(known_datasets()[509], layout_trees(509)).num_training == 5
