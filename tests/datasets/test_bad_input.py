"""What a conversion refuses, with one line that says what to do; nothing half done stays."""

import errno
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nnunet_triad.datasets import known_datasets
from nnunet_triad.datasets.convert import convert_dataset
from nnunet_triad.errors import UserError

Source = Callable[[int], Path]
RAW = "nnUNet_raw"


@pytest.fixture(autouse=True)
def _folders(nnunet_folders: Path) -> None:
    pass


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(change(np.asanyarray(image.dataobj)), image.affine), path)


def refused(dataset_id: int, source: Path, match: str) -> str:
    """Convert, and return the message; neither a dataset nor the bad case may be there."""
    spec = known_datasets()[dataset_id]
    with pytest.raises(UserError, match=match) as caught:
        convert_dataset(spec, source)
    message = str(caught.value)
    assert "\n" not in message
    assert ": expected" in message
    assert not (Path(os.environ[RAW]) / spec.folder_name / "dataset.json").exists()
    return message


@pytest.mark.parametrize(
    ("dataset_id", "file"),
    [
        (501, "BraTS2021_00002/BraTS2021_00002_flair.nii.gz"),
        (501, "BraTS2021_00002/BraTS2021_00002_seg.nii.gz"),
        (502, "Task01_BrainTumour/imagesTr/BRATS_003.nii.gz"),
        (502, "Task01_BrainTumour/imagesTs/BRATS_006.nii.gz"),
        (503, "seg3D/train/images/BreaDM-Ma-1802/SUB2.npy"),
        (503, "seg3D/val/labels/BreaDM-Ma-1805/VIBRANT+C2.npy"),
        (504, "prostate158_train/train/022/adc.nii.gz"),
        (504, "prostate158_train/train/021/empty.nii.gz"),
        (506, "mr_train/mr_train_1004_label.nii.gz"),
        (507, "atlas-train-dataset-1.0.1/imagesTr/im2.nii.gz"),
        (508, "Subtask1/TrainMask/train_0003.nii.gz"),
        (509, "train/image/0.nii.gz"),
    ],
)
def test_missing_file_is_named(make_source: Source, dataset_id: int, file: str) -> None:
    source = make_source(dataset_id)
    (source / file).unlink()
    name = Path(file).name if dataset_id != 503 else Path(file).parent.name
    assert name in refused(dataset_id, source, "missing; (finish the download|unpack)|missing")


def test_studies_that_a_table_lists_must_be_there(make_source: Source) -> None:
    source = make_source(504)
    table = source / "prostate158_train" / "train.csv"
    (source / "prostate158_train" / "train" / "023").rename(source / "elsewhere")
    refused(504, source, rf"{table}: expected the \d+ files that it lists, got \d+ \(train/023/t2")


@pytest.mark.parametrize("dataset_id", sorted(known_datasets()))
def test_empty_folder_is_refused(tmp_path: Path, dataset_id: int) -> None:
    (tmp_path / "empty").mkdir()
    refused(dataset_id, tmp_path / "empty", "expected .*, got no (such file|dataset.json)")


@pytest.mark.parametrize("dataset_id", [501, 503, 504, 512])
def test_missing_folder_is_refused(tmp_path: Path, dataset_id: int) -> None:
    refused(dataset_id, tmp_path / "nowhere", "--source: expected a folder, got .*nowhere")


@pytest.mark.parametrize("dataset_id", [501, 503, 504, 512])
def test_unfinished_download_is_refused(make_source: Source, dataset_id: int) -> None:
    source = make_source(dataset_id)
    (source / "archive.zip.crdownload").write_bytes(b"half")
    refused(dataset_id, source, "expected finished downloads, got 1 unfinished")


@pytest.mark.parametrize("kind", ["image", "label"])
def test_truncated_file_is_named(make_source: Source, kind: str) -> None:
    source = make_source(509)
    path = source / "train" / kind / "2.nii.gz"
    path.write_bytes(path.read_bytes()[:-200])
    message = refused(509, source, "expected a whole image")
    assert message.startswith(str(path))


def test_damaged_file_is_named(make_source: Source) -> None:
    path = make_source(509) / "train" / "image" / "2.nii.gz"
    path.write_bytes(b"<html>404</html>")
    refused(509, path.parents[2], f"{path}: expected a whole image")


def test_wrong_checksum_is_found(make_source: Source) -> None:
    path = make_source(509) / "train" / "image" / "2.nii.gz"
    data = bytearray(path.read_bytes())
    data[-6] ^= 1  # of the CRC-32 at the end of the gzip stream
    path.write_bytes(data)
    with pytest.raises(gzip.BadGzipFile):
        gzip.decompress(bytes(data))
    refused(509, path.parents[2], "expected a whole image")


def test_damaged_numpy_file_is_named(make_source: Source) -> None:
    path = make_source(503) / "seg3D" / "train" / "images" / "BreaDM-Ma-1802" / "SUB2.npy"
    path.write_bytes(path.read_bytes()[:1000])
    refused(503, path.parents[4], "SUB2.npy: expected a NumPy array of 3 axes")


