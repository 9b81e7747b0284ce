"""The five readers on small trees in the published layouts: counts, splits, labels, places."""

import json
import sys

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

from classification.cache import build_cache
from classification.data import ClassificationData
from classification.datasets import prepare_dataset
from classification.datasets.adni import find_images
from classification.datasets.lld_mmri import PHASES
from classification.datasets.luna16 import lps_to_ras
from classification.datasets.skull_strip import otsu_threshold, plain_brain_mask
from classification.manifest import read_manifest
from classification.preprocess import read_image
from classification.settings import PrepareOptions, PreprocessSettings
from nnunet_triad.errors import UserError
from nnunet_triad.images import Volume
from tests.classification.volumes import draw_volume
from tests.layouts.classification import CLASSIFICATION_LAYOUTS


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """The published layouts, each written once when it is first asked for."""
    root, written = tmp_path_factory.mktemp("published"), {}

    def tree(name):
        if name not in written:
            written[name] = CLASSIFICATION_LAYOUTS[name](root / name)
        return written[name]

    return tree


def prepare(name, source, output, **options):
    text = prepare_dataset(name, source, output, PrepareOptions(**options))
    table = pd.read_csv(output / "manifest.csv", dtype={"subject": str})
    return text, table


def test_adni_splits_subjects_and_keeps_all_visits(trees, tmp_path):
    text, table = prepare("adni", trees("adni"), tmp_path)
    assert len(table) == 9 * 2  # one, two and three visits in turn
    assert len(table.drop_duplicates(["subject", "split"])) == table["subject"].nunique()
    assert dict(zip(table["label_name"], table["label"], strict=True)) == {
        "CN": 0,
        "MCI": 1,
        "AD": 2,
    }
    assert "published: 1526/326/330" in text
    assert "--preset adni" in text


def test_adni_takes_a_split_by_image_ids(trees, tmp_path):
    images = sorted(find_images(trees("adni")))
    third_visits = {"45309": "val", "45609": "test", "45909": "val"}
    splits = [third_visits.get(image, "train") for image in images]
    ids = pd.DataFrame({"Image Data ID": [f"I{i}" for i in images], "split": splits})
    ids.to_csv(tmp_path / "ids.csv", index=False)
    _, table = prepare("adni", trees("adni"), tmp_path / "out", split_ids=tmp_path / "ids.csv")
    assert table["split"].value_counts().to_dict() == {"train": 15, "val": 2, "test": 1}
    with pytest.raises(UserError, match="expected each subject in one split"):
        read_manifest(tmp_path / "out" / "manifest.csv")
    shared = read_manifest(tmp_path / "out" / "manifest.csv", allow_shared_subjects=True)
    assert shared.classes == ("CN", "MCI", "AD")


def test_breastdm_reads_kind_and_split_from_the_folders(trees, tmp_path):
    _, table = prepare("breastdm", trees("breastdm"), tmp_path)
    assert table["split"].value_counts().to_dict() == {"train": 7, "test": 2, "val": 1}
    kinds = table["subject"].str[len("BreaDM-") :].str[:2].map({"Be": 0, "Ma": 1})
    assert (table["label"] == kinds).all()
    case = trees("breastdm") / "seg3D" / "train" / "images" / table["subject"][0]
    slices = np.load(case / "VIBRANT+C2.npy")
    image = read_image(tmp_path / table["image"][0])
    np.testing.assert_allclose(image.voxels, slices.swapaxes(0, 1))


def test_breastdm_sequences_become_channels(trees, tmp_path):
    _, table = prepare("breastdm", trees("breastdm"), tmp_path, sequences=("VIBRANT", "SUB2"))
    assert read_manifest(tmp_path / "manifest.csv").num_channels == 2
    assert table["image"].str.count(r"\|").eq(1).all()


def test_organmnist3d_keeps_medmnists_splits_and_numbers(trees, tmp_path):
    _, table = prepare("organmnist3d", trees("organmnist3d"), tmp_path)
    assert table["split"].value_counts().to_dict() == {"train": 6, "val": 6, "test": 6}
    assert set(zip(table["label"], table["label_name"], strict=True)) >= {
        (0, "liver"),
        (6, "heart"),
    }
    with np.load(trees("organmnist3d") / "organmnist3d_64.npz", allow_pickle=False) as content:
        expected = content["val_images"][2]
    row = table[table["split"] == "val"].iloc[2]
    np.testing.assert_array_equal(read_image(tmp_path / row["image"]).voxels, expected)


def test_luna16_candidates_are_where_their_nodules_are(trees, tmp_path):
    """Around a nodule the lung is dense, around the other candidates it is air."""
    _, table = prepare("luna16", trees("luna16"), tmp_path)
    assert table["split"].value_counts().to_dict() == {"train": 36, "test": 18, "val": 6}
    assert table["label"].sum() == 10
    manifest = read_manifest(tmp_path / "manifest.csv")
    window = PreprocessSettings(size=32, intensity="window", window=(-1000.0, 400.0))
    cache = build_cache(manifest, window, tmp_path / "cache", is_quiet=True)
    data = ClassificationData(manifest=manifest, cache=cache)
    middles = np.array([float(data.load(r)[0, 14:18, 14:18, 14:18].mean()) for r in range(18)])
    is_nodule = manifest.labels[:18] == 1
    assert middles[is_nodule].min() > middles[~is_nodule].max()


