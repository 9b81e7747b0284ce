"""An encoder as an object: what it shows itself, and what it gives, beside MONAI's transforms."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import (
    NormalizeIntensity,
    Orientation,
    ScaleIntensityRange,
    ScaleIntensityRangePercentiles,
    Spacing,
)

import nnunet_triad
from nnunet_triad.architectures import build_encoder, plainconv_spec, swin_spec
from nnunet_triad.errors import UserError
from nnunet_triad.images import Volume
from nnunet_triad.weights.file import WeightsInfo, save_weights
from tests.documents import code_block

SWIN = swin_spec("swin", 12, num_heads=(1, 2, 4, 8), window_size=4)
UNET = plainconv_spec("unet", (4, 8, 16, 24))
# A sagittal scan: the axes of the file run towards posterior, superior and right.
AFFINE = np.array([[0, 0, 2.0, 3], [-1.5, 0, 0, 5], [0, 1.2, 0, -7], [0, 0, 0, 1]])
SHAPE = (40, 36, 24)
MONAI_SCALES = {
    "zscore": NormalizeIntensity(),
    "percentiles 0.5 99.5": ScaleIntensityRangePercentiles(0.5, 99.5, 0, 1, clip=True),
    "window -175 250": ScaleIntensityRange(-175, 250, 0, 1, clip=True),
}


def save(folder: Path, spec=SWIN, **info) -> Path:
    torch.manual_seed(0)
    path = folder / "weights.safetensors"
    given = replace(WeightsInfo(spec=spec, axes="xyz"), **info)
    save_weights(path, build_encoder(spec, input_channels=given.input_channels), given)
    return path


@pytest.fixture
def image() -> np.ndarray:
    random = np.random.default_rng(0)
    smooth = np.add.outer(np.add.outer(np.arange(40.0), np.arange(36.0) ** 1.5), np.arange(24.0))
    return (smooth + random.normal(0, 20, SHAPE)).astype(np.float32)


@pytest.mark.parametrize("scale", MONAI_SCALES)
def test_image_is_shown_as_monai_s_transforms_would(
    tmp_path: Path, image: np.ndarray, scale: str
) -> None:
    path = save(tmp_path, intensity_normalization=scale, spacing_mm=(1.0, 1.0, 1.0))
    shown, affine = nnunet_triad.load_encoder(path).prepare(nib.Nifti1Image(image, AFFINE))
    theirs = MetaTensor(torch.from_numpy(image)[None], affine=torch.from_numpy(AFFINE))
    theirs = Orientation("RAS", labels=(("L", "R"), ("P", "A"), ("I", "S")))(theirs)
    theirs = MONAI_SCALES[scale](Spacing((1, 1, 1), mode="bilinear", padding_mode="border")(theirs))
    torch.testing.assert_close(shown[0], torch.as_tensor(theirs), rtol=0, atol=2e-3)
    np.testing.assert_allclose(affine, theirs.affine, atol=1e-5)


@pytest.mark.parametrize("kind", ["path", "str", "volume", "nibabel", "monai", "dictionary"])
def test_every_way_to_give_an_image_gives_the_same_features(
    tmp_path: Path, image: np.ndarray, kind: str
) -> None:
    nifti, path = nib.Nifti1Image(image, AFFINE), tmp_path / "t1.nii.gz"
    nib.save(nifti, path)
    tensor = MetaTensor(torch.from_numpy(image)[None], affine=torch.from_numpy(AFFINE))
    ways = {
        "path": path,
        "str": str(path),
        "volume": Volume(voxels=image, affine=AFFINE),
        "nibabel": nifti,
        "monai": tensor,
        "dictionary": {"image": tensor, "label": 3},
    }
    encoder = nnunet_triad.load_encoder(save(tmp_path))
    found, expected = encoder.features(ways[kind]), encoder.features(path)
    for ours, other in zip(found.levels, expected.levels, strict=True):
        np.testing.assert_allclose(ours, other, atol=1e-5)


def test_features_are_the_module_s_own_and_lie_where_the_image_does(
    tmp_path: Path, image: np.ndarray
) -> None:
    encoder = nnunet_triad.load_encoder(save(tmp_path, spec=UNET))
    shown, affine = encoder.prepare(nib.Nifti1Image(image, AFFINE))
    assert shown.shape == (1, 1, 24, 40, 36)  # right, anterior, superior
    features = encoder.features(nib.Nifti1Image(image, AFFINE))
    padded = torch.nn.functional.pad(shown, (0, 4, 0, 0, 0, 0))  # z from 36 to 40
    with torch.no_grad():
        expected = encoder.encoder(padded)
    for level, (ours, theirs) in enumerate(zip(features.levels, expected, strict=True)):
        step = 2**level
        sizes = [-(-size // step) for size in shown.shape[2:]]
        assert ours.shape[1:] == tuple(sizes)
        np.testing.assert_allclose(ours, theirs[0, :, :, :, : sizes[2]].numpy(), atol=1e-5)
        centre = features.affines[level] @ [0, 0, 0, 1]
        first = np.mean([affine @ [i, i, i, 1] for i in range(step)], axis=0)
        np.testing.assert_allclose(centre, first)
    np.testing.assert_allclose(features.pooled(), features.levels[-1].mean((1, 2, 3)))


def test_plain_array_is_taken_on_the_weights_grid(tmp_path: Path, image: np.ndarray) -> None:
    encoder = nnunet_triad.load_encoder(save(tmp_path, spacing_mm=(0.5, 0.6, 3.0)))
    shown, affine = encoder.prepare(image)
    assert shown.shape[2:] == SHAPE
    np.testing.assert_allclose(np.diag(affine), [0.5, 0.6, 3.0, 1])


def test_spacing_of_weights_that_saw_z_y_x_is_along_their_axes(
    tmp_path: Path, image: np.ndarray
) -> None:
    path = save(tmp_path, spec=UNET, axes="zyx", spacing_mm=(3.0, 1.0, 2.0))
    shown, affine = nnunet_triad.load_encoder(path).prepare(nib.Nifti1Image(image, np.eye(4)))
    np.testing.assert_allclose(np.diag(affine), [2.0, 1.0, 3.0, 1])
    assert shown.shape == (1, 1, 20, 36, 9)


def test_thick_slices_of_z_y_x_weights_stay_along_z_as_in_their_own_network(
    tmp_path: Path, image: np.ndarray
) -> None:
    kernels, strides = ((1, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2))  # z y x, as nnU-Net plans
    spec = plainconv_spec("thick", (4, 8), kernel_sizes=kernels, strides=strides)
    path = save(tmp_path, spec=spec, axes="zyx")
    features = nnunet_triad.load_encoder(path).features(nib.Nifti1Image(image, np.eye(4)))
    torch.manual_seed(0)
    at_home = build_encoder(spec)
    scaled = torch.from_numpy((image - image.mean()) / image.std())
    with torch.no_grad():
        expected = at_home(scaled.permute(2, 1, 0)[None, None])
    for found, feature in zip(features.levels, expected, strict=True):
        np.testing.assert_allclose(found, feature[0].permute(0, 3, 2, 1), atol=1e-4)
    np.testing.assert_allclose(np.diag(features.affines[1]), [2, 2, 1, 1])


def test_weights_of_a_scale_that_is_not_known_are_said(tmp_path: Path, image: np.ndarray) -> None:
    encoder = nnunet_triad.load_encoder(save(tmp_path, intensity_normalization="unknown"))
    with pytest.warns(UserWarning, match="z-scores are taken"):
        encoder.features(image)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (["a", "b"], "a: expected"),
        ([np.zeros((8, 8, 8)) + 1] * 2, "expected 1 of one subject, got 2; load the encoder with"),
        (np.full((8, 8, 8), np.nan), "expected finite values"),
        (np.zeros((8, 8)), "expected a path, a Volume"),
        ({"t1": 1, "t2": 2}, "expected a key of t1, t2, got None; name one by key="),
    ],
)
def test_what_is_no_image_is_one_line(tmp_path: Path, images, message: str) -> None:
    encoder = nnunet_triad.load_encoder(save(tmp_path))
    with pytest.raises(UserError, match=message):
        encoder.features(images)


def test_two_contrasts_share_the_first_layer_and_must_lie_on_one_grid(
    tmp_path: Path, image: np.ndarray
) -> None:
    path = save(tmp_path)
    one = nnunet_triad.load_encoder(path).features(image)
    two = nnunet_triad.load_encoder(path, input_channels=2).features([image, image])
    np.testing.assert_allclose(one.levels[0], two.levels[0], atol=1e-5)
    moved = nib.Nifti1Image(image, AFFINE + 4 * np.eye(4)[3])
    with pytest.raises(UserError, match="expected the grid of"):
        nnunet_triad.load_encoder(path, input_channels=2).features(
            [nib.Nifti1Image(image, AFFINE), nib.Nifti1Image(image, 2 * np.eye(4) + moved.affine)]
        )


def test_lines_of_the_guide_run_as_they_stand(
    tmp_path: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path).rename("triad_swin_t.safetensors")
    nib.save(nib.Nifti1Image(image, AFFINE), "t1.nii.gz")
    exec(code_block("weights.md", "From Python"), {})
    assert capsys.readouterr().out.startswith("[(12, 12, 20, 18), (24, 6, 10, 9)")