def test_numpy_file_with_code_is_refused(make_source: Source) -> None:
    path = make_source(503) / "seg3D" / "train" / "images" / "BreaDM-Ma-1802" / "SUB2.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    refused(503, path.parents[4], "SUB2.npy: expected a NumPy array of 3 axes")


@pytest.mark.parametrize(
    ("dataset_id", "file", "value"),
    [
        (501, "BraTS2021_00001/BraTS2021_00001_seg.nii.gz", 3),
        (505, "Task05_Prostate/labelsTr/prostate_01.nii.gz", 4),
        (506, "mr_train/mr_train_1002_label.nii.gz", 7),
        (504, "prostate158_train/train/020/t2_anatomy_reader1.nii.gz", 9),
        (509, "train/label/1.nii.gz", 255),
    ],
)
def test_unexpected_label_value_is_named(
    make_source: Source, dataset_id: int, file: str, value: int
) -> None:
    source = make_source(dataset_id)

    def spoil(labels: np.ndarray) -> np.ndarray:
        spoiled = labels.copy()
        spoiled[3, 4, 5] = value
        return spoiled

    rewrite(source / file, spoil)
    expected = ", ".join(str(v) for v in sorted(known_datasets()[dataset_id].source_values))
    refused(dataset_id, source, rf"expected label values {expected}, got {value};")


def test_fractional_label_is_named(make_source: Source) -> None:
    source = make_source(512)
    path = source / "Task02_Heart" / "labelsTr" / "la_004.nii.gz"
    rewrite(path, lambda labels: labels.astype(np.float32) * 0.5)
    refused(512, source, "la_004.nii.gz: expected label values 0, 1, got 0.5")


@pytest.mark.parametrize("dataset_id", [501, 503, 504, 505])
def test_label_of_another_size_is_named(make_source: Source, dataset_id: int) -> None:
    source = make_source(dataset_id)
    file = {
        501: "BraTS2021_00001/BraTS2021_00001_seg.nii.gz",
        503: "seg3D/train/labels/BreaDM-Ma-1802/VIBRANT+C2.npy",
        504: "prostate158_train/train/020/t2_anatomy_reader1.nii.gz",
        505: "Task05_Prostate/labelsTr/prostate_01.nii.gz",
    }[dataset_id]
    if file.endswith("npy"):
        np.save(source / file, np.load(source / file)[:-1])
    else:
        rewrite(source / file, lambda labels: labels[:-1])
    refused(dataset_id, source, r"expected the grid of .*, got size \d+x\d+x\d+ instead of")


def test_channel_of_another_size_is_named(make_source: Source) -> None:
    source = make_source(501)
    rewrite(source / "BraTS2021_00001/BraTS2021_00001_t2.nii.gz", lambda image: image[:, 1:])
    refused(501, source, r"_t2.nii.gz: expected the grid of .*_t1.nii.gz, got size")


def test_shifted_label_is_refused_with_the_way_out(make_source: Source) -> None:
    path = make_source(509) / "train" / "label" / "1.nii.gz"
    label = nib.load(path)
    affine = label.affine.copy()
    affine[2, 3] += 5
    nib.save(nib.Nifti1Image(np.asanyarray(label.dataobj), affine), path)
    refused(509, path.parents[2], r"got corners up to 5 mm apart .*; .*--geometry-from-image")


def test_image_with_nan_is_named(make_source: Source) -> None:
    path = make_source(512) / "Task02_Heart" / "imagesTr" / "la_004.nii.gz"

    def spoil(image: np.ndarray) -> np.ndarray:
        spoiled = image.astype(np.float32)
        spoiled[0, 0, 0] = np.nan
        return spoiled

    rewrite(path, spoil)
    refused(512, path.parents[2], f"{path}: expected finite intensities")


def test_image_with_too_few_channels_is_named(make_source: Source) -> None:
    path = make_source(502) / "Task01_BrainTumour" / "imagesTr" / "BRATS_002.nii.gz"
    rewrite(path, lambda image: image[..., :3])
    refused(502, path.parents[2], f"{path}: expected 4 channels, got 3")


def test_two_folders_of_one_case_are_named(make_source: Source) -> None:
    source = make_source(501)
    case = source / "BraTS2021_00003"
    again = source / "again" / case.name
    again.mkdir(parents=True)
    for path in case.iterdir():
        (again / path.name).write_bytes(path.read_bytes())
    message = refused(501, source, "BraTS2021_00003: expected one file for each part of a case")
    assert str(case) in message
    assert str(again) in message


def test_patient_in_two_parts_is_named(make_source: Source) -> None:
    root = make_source(503) / "seg3D"
    for kind in ("images", "labels"):
        target = root / "test" / kind / "BreaDM-Ma-1802"
        target.mkdir(exist_ok=True)
        for path in (root / "train" / kind / "BreaDM-Ma-1802").iterdir():
            (target / path.name).write_bytes(path.read_bytes())
    refused(503, root, "BreaDM-Ma-1802: expected a patient in one of train, val and test")