def test_luna16_world_is_itks(trees):
    import SimpleITK

    path = next((trees("luna16")).glob("subset3/*.mhd"))
    image = SimpleITK.ReadImage(str(path))
    world = image.TransformIndexToPhysicalPoint((5, 7, 3))
    there = (read_image(path).affine @ (5, 7, 3, 1))[:3]
    np.testing.assert_allclose(there, lps_to_ras(world), atol=1e-6)


def test_luna16_streams_candidates_of_present_scans_only(trees, tmp_path):
    source = tmp_path / "some"
    (source / "CSVFILES").mkdir(parents=True)
    candidates = trees("luna16") / "CSVFILES" / "candidates.csv"
    (source / "CSVFILES" / "candidates.csv").write_bytes(candidates.read_bytes())
    for number in (0, 6):
        (source / f"subset{number}").symlink_to(trees("luna16") / f"subset{number}")
    _, table = prepare("luna16", source, tmp_path / "out")
    assert table["split"].value_counts().to_dict() == {"train": 6, "val": 6}


def test_lld_mmri_has_eight_channels_around_the_lesion(trees, tmp_path):
    _, table = prepare("lld-mmri", trees("lld-mmri"), tmp_path)
    assert table["split"].value_counts().to_dict() == {"train": 7, "val": 7, "test": 7}
    manifest = read_manifest(tmp_path / "manifest.csv")
    assert manifest.classes == ("HCC", "ICC", "HM", "HC", "HH", "FNH", "HA")
    assert [path.name.removesuffix(".nii.gz") for path in manifest.images[0]] == list(PHASES)
    annotation = json.loads((trees("lld-mmri") / "labels" / "Annotation.json").read_text())
    series = annotation["Annotation_info"]["MR100000"][0]
    lesion = series["annotation"]["lesion"]["0"]
    assert lesion["category"] == "Hepatic_hemangioma"
    assert manifest.classes[manifest.labels[0]] == "HH"
    whole = next((trees("lld-mmri") / "images" / "MR100000").rglob("*.0.nii.gz"))
    full, crop = read_image(whole), read_image(manifest.images[0][0])
    middle = np.array([(lesion["bbox"]["3D_box"][f"{a}_min"] + 1) for a in "xyz"])
    inside = np.linalg.inv(crop.affine) @ full.affine @ [*middle, 1]
    voxel = tuple(np.rint(inside[:3]).astype(int))
    assert crop.voxels[voxel] == full.voxels[tuple(middle)]


@pytest.mark.parametrize("name", CLASSIFICATION_LAYOUTS)
def test_other_folders_are_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="expected"):
        prepare_dataset(name, tmp_path / "empty", tmp_path / "out", PrepareOptions())
    with pytest.raises(UserError, match="got nothing at"):
        prepare_dataset(name, tmp_path / "gone", tmp_path / "out", PrepareOptions())


def test_table_of_splits_is_not_replaced_by_the_manifest(trees, tmp_path):
    ids = tmp_path / "manifest.csv"
    ids.write_text("Image Data ID,split\n")
    with pytest.raises(UserError, match="none of the inputs"):
        prepare_dataset("adni", trees("adni"), tmp_path, PrepareOptions(split_ids=ids))
    assert ids.read_text() == "Image Data ID,split\n"


def test_unknown_datasets_and_options_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"expected one of adni, .* got mnist"):
        prepare_dataset("mnist", tmp_path, tmp_path, PrepareOptions())
    with pytest.raises(UserError, match="skull_strip: expected none, plain or nppy"):
        PrepareOptions(skull_strip="yes")
    with pytest.raises(UserError, match=r"nppy_weights: expected the path of npp_v1.pth"):
        PrepareOptions(skull_strip="nppy")


def head(skull_gap=3):
    """Return a ball of brain inside a shell of skull and scalp, and the truth."""
    axes = np.meshgrid(*(np.arange(-24, 24),) * 3, indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes))
    brain = radius < 14
    scalp = (radius > 14 + skull_gap) & (radius < 21)
    values = 10 + 90 * brain + 110 * scalp + np.random.default_rng(0).normal(size=radius.shape)
    return values, brain


def test_plain_stripping_keeps_the_brain_and_drops_the_scalp():
    values, brain = head()
    mask = plain_brain_mask(Volume(voxels=values, affine=np.diag([2.0, 2.0, 2.0, 1.0])))
    assert 2 * (mask & brain).sum() / (mask.sum() + brain.sum()) > 0.95


