"""The commands as they are typed, and mistakes in one line."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from nnunet_triad.errors import UserError
from nnunet_triad.features.cli import app
from tests.features.conftest import AFFINE, write_image

REAL = Path(__file__).parents[3] / "shared" / "data" / "Task04_Hippocampus"


def typed(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve subjects with two images each, and an empty file; the classes differ in label 2."""
    folder = tmp_path_factory.mktemp("study")
    lines = ["image,subject,roi,label,age"]
    for number in range(24):
        subject, label = number // 2, "ab"[number // 2 % 2]
        write_image(folder / f"i{number}.nii.gz", number, shape=(16, 14, 12))
        labels = np.zeros((16, 14, 12), np.uint8)
        labels[2:8, 3:9, 2:8] = 1
        labels[9:14, 3:9, 2 : (8 if label == "a" else 11)] = 2
        write_labels(folder / f"m{number}.nii.gz", labels)
        age = "" if number == 3 else f"{50 + subject + 0.5 * (number % 2)}"
        lines.append(f"i{number}.nii.gz,s{subject},m{number}.nii.gz,{label},{age}")
    (folder / "empty.nii.gz").touch()
    lines.append("empty.nii.gz,s12,m0.nii.gz,a,70")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def write_labels(path: Path, labels: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(labels, AFFINE), path)


