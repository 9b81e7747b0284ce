"""The runner beside nnU-Net's own predictor, with the same networks in PyTorch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import (
    compute_gaussian,
    compute_steps_for_sliding_window,
)
from nnunetv2.preprocessing.resampling.default_resampling import (
    determine_do_sep_z_and_axis,
    resample_data_or_seg_to_shape,
)
from scipy.ndimage import binary_fill_holes, gaussian_filter
from torch import nn

from nnunet_triad.export import predict
from nnunet_triad.export.about import describe
from nnunet_triad.export.model_folder import TrainedModel, read_model
from tests.export.conftest import write_images


class Session:
    """An onnxruntime session in looks, a network of PyTorch's in truth."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def get_inputs(self) -> list[Any]:
        return [type("Input", (), {"name": "image"})]

    def run(self, _: None, values: dict[str, np.ndarray]) -> list[np.ndarray]:
        with torch.inference_mode():
            return [self.network(torch.from_numpy(values["image"])).numpy()]


def ours(model: TrainedModel, images: list[Path], *, use_mirroring: bool = True) -> np.ndarray:
    """Labels of the runner."""
    runner = object.__new__(predict.Model)
    runner.about = describe(model)
    runner.networks = [predict.Network(Session(model.load(fold))) for fold in model.checkpoints]
    labels = runner.predict(images, use_mirroring=use_mirroring)
    first = SimpleITK.ReadImage(str(images[0]))
    assert labels.GetOrigin() == pytest.approx(first.GetOrigin())
    assert labels.GetDirection() == pytest.approx(first.GetDirection())
    assert labels.GetSpacing() == pytest.approx(first.GetSpacing())
    return SimpleITK.GetArrayFromImage(labels)


def theirs(
    model: TrainedModel, images: list[Path], output: Path, *, use_mirroring: bool = True
) -> np.ndarray:
    """Labels of nnU-Net."""
    predictor = nnUNetPredictor(
        use_mirroring=use_mirroring, device=torch.device("cpu"), allow_tqdm=False
    )
    networks = [model.load(fold) for fold in model.checkpoints]
    predictor.manual_initialization(
        networks[0],
        model.plans,
        model.configuration,
        [network.state_dict() for network in networks],
        dict(model.dataset),
        model.trainer,
        model.mirror_axes or None,
    )
    predictor.predict_from_files_sequential(
        [[str(path) for path in images]], [str(output / "expected")], overwrite=True
    )
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(output / "expected.nii.gz")))


FINE = {"spacing": (0.7, 0.7, 0.7), "size": (24, 20, 26)}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "no resampling": ({}, {}),
    "finer": ({"spacing": (1.3, 0.8, 1.1), "is_mirrored": False}, {}),
    "flat plan": ({"spacing": (4.0, 0.9, 0.8), "is_mirrored": False}, {"size": (18, 16, 30)}),
    "turned": (
        {"transpose": (1, 2, 0), "is_mirrored": False},
        {"spacing": (1.2, 4.5, 0.9), "size": (20, 7, 22)},
    ),
    "flat behind": (
        {"transpose": (2, 0, 1), "is_mirrored": False},
        {"spacing": (5.0, 1.0, 1.2), "size": (6, 20, 18)},
    ),
    "smaller than a window": ({"patch": (16, 16, 16)}, {"size": (7, 20, 11)}),
    "folds": ({"folds": (0, 1, 2), "is_mirrored": False}, FINE),
    "regions": (
        {"labels": {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}},
        {"spacing": (1.4, 0.7, 0.7)},
    ),
    "other schemes": (
        {
            "schemes": ("RescaleTo01Normalization", "NoNormalization"),
            "use_mask": (False, True),
            "is_mirrored": False,
        },
        {},
    ),
    "reoriented": ({"reader": "NibabelIOWithReorient", "is_mirrored": False}, FINE),
    "nibabel": ({"reader": "NibabelIO", "is_mirrored": False}, {}),
    "never resampled": (
        {"resampling": "no_resampling_hack", "is_mirrored": False},
        {"spacing": (2, 2, 2)},
    ),
    "2D": ({"patch": (12, 16), "spacing": (0.9, 1.2), "folds": (0, 1)}, {"size": (20, 18, 4)}),
    "planes": (
        {"patch": (12, 16), "spacing": (0.9, 1.2)},
        {"size": (30, 26), "spacing": (1, 1), "seed": 3},
    ),
}


@pytest.mark.parametrize(("plan", "images"), CASES.values(), ids=CASES.keys())
def test_labels_are_those_of_nnunet(
    plan: dict[str, Any], images: dict[str, Any], make_model: Callable[..., Path], tmp_path: Path
) -> None:
    model = read_model(make_model("nnUNetTrainerScratchUNet", **plan))
    files = write_images(tmp_path / "images", **images)
    expected = theirs(model, files, tmp_path)
    found = ours(model, files)
    assert found.dtype == expected.dtype
    assert len(np.unique(expected)) > 1
    assert np.mean(found == expected) >= 0.9999