def test_otsu_parts_two_levels():
    values = np.r_[np.full(500, 10.0), np.full(300, 200.0)] + np.random.default_rng(0).normal(
        size=800
    )
    assert 12 < otsu_threshold(values) < 195


NPPY_STUB = """
import torch

class UNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(()))

    def forward(self, image, smoothness):
        assert smoothness == -1.0 and image.shape == (1, 1, 256, 256, 256)
        return self.factor * image, image, image
"""


def test_nppy_runs_in_another_interpreter_with_weights_by_path(trees, tmp_path, monkeypatch):
    """A stand-in for the package, which cannot be installed beside this one."""
    models = tmp_path / "site" / "nppy" / "models"
    models.mkdir(parents=True)
    (models / "model.py").write_text(NPPY_STUB)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    torch.save({"factor": torch.tensor(100.0)}, tmp_path / "npp_v1.pth")
    source = tmp_path / "ADNI" / "s1" / "I7"
    source.mkdir(parents=True)
    nib.save(nib.Nifti1Image(draw_volume(1, 0), np.diag([6.0, 5, 7, 1])), source / "a_I7.nii")
    table = "Image Data ID,Subject,Group\nI7,s1,AD\n"
    (tmp_path / "c.csv").write_text(table)
    options = {"nppy_weights": tmp_path / "npp_v1.pth", "nppy_python": sys.executable}
    _, rows = prepare("adni", tmp_path, tmp_path / "out", skull_strip="nppy", **options)
    stripped = read_image(tmp_path / "out" / rows["image"][0])
    assert stripped.voxels.shape == (256, 256, 256)
    assert 90 < stripped.voxels.max() <= 100
    options["nppy_weights"] = tmp_path / "no.pth"
    with pytest.raises(UserError, match=r"expected the file npp_v1\.pth, got nothing"):
        prepare("adni", tmp_path, tmp_path / "out2", skull_strip="nppy", **options)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    options["nppy_weights"] = tmp_path / "npp_v1.pth"
    with pytest.raises(UserError, match="No module named 'nppy'"):
        prepare("adni", tmp_path, tmp_path / "out3", skull_strip="nppy", **options)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name,x\n", "expected NumPy's archive with train_images, train_labels, got"),
        (b"PK\x03\x04 no more", "expected NumPy's archive with train_images, train_labels, got"),
        ({"train_images": np.zeros((1, 4, 4, 4))}, "expected NumPy's archive"),
        ({"train_images": np.array([None]), "train_labels": np.zeros(1)}, "NumPy's archive"),
        (
            {"train_images": np.zeros((1, 4, 4, 4)), "train_labels": np.array([[11]])},
            "expected train_labels from 0 to 10, got 11 to 11",
        ),
        (
            {"train_images": np.zeros((2, 4, 4, 4)), "train_labels": np.array([[1]])},
            "with as many labels, got",
        ),
    ],
)
def test_organmnist3d_refuses_another_file(tmp_path, content, message):
    path = tmp_path / "organmnist3d_64.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez(path, **content)

    with pytest.raises(UserError, match=message):
        prepare("organmnist3d", path, tmp_path / "out")


@pytest.mark.parametrize("label", ["2", "-1", "nan", "0.5"])
def test_luna16_refuses_another_class(tmp_path, label):
    (tmp_path / "subset0").mkdir()
    (tmp_path / "subset0" / "1.2.mhd").touch()
    table = f"seriesuid,coordX,coordY,coordZ,class\n1.2,0,0,0,0\n1.2,0,0,0,{label}\n"
    (tmp_path / "candidates.csv").write_text(table)
    with pytest.raises(UserError, match=f"expected 0 or 1 in the column class, got {label}"):
        prepare("luna16", tmp_path, tmp_path / "out")


@pytest.mark.parametrize("line", ["MR1 x", "MR1", "MR1 7", "MR1 2 3"])
def test_lld_mmri_refuses_another_list(tmp_path, line):
    path = tmp_path / "classification_dataset" / "labels" / "labels_train.txt"
    path.parent.mkdir(parents=True)
    path.write_text(f"MR0 -1\n{line}\n")
    with pytest.raises(UserError, match=rf"a number from -1 to 6, got '{line}'"):
        prepare("lld-mmri", tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    "series", [[], [{"phase": "T2WI"}], [{"annotation": {"lesion": {"0": {"category": "x"}}}}]]
)
def test_lld_mmri_refuses_an_annotation_without_what_is_read(tmp_path, series):
    (tmp_path / "labels").mkdir()
    path = tmp_path / "labels" / "Annotation.json"
    lists = tmp_path / "classification_dataset" / "labels"
    lists.mkdir(parents=True)
    (lists / "labels_train.txt").write_text("MR1 2\n")
    path.write_text(json.dumps({"Annotation_info": {"MR1": series}}))
    with pytest.raises(UserError, match=r"Annotation\.json: expected a phase, .* an entry without"):
        prepare("lld-mmri", tmp_path, tmp_path / "out")