def test_images_alone_are_short_for_extract(images: Path, weights: Path, monkeypatch):
    monkeypatch.chdir(images)
    out = typed("imagesTr", "--encoder", weights, "-o", "f.csv", "--levels", "1")
    assert "features: 3 images, 8 of 1 levels" in out
    assert "encoder: unet (triad), sha256" in out
    assert "licence MIT" in out
    again = typed("extract", "imagesTr", "--encoder", weights, "-o", "f.csv", "--levels", "1")
    assert "features: 3 images (3 of earlier runs)" in again
    assert pd.read_csv("f.csv")["case"].tolist()[0] == "imagesTr/case0.nii.gz"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["imagesTr"], "--encoder: expected a weights file, or a name"),
        (["imagesTr", "--encoder", "nobody"], "nobody: expected a weights file, got nothing"),
        (["imagesTr", "--encoder", "random:nobody"], "--encoder: expected random: and one of"),
        (["nowhere.nii", "--encoder", "random:unet_t"], "nowhere.nii: expected an image, got no"),
        (["labels.csv", "--encoder", "random:unet_t"], "expected a column image, got a, b"),
        (["imagesTr", "labels.csv", "--encoder", "random:unet_t"], "or one manifest alone, got"),
        (
            ["imagesTr/case0.nii.gz", "imagesTr", "--encoder", "random:unet_t"],
            "expected each image once, got imagesTr/case0.nii.gz twice",
        ),
        (
            ["imagesTr", "--encoder", "random:unet_t", "--mask", "lesion"],
            "--mask: expected a column of the manifest .image., or a path with",
        ),
        (
            ["imagesTr", "--encoder", "random:unet_t", "--mask", "../nowhere/{name}"],
            "--mask: expected a label map of each image, got none at all, first",
        ),
        (
            ["imagesTr", "--encoder", "random:unet_t", "--levels", "6"],
            "--levels: expected levels from 0 to 5, each once, got 6",
        ),
        (["imagesTr", "--encoder", "random:unet_t", "-o", "f.xlsx"], "that ends in .parquet"),
    ],
)
def test_mistakes_are_told(images: Path, monkeypatch, arguments, message):
    monkeypatch.chdir(images)
    Path("labels.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(UserError, match=message):
        CliRunner().invoke(app, arguments, catch_exceptions=False)


QUICK = ("--folds", "3", "--inner-folds", "2", "--resamples", "100")


def test_probe_sets_the_encoder_beside_all_floors(study: Path, weights: Path, tmp_path: Path):
    out = typed(
        *("probe", study / "manifest.csv", "--encoder", weights, "--mask", "roi"),
        *("-o", tmp_path / "p", *QUICK),
    )
    assert "by the probe linear" in out
    assert "left out: 1 with no features" in out
    assert "empty file" in pd.read_csv(tmp_path / "p" / "features_rejected.csv")["reason"][0]
    scores = pd.read_csv(tmp_path / "p" / "scores.csv")
    assert set(scores["features"]) == {
        *("encoder", "random weights", "intensity statistics", "image size", "mask volumes"),
    }
    assert set(scores["probe"]) == {"linear", "ridge", "knn"}
    values = scores.set_index(["features", "probe", "metric"])["value"]
    assert values["mask volumes", "linear", "balanced_accuracy"] == 1
    predictions = pd.read_csv(tmp_path / "p" / "predictions.csv")
    assert len(predictions) == 24 * 5 * 3
    hits = predictions.query("features == 'encoder' and probe == 'knn'")
    share = (hits["target"] == hits["predicted"]).mean()
    assert values["encoder", "knn", "accuracy"] == pytest.approx(share)
    page = (tmp_path / "p" / "probe.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "24 cases of 12 subjects (a: 12, b: 12)" in page
    assert "http" not in page.replace("https://arxiv.org", "").replace("https://github.com", "")


def test_probe_of_a_table_and_of_numbers(study: Path, weights: Path, tmp_path: Path):
    table = tmp_path / "f.npz"
    typed(study / "manifest.csv", "--encoder", weights, "-o", table)
    call = ("probe", study / "manifest.csv", "--features", table, "--target", "age", *QUICK)
    out = typed(*call, "-o", tmp_path / "p")
    assert "left out: 1 with no target, 1 with no features" in out
    scores = pd.read_csv(tmp_path / "p" / "scores.csv")
    assert set(scores["metric"]) == {"r2", "mae", "correlation"}
    assert "mask volumes" not in set(scores["features"])
    before = scores["value"].tolist()
    typed(*call, "-o", tmp_path / "p")  # the same again
    assert pd.read_csv(tmp_path / "p" / "scores.csv")["value"].tolist() == before
    run = json.loads((tmp_path / "p" / "probe.json").read_text())["run"]
    assert run["target"] == "age"
    with pytest.raises(UserError, match=r"target: expected age, with which .*probe.json was begun"):
        typed(*call[:5], "label", *QUICK, "-o", tmp_path / "p")
    with pytest.raises(UserError, match="--mask: expected none beside --features"):
        typed(*call, "--mask", "roi", "-o", tmp_path / "q")
    with pytest.raises(UserError, match="expected one, or --features TABLE, got neither"):
        typed(*call[:2], "-o", tmp_path / "q")


@pytest.mark.real_data
@pytest.mark.skipif(not REAL.is_dir(), reason=f"needs {REAL}")
def test_volumes_of_real_hippocampi_are_told_by_their_masks(tmp_path: Path):
    rows = []
    for path in sorted((REAL / "imagesTr").glob("*.nii.gz"))[:24]:
        labels = np.asarray(nib.load(REAL / "labelsTr" / path.name).dataobj)
        rows.append((path, int((labels > 0).sum())))
    table = pd.DataFrame(rows, columns=["image", "volume"])
    table["label"] = np.where(table["volume"] > table["volume"].median(), "large", "small")
    table.to_csv(tmp_path / "m.csv", index=False)
    mask = ("--mask", "../labelsTr/{name}")
    typed(
        *("probe", tmp_path / "m.csv", "--encoder", "random:unet_t", "--levels", "2,3"),
        *(*mask, "-o", tmp_path / "p", *QUICK),
    )
    features = pd.read_csv(tmp_path / "p" / "scores.csv").set_index(["features", "probe", "metric"])
    assert features.loc[("mask volumes", "knn", "auc"), "value"] > 0.9
    with np.load(tmp_path / "p" / "features.npz") as content:
        volumes = content["first_order"][:, list(content["first_order_names"]).index("volume_mm3")]
        regions = content["region"]
    assert volumes[regions != ""].reshape(24, 2).sum(1) == pytest.approx(table["volume"].tolist())
