"""Models as nnU-Net's own code saves them, untrained: small plans, random weights."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
import torch

from nnunet_triad.trainers import variants
from tests.nnunet_plans import REQUIRES_IMPORT, layers

CONFIGURATION = "3d_fullres"
RESAMPLING = {"is_seg": False, "order_z": 0, "force_separate_z": None}
LABELS: dict[str, Any] = {"background": 0, "core": 1, "oedema": 2}


def make_plans(
    *,
    network: str = "PlainConvUNet",
    patch: tuple[int, ...] = (8, 12, 16),
    spacing: tuple[float, ...] = (1.0, 1.0, 1.0),
    schemes: tuple[str, ...] = ("ZScoreNormalization", "CTNormalization"),
    use_mask: tuple[bool, ...] = (True, False),
    transpose: tuple[int, int, int] = (0, 1, 2),
    reader: str = "SimpleITKIO",
    resampling: str = "resample_data_or_seg_to_shape",
) -> dict[str, Any]:
    """Plans as nnU-Net's planner writes them, of a network with few channels."""
    axes, stages = len(patch), 2
    depth = "n_conv_per_stage" if network == "PlainConvUNet" else "n_blocks_per_stage"
    is_default = resampling == "resample_data_or_seg_to_shape"
    image, logits = ({**RESAMPLING, "order": order} if is_default else {} for order in (3, 1))
    settings = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(patch),
        "spacing": list(spacing),
        "normalization_schemes": list(schemes),
        "use_mask_for_norm": list(use_mask),
        "resampling_fn_data": resampling,
        "resampling_fn_data_kwargs": image,
        "resampling_fn_seg": resampling,
        "resampling_fn_seg_kwargs": {**RESAMPLING, "is_seg": True, "order": 1}
        if is_default
        else {},
        "resampling_fn_probabilities": resampling,
        "resampling_fn_probabilities_kwargs": logits,
        "batch_dice": True,
        "architecture": {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{network}",
            "arch_kwargs": {
                "n_stages": stages,
                "features_per_stage": [4, 8],
                "kernel_sizes": [[3] * axes] * stages,
                "strides": [[1] * axes] + [[2] * axes] * (stages - 1),
                depth: [2] * stages,
                "n_conv_per_stage_decoder": [2] * (stages - 1),
                **layers(axes),
            },
            "_kw_requires_import": REQUIRES_IMPORT,
        },
    }
    statistics = {"mean": 90.0, "std": 30.0, "percentile_00_5": 20.0, "percentile_99_5": 160.0}
    return {
        "dataset_name": "Dataset500_Phantom",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": reader,
        "transpose_forward": list(transpose),
        "transpose_backward": [transpose.index(axis) for axis in range(3)],
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(channel): statistics for channel in range(len(schemes))
        },
        "configurations": {CONFIGURATION: settings},
    }


def make_dataset(num_channels: int, labels: dict[str, Any] | None = None) -> dict[str, Any]:
    """dataset.json of MRI channels; regions are painted in the order 1, 2."""
    return {
        "channel_names": {str(channel): f"MRI{channel}" for channel in range(num_channels)},
        "labels": labels or LABELS,
        "regions_class_order": [1, 2],
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }


def _balance(network: torch.nn.Module, noise: torch.Tensor) -> None:
    """Let every class be the likeliest somewhere."""
    with torch.inference_mode():
        logits = network(noise)
    bias = [
        p for n, p in network.named_parameters() if n.endswith("bias") and len(p) == logits.shape[1]
    ]
    bias[-1].data -= logits.mean((0, *range(2, logits.ndim)))


@pytest.fixture
def nnunet_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """nnU-Net's folders, of which it needs names alone."""
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    preprocessed = tmp_path / "preprocessed" / "Dataset500_Phantom"
    preprocessed.mkdir(parents=True)
    (preprocessed / "nnUNetPlans_3d_fullres").mkdir()
    (preprocessed / "nnUNetPlans_3d_fullres" / "case.b2nd").touch()
    (preprocessed / "dataset_fingerprint.json").write_text("{}")
    return tmp_path


@pytest.fixture
def make_model(nnunet_folders: Path) -> Callable[..., Path]:
    """Save untrained folds as nnU-Net's trainer does after a training; return the folder."""

    def make(
        trainer_name: str,
        *,
        folds: tuple[int, ...] = (0,),
        labels: dict[str, Any] | None = None,
        is_mirrored: bool = True,
        **plan: Any,
    ) -> Path:
        plans = make_plans(**plan)
        settings = plans["configurations"][CONFIGURATION]
        dataset = make_dataset(len(settings["normalization_schemes"]), labels)
        name = f"{trainer_name}__nnUNetPlans__{CONFIGURATION}"
        folder = nnunet_folders / "results" / "Dataset500_Phantom" / name
        patch = settings["patch_size"]
        for fold in folds:
            with torch.random.fork_rng():
                torch.manual_seed(fold)
                trainer = getattr(variants, trainer_name)(
                    {**plans, "continue_training": False},
                    *(CONFIGURATION, fold, dataset, torch.device("cpu")),
                )
                trainer.enable_deep_supervision = False
                trainer.initialize()
                for parameter in trainer.network.parameters():  # norms, too, and large logits
                    parameter.data += 0.2 * torch.randn_like(parameter)
                _balance(
                    trainer.network.eval(), torch.randn(1, len(dataset["channel_names"]), *patch)
                )
            axes = tuple(range(len(patch)))
            trainer.inference_allowed_mirroring_axes = axes if is_mirrored else None
            trainer.save_checkpoint(str(folder / f"fold_{fold}" / "checkpoint_final.pth"))
        (folder / "plans.json").write_text(json.dumps(plans))
        (folder / "dataset.json").write_text(json.dumps(dataset))
        return folder

    return make


def write_images(
    folder: Path,
    *,
    size: tuple[int, ...] = (22, 18, 14),
    spacing: tuple[float, ...] = (1.0, 1.0, 1.0),
    num_channels: int = 2,
    name: str = "case",
    seed: int = 0,
) -> list[Path]:
    """Write smooth noise within an ellipsoid on an oblique, shifted grid; zero outside."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    axes = [np.linspace(-1.1, 1, number) for number in size[::-1]]
    inside = sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")) < 1
    paths = []
    for channel in range(num_channels):
        coarse = SimpleITK.GetImageFromArray(random.normal(100, 60, [6] * len(size)))
        coarse.SetSpacing([(n - 1) / 5 for n in size])
        image = SimpleITK.Resample(coarse, list(size), SimpleITK.Transform(), SimpleITK.sitkBSpline)
        values = SimpleITK.GetArrayFromImage(image) + random.normal(0, 3, size[::-1])
        image = SimpleITK.GetImageFromArray((values * inside).astype(np.float32))
        image.SetSpacing(spacing)
        image.SetOrigin([-10.5, 20.25, 3.0][: len(size)])
        if len(size) == 3:  # axes exchanged and turned round, a little oblique
            turn = SimpleITK.VersorTransform((0.0, 0.0, 1.0), 0.3).GetMatrix()
            exchange = np.array([[0, -1, 0], [0, 0, 1], [1, 0, 0]])
            image.SetDirection((exchange @ np.reshape(turn, (3, 3))).ravel().tolist())
        paths.append(folder / f"{name}_{channel:04d}.nii.gz")
        SimpleITK.WriteImage(image, str(paths[-1]))
    return paths
