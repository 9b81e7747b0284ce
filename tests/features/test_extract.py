"""Tables of features: their values, what is kept of a stopped run, and what is set aside."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import nnunet_triad
from nnunet_triad.architectures import build_encoder, plainconv_spec, resenc_spec, swin_spec
from nnunet_triad.errors import UserError
from nnunet_triad.features import extractor as extractor_module
from nnunet_triad.features.encoders import random_weights, read_encoder
from nnunet_triad.features.extract import extract
from nnunet_triad.features.extractor import Extractor
from nnunet_triad.features.samples import read_samples
from nnunet_triad.features.settings import FeatureSettings
from nnunet_triad.features.table import FeatureTable, read_features, write_features
from nnunet_triad.weights.file import WeightsInfo, save_weights
from nnunet_triad.weights.locate import load_weights
from tests.features.conftest import AFFINE, SHAPE, write_image, write_mask

FAMILIES = {
    "unet": plainconv_spec("unet", (4, 8, 16), strides=((1, 1, 1), (2, 2, 1), (2, 2, 2))),
    "resenc": resenc_spec("resenc", (4, 8, 16), blocks_per_stage=(1, 1, 1)),
    "swin": swin_spec("swin", 12, num_heads=(1, 2, 4, 8), window_size=4),
}


def run(inputs, output: Path, weights: Path, **settings) -> FeatureTable:
    chosen = FeatureSettings(encoder=str(weights), **settings)
    samples = read_samples([Path(one) for one in inputs], chosen.mask)
    found = extract(samples, output, weights=read_encoder(chosen), settings=chosen, is_quiet=True)
    found.table.rows.attrs["rejected"] = found.rejected
    found.table.rows.attrs["kept"] = found.num_kept
    return found.table


def level(table: FeatureTable, number: int) -> np.ndarray:
    return table.rows[[n for n in table.features if n.startswith(f"level{number}_")]].to_numpy()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("axes", ["xyz", "zyx"])
def test_image_in_one_window_has_the_pooled_features_of_the_whole_image(
    tmp_path: Path, family: str, axes: str
) -> None:
    torch.manual_seed(0)
    spec = FAMILIES[family]
    info = WeightsInfo(spec=spec, axes=axes, spacing_mm=(2.0, 1.5, 3.0), source="Other")
    save_weights(tmp_path / "w.safetensors", build_encoder(spec), info)
    write_image(tmp_path / "a.nii.gz", 0)
    table = run([tmp_path / "a.nii.gz"], tmp_path / "f.npz", tmp_path / "w.safetensors")
    features = nnunet_triad.load_encoder(tmp_path / "w.safetensors").features(tmp_path / "a.nii.gz")
    for number in range(len(spec.channels)):
        np.testing.assert_allclose(
            level(table, number)[0], features.pooled(number), rtol=1e-4, atol=1e-6
        )


class Averages(nn.Module):
    """Two levels that are known: the image itself and means over 2x2x2 voxels, and a constant."""

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        constant = torch.full_like(image, 5)
        return [torch.cat([image, constant], 1), nn.functional.avg_pool3d(image, 2)]


@pytest.mark.parametrize("window", [(128, 128, 128), (8, 12, 8)])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_pooled_features_of_a_known_encoder_are_means_over_the_label(
    tmp_path: Path, monkeypatch, window, batch_size
) -> None:
    spec = plainconv_spec("unet", (2, 1))
    weights = random_weights(WeightsInfo(spec=spec, axes="xyz"), seed=0)
    voxels = write_image(tmp_path / "a.nii.gz", 0)
    labels = write_mask(tmp_path / "m.nii.gz")
    settings = FeatureSettings(
        encoder="random", mask="m.nii{name}", window=window, batch_size=batch_size
    )
    (sample,) = read_samples([tmp_path / "a.nii.gz"], None)
    extractor = Extractor(weights, settings, num_channels=1)
    monkeypatch.setattr(extractor.encoder, "encoder", Averages())
    (rows,) = extractor.run([replace(sample, mask=tmp_path / "m.nii.gz")], lambda *_: False)
    scaled = (voxels - voxels.mean()) / voxels.std()
    scaled, turned = (
        nib.as_closest_canonical(nib.Nifti1Image(a, AFFINE)).get_fdata() for a in (scaled, labels)
    )
    pads = [(0, -length % 2) for length in scaled.shape]
    halves = [-(-length // 2) for length in scaled.shape]
    blocks = [s for half in halves for s in (half, 2)]
    image, there = np.pad(scaled, pads), np.pad(np.ones_like(scaled), pads)
    means = image.reshape(blocks).mean((1, 3, 5))
    for row, value in zip(rows.features, (1, 3), strict=True):
        region = np.pad(turned == value, pads).reshape(blocks).sum((1, 3, 5))
        share = region / there.reshape(blocks).sum((1, 3, 5))
        expected = [scaled[turned == value].mean(), 5, (means * share).sum() / share.sum()]
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-5)
    assert rows.regions == ("1", "3")
    np.testing.assert_allclose(rows.first_order[:, 0], [(labels == v).sum() for v in (1, 3)])
    np.testing.assert_allclose(rows.first_order[:, 1], rows.first_order[:, 0] * 2 * 1.5 * 1.2)
    np.testing.assert_allclose(rows.first_order[:, 2:5], [[12 * 2, 22 * 1.5, 17 * 1.2]] * 2)
    np.testing.assert_allclose(rows.first_order[1, 5], voxels[labels == 3].mean(), rtol=1e-5)


def test_windows_that_touch_no_label_are_not_computed(tmp_path: Path, monkeypatch) -> None:
    write_image(tmp_path / "a.nii.gz", 0, shape=(64, 16, 16), affine=np.eye(4))
    labels = np.zeros((64, 16, 16), np.uint8)
    labels[1:5, 2:9, 3:9] = 1
    nib.save(nib.Nifti1Image(labels, np.eye(4)), tmp_path / "m.nii.gz")
    weights = random_weights(WeightsInfo(spec=plainconv_spec("unet", (2, 1)), axes="xyz"), seed=0)
    settings = FeatureSettings(encoder="random", window=(16, 16, 16))
    (sample,) = read_samples([tmp_path / "a.nii.gz"], None)
    extractor, sizes = Extractor(weights, settings, num_channels=1), []
    averages = Averages()
    monkeypatch.setattr(
        extractor.encoder, "forward", lambda image: sizes.append(image.shape) or averages(image)
    )
    list(extractor.run([replace(sample, mask=tmp_path / "m.nii.gz")], lambda *_: False))
    assert sizes == [(1, 1, 16, 16, 16)]
    list(extractor.run([sample], lambda *_: False))
    assert len(sizes) == 1 + 7


def test_mask_over_the_whole_image_changes_nothing(tmp_path: Path, weights: Path) -> None:
    write_image(tmp_path / "a.nii.gz", 0)
    ones = np.ones(SHAPE, np.uint8)
    nib.save(nib.Nifti1Image(ones, AFFINE), tmp_path / "ones.nii.gz")
    table = tmp_path / "m.csv"
    table.write_text("image,roi\na.nii.gz,ones.nii.gz\n")
    without = run([table], tmp_path / "f.npz", weights, window=(16, 16, 16))
    masked = run([table], tmp_path / "g.npz", weights, window=(16, 16, 16), mask="roi")
    columns = [*without.first_order, *without.features]
    pd.testing.assert_frame_equal(without.rows[columns], masked.rows[columns])
    assert list(masked.rows["region"]) == ["1"]


@pytest.mark.parametrize("suffix", ["csv", "npz", "parquet"])
def test_table_is_read_as_it_was_written(images: Path, weights: Path, suffix: str) -> None:
    pytest.importorskip("pyarrow" if suffix == "parquet" else "numpy")
    path = images / f"f.{suffix}"
    written = run([images / "imagesTr"], path, weights, mask="../labelsTr/{name}", levels=(2, 0))
    found = read_features(path)
    pd.testing.assert_frame_equal(found.rows, written.rows, check_dtype=False)
    assert all(found.rows[name].dtype == np.float32 for name in found.features)
    assert len(found.features) == 16 + 4
    about = found.about
    assert about["encoder"]["sha256"] == load_weights(weights).sha256
    assert about["encoder"] | {"origin": "triad", "spacing_mm": [2.0, 2.0, 2.0]} == about["encoder"]
    assert about["package_version"] == nnunet_triad.__version__
    assert "0.125 windows" in about["pooling"]


def test_parquet_carries_its_provenance(images: Path, weights: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    run([images / "imagesTr"], images / "f.parquet", weights)
    metadata = parquet.read_schema(images / "f.parquet").metadata
    about = json.loads(metadata[b"PANDAS_ATTRS"])
    assert about["encoder"]["sha256"] == load_weights(weights).sha256


class Stopped(BaseException):
    """As a kill."""


@pytest.fixture
def passes(monkeypatch):
    """Count the images that are read; stop at the number in `at`."""
    count, read = {"read": 0, "at": 99}, extractor_module.Extractor._read

    def stop_or_read(self, sample, content):
        if count["read"] == count["at"]:
            raise Stopped
        count["read"] += 1
        return read(self, sample, content)

    monkeypatch.setattr(extractor_module.Extractor, "_read", stop_or_read)
    return count


@pytest.mark.parametrize("torn", [False, True])
def test_stopped_run_goes_on_where_it_was(images: Path, weights: Path, passes, torn: bool) -> None:
    expected = run([images / "imagesTr"], images / "whole.npz", weights).rows
    passes |= {"read": 0, "at": 2}
    with pytest.raises(Stopped):
        run([images / "imagesTr"], images / "f.npz", weights)
    journal = images / ".f.npz.rows"
    if torn:
        journal.write_bytes(journal.read_bytes()[:-7])
    passes |= {"read": 0, "at": 99}
    table = run([images / "imagesTr"], images / "f.npz", weights)
    # the second image was read, and not yet finished
    assert passes["read"] == (2 if torn else 1)
    pd.testing.assert_frame_equal(table.rows, expected, check_dtype=False)
    assert not journal.exists()
    again = run([images / "imagesTr"], images / "f.npz", weights)
    assert again.rows.attrs["kept"] == 3
    assert passes["read"] == (2 if torn else 1)


def test_image_that_changed_is_computed_again_and_the_others_are_not(
    images: Path, weights: Path, passes
) -> None:
    first = run([images / "imagesTr"], images / "f.csv", weights).rows
    write_image(images / "imagesTr" / "case1.nii.gz", 7)
    passes["read"] = 0
    second = run([images / "imagesTr"], images / "f.csv", weights).rows
    assert passes["read"] == 1
    is_same = (first["level2_0000"] == second["level2_0000"]).tolist()
    assert is_same == [True, False, True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": (64, 64, 64)}, "window: expected 128,128,128, with which .*f.npz was begun"),
        ({"mask": "../labelsTr/{name}"}, "mask: expected None"),
        ({"levels": (1,)}, "levels: expected 0,1,2"),
    ],
)
def test_table_of_other_settings_is_refused(images: Path, weights: Path, change, message) -> None:
    run([images / "imagesTr"], images / "f.npz", weights)
    before = (images / "f.npz").read_bytes()
    with pytest.raises(UserError, match=message):
        run([images / "imagesTr"], images / "f.npz", weights, **change)
    assert (images / "f.npz").read_bytes() == before


def test_table_of_other_weights_or_images_is_refused(images: Path, weights: Path) -> None:
    run([images / "imagesTr"], images / "f.npz", weights)
    with pytest.raises(UserError, match=r"weights: expected \w+, with which .*, got \w+; use"):
        run([images / "imagesTr"], images / "f.npz", "random:unet_t", levels=(0, 1, 2))
    with pytest.raises(UserError, match=r"of the same images, got one that has .*case0"):
        run([images / "imagesTr" / "case1.nii.gz"], images / "f.npz", weights)
    (images / "own.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"own.csv: expected no file, or a table of triad-features"):
        run([images / "imagesTr"], images / "own.csv", weights)
    copied = images / "copy.safetensors"
    shutil.copy(weights, copied)  # the same weights elsewhere go on
    assert run([images / "imagesTr"], images / "f.npz", copied).rows.attrs["kept"] == 3


def test_bad_images_are_set_aside_with_their_reasons(images: Path, weights: Path) -> None:
    folder, labels = images / "imagesTr", images / "labelsTr"
    write_mask(labels / "case1.nii.gz", affine=np.eye(4))
    (labels / "case2.nii.gz").unlink()
    bad = {"nan": np.full(SHAPE, np.nan), "flat": np.full(SHAPE, 3.0)}
    for name, voxels in bad.items():
        nib.save(nib.Nifti1Image(voxels.astype(np.float32), AFFINE), folder / f"{name}.nii.gz")
        write_mask(labels / f"{name}.nii.gz")
    torn = (folder / "case0.nii.gz").read_bytes()[:900]
    (folder / "torn.nii.gz").write_bytes(torn)
    write_mask(labels / "torn.nii.gz")
    table = run([folder], images / "f.csv", weights, mask="../labelsTr/{name}")
    assert [Path(case).name for case in table.rows["case"]] == ["case0.nii.gz"] * 2
    told = pd.read_csv(images / "f_rejected.csv")
    reasons = {
        Path(case).name.split(".")[0]: r
        for case, r in zip(told["case"], told["reason"], strict=True)
    }
    assert "expected the grid of" in reasons["case1"]
    assert "expected the image's mask, got no file" in reasons["case2"]
    assert "expected finite intensities" in reasons["nan"]
    assert "expected an image with contrast, got 3 everywhere" in reasons["flat"]
    assert "expected a whole image" in reasons["torn"]
    write_mask(labels / "case2.nii.gz")  # mended: this one alone is computed
    again = run([folder], images / "f.csv", weights, mask="../labelsTr/{name}")
    assert again.rows.attrs["kept"] == 1
    assert len(again.rows) == 4


def test_nothing_that_can_be_used_is_one_line(images: Path, weights: Path) -> None:
    (images / "bad.nii.gz").write_bytes(b"x")
    with pytest.raises(UserError, match=r"bad.nii.gz: expected images that can be used, got none"):
        run([images / "bad.nii.gz"], images / "f.csv", weights)
    assert not (images / "f.csv").exists()


def test_channels_are_shown_together_and_described_apart(tmp_path: Path, weights: Path) -> None:
    first = write_image(tmp_path / "a.nii.gz", 0)
    second = write_image(tmp_path / "b.nii.gz", 1)
    both = f"{tmp_path / 'a.nii.gz'}|{tmp_path / 'b.nii.gz'}"
    table = run([both], tmp_path / "f.csv", weights)
    assert table.rows["intensity0_sd"][0] == pytest.approx(first.std(), rel=1e-5)
    assert table.rows["intensity1_p50"][0] == pytest.approx(np.median(second), rel=1e-5)
    encoder = nnunet_triad.load_encoder(weights, input_channels=2)
    expected = encoder.features([tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"]).pooled()
    np.testing.assert_allclose(level(table, 2)[0], expected, rtol=1e-4, atol=1e-6)


def test_random_weights_are_of_the_same_network_and_of_their_seed(weights: Path) -> None:
    own = load_weights(weights)
    first, same, other = (random_weights(own.info, seed=seed) for seed in (0, 0, 1))
    assert first.sha256 == same.sha256 != other.sha256
    assert {n: t.shape for n, t in first.tensors.items()} == {
        n: t.shape for n, t in own.tensors.items()
    }
    assert first.info.spacing_mm == own.info.spacing_mm


def test_threads_that_read_ahead_change_nothing(images: Path, weights: Path) -> None:
    one = run([images / "imagesTr"], images / "f.npz", weights)
    two = run([images / "imagesTr"], images / "g.npz", weights, workers=2, batch_size=2)
    pd.testing.assert_frame_equal(one.rows, two.rows, check_exact=False, rtol=1e-4, atol=1e-6)


def test_write_features_refuses_what_has_no_format(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected a name that ends in \.parquet or"):
        read_features(tmp_path / "f.xlsx")
    write_features(tmp_path / "f.npz", FeatureTable(rows=EMPTY, about={"program": "other"}))
    with pytest.raises(UserError, match="expected the JSON that triad-features wrote"):
        read_features(tmp_path / "f.npz")


EMPTY = pd.DataFrame({name: [] for name in ("case", "subject", "region", "content")}, dtype=object)


def test_label_that_the_encoder_cannot_see_has_a_volume_and_no_features(
    tmp_path: Path, weights: Path
) -> None:
    write_image(tmp_path / "a.nii.gz", 0, affine=np.eye(4))
    labels = np.zeros(SHAPE, np.uint8)
    labels[5, 5, 5], labels[8:14, 4:12, 2:8] = 4, 1  # one voxel between those of 2 mm
    nib.save(nib.Nifti1Image(labels, np.eye(4)), tmp_path / "m.nii.gz")
    (tmp_path / "m.csv").write_text("image,mask\na.nii.gz,m.nii.gz\n", encoding="utf-8")
    for output in ("f.csv", "f.npz"):
        run([tmp_path / "m.csv"], tmp_path / output, weights, mask="mask")
        rows = read_features(tmp_path / output).rows
        assert rows["region"].tolist() == ["1", "4"]
        assert rows["volume_mm3"].tolist() == [288, 1]
        assert rows["level0_0000"].isna().tolist() == [False, True]