def test_torch_s_resampling_is_followed(make_model: Callable[..., Path], tmp_path: Path) -> None:
    model = read_model(
        make_model("nnUNetTrainerScratchUNet", resampling="resample_torch_fornnunet")
    )
    files = write_images(tmp_path / "images", spacing=(0.8, 0.9, 4.0), size=(20, 20, 6))
    expected = theirs(model, files, tmp_path, use_mirroring=False)
    found = ours(model, files, use_mirroring=False)
    assert np.mean(found == expected) >= 0.9999


def test_empty_image_is_segmented(make_model: Callable[..., Path], tmp_path: Path) -> None:
    plan = {"schemes": ("ZScoreNormalization",) * 2, "use_mask": (False, False)}
    model = read_model(make_model("nnUNetTrainerScratchUNet", **plan))
    files = write_images(tmp_path / "images")
    for path in files:
        SimpleITK.WriteImage(SimpleITK.ReadImage(str(path)) * 0, str(path))
    expected = theirs(model, files, tmp_path, use_mirroring=False)
    np.testing.assert_array_equal(ours(model, files, use_mirroring=False), expected)


@pytest.mark.parametrize("window", [(16, 24, 32), (7, 9, 33), (1, 40, 20)])
def test_window_s_weights_and_places_are_nnunet_s(window: tuple[int, int, int]) -> None:
    expected = compute_gaussian(
        window, sigma_scale=1 / 8, value_scaling_factor=10, device=torch.device("cpu")
    )
    np.testing.assert_array_equal(predict.gaussian_weights(window), expected.numpy())
    for more in (0, 1, 13, 100):
        size = tuple(one + more for one in window)
        for step in (0.5, 0.3, 1.0):
            starts = [predict.window_starts(s, w, step) for s, w in zip(size, window, strict=True)]
            assert starts == compute_steps_for_sliding_window(size, window, step)


@pytest.mark.parametrize(
    ("old", "new", "old_mm", "new_mm"),
    [
        ((20, 31, 25), (33, 20, 40), (1, 1, 1), (0.6, 1.5, 0.6)),
        ((11, 40, 30), (17, 60, 50), (8, 2.3, 2.3), (5, 1.5, 1.4)),
        ((40, 11, 30), (60, 17, 50), (2.3, 8, 2.3), (1.5, 5, 1.4)),
        ((40, 30, 11), (60, 50, 5), (2.3, 2.3, 1), (1.5, 1.4, 7)),
        ((12, 9, 14), (12, 9, 28), (4, 4, 1), (4, 4, 0.5)),
        ((3, 40, 1), (5, 33, 4), (1, 1, 1), (1, 1, 1)),
    ],
)
@pytest.mark.parametrize("order", [1, 3])
def test_resampling_is_nnunet_s(
    old: tuple[int, ...],
    new: tuple[int, ...],
    old_mm: tuple[float, ...],
    new_mm: tuple[float, ...],
    order: int,
) -> None:
    image = np.random.default_rng(0).normal(size=(2, *old)).astype(np.float32)
    rule = {"order": order, "force_separate_z": None, "threshold": 3}
    separate = predict.separate_axis(rule, old_mm, new_mm)
    assert separate == determine_do_sep_z_and_axis(None, old_mm, new_mm)[1]
    expected = resample_data_or_seg_to_shape(
        image.copy(), new, old_mm, new_mm, order=order, order_z=0, force_separate_z=None
    )
    found = predict.resample(image, new, separate, rule)
    np.testing.assert_allclose(found, expected, atol=3e-6)


def test_holes_are_filled_as_scipy_does() -> None:
    noise = np.random.default_rng(0).normal(size=(30, 31, 32))
    mask = gaussian_filter(noise, 1) > -0.02
    expected = binary_fill_holes(mask)
    assert (expected != mask).any()
    np.testing.assert_array_equal(predict.fill_holes(mask), expected)


def test_slab_is_one_plane_thicker_than_a_window(
    make_model: Callable[..., Path],
) -> None:
    model = read_model(make_model("nnUNetTrainerScratchUNet"))
    data = np.zeros((2, 200, 24, 40), np.float32)
    sweep = predict.Sweep(data, [object()], describe(model), use_mirroring=True, step=0.5)
    assert [sums.shape for sums in sweep.sums] == [(3, 9, 24, 40)]


def test_images_on_other_grids_or_too_few_are_refused(
    make_model: Callable[..., Path], tmp_path: Path
) -> None:
    about = describe(read_model(make_model("nnUNetTrainerScratchUNet")))
    files = [str(path) for path in write_images(tmp_path / "images")]
    with pytest.raises(predict.InputError, match=r"expected 2 \(MRI0, MRI1\), got 1"):
        predict.read_case(files[:1], about)
    other = write_images(tmp_path / "other", spacing=(1, 1, 2))
    with pytest.raises(predict.InputError, match=r"expected the size and spacing of .*case_0000"):
        predict.read_case([files[0], str(other[1])], about)
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"no image")
    with pytest.raises(predict.InputError, match="expected an image, got none that can be read"):
        predict.read_case([files[0], str(broken)], about)