def test_study_in_two_folders_is_named(make_source: Source) -> None:
    root = make_source(504)
    (root / "prostate158_test/test/001").rename(root / "prostate158_test/test/020")
    (root / "prostate158_test/test.csv").unlink()
    refused(504, root, "020: expected one folder for each study")


def test_study_in_two_tables_is_named(make_source: Source) -> None:
    root = make_source(504) / "prostate158_train"
    with (root / "valid.csv").open("a") as file:
        file.write((root / "train.csv").read_text().splitlines()[1] + "\n")
    refused(504, root, "expected each study in one table, got 20 in")


def test_case_listed_twice_is_named(make_source: Source) -> None:
    path = make_source(512) / "Task02_Heart" / "dataset.json"
    content = json.loads(path.read_text())
    content["training"].append(content["training"][0])
    content["numTraining"] += 1
    path.write_text(json.dumps(content))
    refused(512, path.parent, "la_003: expected one case of this id, got")


def test_compressed_and_uncompressed_file_of_one_case_are_named(make_source: Source) -> None:
    path = make_source(509) / "train" / "image" / "2.nii.gz"
    nib.save(nib.load(path), path.with_suffix(""))
    refused(509, path.parents[2], "2: expected one file for each part of a case")


@pytest.mark.parametrize("variable", ["nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"])
def test_id_of_another_dataset_is_refused(make_source: Source, variable: str) -> None:
    other = Path(os.environ[variable]) / "Dataset509_MyKidneys"
    other.mkdir()
    message = refused(509, make_source(509), "id 509: expected Dataset509_KiPA22 or nothing")
    assert str(other) in message


def test_cases_of_another_source_are_refused(make_source: Source, tmp_path: Path) -> None:
    first = make_source(509)
    folder = convert_dataset(known_datasets()[509], first).folder
    (folder / "dataset.json").unlink()
    second = tmp_path / "second"
    for kind in ("image", "label"):
        (second / "train" / kind).mkdir(parents=True)
        (second / "train" / kind / "0.nii.gz").write_bytes(
            (first / "train" / kind / "0.nii.gz").read_bytes()
        )
    refused(509, second, r"expected only the 1 cases of the source, got 5 others \(KiPA22_001")


def test_other_task_is_refused(make_source: Source) -> None:
    refused(516, make_source(512), "expected Task09_Spleen.*, got Task02_Heart")


def test_other_task_under_another_name_is_refused(make_source: Source, tmp_path: Path) -> None:
    renamed = tmp_path / "download"
    (make_source(502) / "Task01_BrainTumour").rename(renamed)
    refused(505, renamed, r"expected labels \(0, 1, 2\) of Task05_Prostate, got \(0, 1, 2, 3\)")


def test_description_that_is_no_json_is_named(make_source: Source) -> None:
    path = make_source(512) / "Task02_Heart" / "dataset.json"
    path.write_text("{")
    refused(512, path.parent, f"{path}: expected the decathlon's description")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_read_only_target_is_named(
    make_source: Source, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    source, write = make_source(509), Path.write_bytes

    def refuse(path: Path, data: bytes) -> int:
        if "KiPA22" in str(path):
            raise OSError(code, os.strerror(code), str(path))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", refuse)
    refused(509, source, rf"expected a folder that can be written to.*\({os.strerror(code)}\)")


def test_file_system_without_links_is_named(
    make_source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(path))

    monkeypatch.setattr(Path, "symlink_to", refuse)
    refused(509, make_source(509), "expected a file system with symbolic links.*; pass --copy")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission_is_named(make_source: Source) -> None:
    raw = Path(os.environ[RAW])
    raw.chmod(0o500)
    try:
        refused(509, make_source(509), "expected a folder that can be written to")
    finally:
        raw.chmod(0o700)


def test_file_in_place_of_the_target_is_named(
    make_source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "file"))
    with pytest.raises(UserError, match="expected a folder that can be written to"):
        convert_dataset(known_datasets()[509], make_source(509))


def test_unset_folder_is_named(make_source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("nnUNet_raw")
    with pytest.raises(UserError, match=r"nnUNet_raw: expected a folder .* export nnUNet_raw="):
        convert_dataset(known_datasets()[509], make_source(509))


def test_good_cases_are_kept_and_the_bad_one_can_be_mended(make_source: Source) -> None:
    source = make_source(509)
    path = source / "train" / "label" / "1.nii.gz"
    good = path.read_bytes()
    path.write_bytes(good[:-200])
    message = refused(509, source, "1 of 6 cases cannot be converted")
    assert "run again once this is mended" in message
    folder = Path(os.environ[RAW]) / "Dataset509_KiPA22"
    assert len(list(folder.glob("labelsTr/*"))) == 4
    assert not list(folder.glob("*/KiPA22_001*"))
    path.write_bytes(good)
    assert convert_dataset(known_datasets()[509], source).num_converted == 1
    assert not list(folder.glob(".*"))
