"""Cache and order: by content, read back as preprocessed; epochs that follow from the seed."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from classification.cache import FileFacts, _content_hashes, _read_facts, build_cache
from classification.data import Batches, ClassificationData, SampleDataset, epoch_rows
from classification.manifest import read_manifest
from classification.preprocess import preprocess, read_image
from classification.settings import PreprocessSettings
from nnunet_triad.errors import UserError
from nnunet_triad.files import sha256
from tests.classification.volumes import CLASSES, SHAPE, draw_volume, write_nifti, write_rows

CUBE = PreprocessSettings(size=32)
SPLITS = ("train", "train", "val", "test")


def rows_of_four(ending):
    return [(f"{n}.{ending}", "ab"[n % 2], split) for n, split in enumerate(SPLITS)]


def test_cache_returns_the_preprocessed_images(data):
    files = data.manifest.images
    for number in (0, 7):
        expected, _ = preprocess(read_image(files[number][0]), CUBE)
        np.testing.assert_allclose(data.cache.load(number)[0], expected, atol=2e-3)


def test_cache_says_what_was_changed(data):
    assert data.cache.summary() == (
        "images: 15 files of 1 shapes, spacing 1.5 to 3 mm, orientation LAS; "
        "resampled to 32x32x32, RAS"
    )


def test_cache_works_once_and_again_only_for_changed_content(manifest_path, tmp_path):
    manifest = read_manifest(manifest_path)
    first = build_cache(manifest, CUBE, tmp_path, is_quiet=True)
    times = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.npy")}
    again = build_cache(manifest, CUBE, tmp_path, is_quiet=True)
    assert again.files == first.files
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.npy")} == times
    padded = build_cache(manifest, PreprocessSettings(size=32, fit="pad"), tmp_path, is_quiet=True)
    assert not set(padded.files) & set(first.files)


@pytest.mark.parametrize(("listed", "changed"), [("nii.gz", "nii.gz"), ("hdr", "img")])
def test_cache_follows_the_content_not_the_name(tmp_path, listed, changed):
    """That of the voxels too, where they lie beside the header."""
    for number in range(4):
        write_nifti(tmp_path / f"{number}.{changed}", draw_volume(number % 2, number))
    path = write_rows(tmp_path / "m.csv", rows_of_four(listed), "image,label,split")
    before = build_cache(read_manifest(path), CUBE, tmp_path / "c", is_quiet=True)
    write_nifti(tmp_path / f"2.{changed}", draw_volume(2, 9))
    after = build_cache(read_manifest(path), CUBE, tmp_path / "c", is_quiet=True)
    same = [a == b for a, b in zip(before.files, after.files, strict=True)]
    assert same == [True, True, False, True]


@pytest.mark.parametrize("content", ["[]", "{", "null", '{"NAME": 3}', '{"NAME": [[[1, 2]]]}'])
def test_spoilt_list_of_hashes_is_made_anew(tmp_path, content):
    source = tmp_path / "a.nii"
    source.write_bytes(b"abc")
    name = str(source.resolve())
    (tmp_path / "hashes.json").write_text(content.replace("NAME", name), encoding="utf-8")
    for _ in range(2):
        assert _content_hashes([source], tmp_path) == {source: sha256(source)}
    assert json.loads((tmp_path / "hashes.json").read_text())[name][1] == sha256(source)


@pytest.mark.parametrize("content", ["[]", "{", "{}", "null", "AFFINE"])
def test_spoilt_facts_of_a_cached_image_are_told_in_one_line(tmp_path, content):
    facts = FileFacts(
        path="a",
        shape=(2, 2, 2),
        spacing_mm=(1.0, 1.0, 1.0),
        orientation="RAS",
        num_filled=0,
        affine=np.eye(4).tolist(),
        low=0.0,
    )
    path = tmp_path / "a.json"
    path.write_text(json.dumps(asdict(facts)), encoding="utf-8")
    assert _read_facts(path) == facts
    broken = json.dumps({**asdict(facts), "affine": [["x"] * 4] * 4})
    path.write_text(content.replace("AFFINE", broken), encoding="utf-8")
    with pytest.raises(UserError, match=r"a.json: expected what the cache says .*; delete it"):
        _read_facts(path)


def test_processes_fill_the_same_cache(manifest_path, tmp_path):
    manifest = read_manifest(manifest_path)
    alone = build_cache(manifest, CUBE, tmp_path / "a", is_quiet=True)
    shared = build_cache(manifest, CUBE, tmp_path / "b", workers=2, is_quiet=True)
    for one, other in zip(alone.files, shared.files, strict=True):
        assert one[0].read_bytes() == other[0].read_bytes()


def test_all_bad_images_are_counted(tmp_path):
    for number in range(4):
        write_nifti(tmp_path / f"{number}.nii.gz", np.ones((*SHAPE, 2), np.float32))
    path = write_rows(tmp_path / "m.csv", rows_of_four("nii.gz"), "image,label,split")
    with pytest.raises(UserError, match=r"0.nii.gz: .* got 4D.*and 1 more such images"):
        build_cache(read_manifest(path), CUBE, tmp_path / "c", is_quiet=True)


def test_sample_around_a_point_is_the_cube_of_the_whole_scan(tmp_path):
    """A linear ramp of the world: a sample's centre has its centre's value, off the grid too."""
    x, y, _ = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in (80, 70, 60)), indexing="ij")
    affine = np.diag([-1.0, -1.0, 2.0, 1.0])
    affine[:3, 3] = (40, 30, -50)
    write_nifti(tmp_path / "scan.nii.gz", x + 2 * y, affine)
    centers = [(10.3, -5.2, 4.0), (20.0, 0.0, 0.0), (0.0, 0.0, 20.0), (38.0, 28.0, 0.0)]
    rows = [
        ("scan.nii.gz", "ab"[n % 2], split, f"s{n}", *center, 32)
        for n, (split, center) in enumerate(zip(SPLITS, centers, strict=True))
    ]
    header = "image,label,split,subject,x_mm,y_mm,z_mm,extent_mm"
    manifest = read_manifest(write_rows(tmp_path / "m.csv", rows, header))
    window = PreprocessSettings(size=32, intensity="window", window=(-500.0, 500.0))
    cache = build_cache(manifest, window, tmp_path / "c", is_quiet=True)
    data = ClassificationData(manifest=manifest, cache=cache)
    for row in range(3):
        cube = data.load(row)[0]
        assert cube.shape == (32, 32, 32)
        wx, wy, _ = centers[row]
        expected = ((40 - wx) + 2 * (30 - wy)) / 500  # voxel = origin - world, on both axes
        assert float(cube[15:17, 15:17, 15:17].mean()) == pytest.approx(expected, abs=2e-3)
    edge = data.load(3)[0]  # 14 mm beyond the border: the scan's smallest value
    assert float(edge[-1, 16, 16]) == pytest.approx(0.0, abs=5e-3)


def test_epochs_follow_from_seed_and_number(data, make_settings):
    settings = make_settings()
    rows = epoch_rows(data, settings, 3)
    np.testing.assert_array_equal(rows, epoch_rows(data, settings, 3))
    assert sorted(rows) == data.manifest.rows("train").tolist()
    assert rows.tolist() != epoch_rows(data, settings, 4).tolist()
    assert rows.tolist() != epoch_rows(data, make_settings(seed=1), 3).tolist()


def test_balanced_epochs_draw_each_class_equally_often(data, make_settings):
    labels = data.manifest.labels.copy()
    train = data.manifest.rows("train")
    labels[train[:-2]] = 0  # seven of the first class, one of each other
    labels[train[-2:]] = (1, 2)
    uneven = ClassificationData(manifest=replace(data.manifest, labels=labels), cache=data.cache)
    settings = make_settings(sampling="balanced", samples_per_epoch=21)
    drawn = labels[epoch_rows(uneven, settings, 0)]
    assert np.bincount(drawn).tolist() == [7, 7, 7]
    natural = make_settings(samples_per_epoch=9)
    assert np.bincount(labels[epoch_rows(uneven, natural, 0)]).tolist() == [7, 1, 1]


def test_batches_go_on_where_they_stopped():
    rows = np.arange(10, 21)
    every = list(Batches(rows, 4, epoch=2))
    assert [len(batch) for batch in every] == [4, 4, 3]
    assert every[1][0] == (2, 4, 14)
    assert list(Batches(rows, 4, epoch=2, first_batch=2)) == every[2:]


def test_samples_are_a_function_of_their_key(data, make_settings):
    dataset = SampleDataset(data, make_settings(flip_axes="xy"))
    one = dataset[1, 0, 4]["image"]
    _ = dataset[1, 1, 5]
    assert torch.equal(dataset[1, 0, 4]["image"], one)
    assert not torch.equal(dataset[2, 0, 4]["image"], one)
    assert type(one) is torch.Tensor
    plain = SampleDataset(data)[1, 0, 4]
    assert str(data.manifest.cases[4]).startswith(sorted(CLASSES)[int(plain["label"])])
    assert torch.equal(plain["image"], data.load(4))


def test_batch_holds_the_samples_of_its_keys(data, make_settings):
    dataset = SampleDataset(data, make_settings(flip_axes="xy"))
    keys = [(3, place, row) for place, row in enumerate((4, 0, 4))]
    batch = dataset.batch(keys)
    for place, key in enumerate(keys):
        assert torch.equal(batch["image"][place], dataset[key]["image"])
    assert batch["row"].tolist() == [4, 0, 4]
    assert batch["label"].tolist() == data.manifest.labels[[4, 0, 4]].tolist()
