"""A training without data: hand-made plans, and batches of noise in place of the data loaders."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.training.logging.nnunet_logger import LocalLogger
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_triad.architectures import build_encoder, encoder_spec
from nnunet_triad.trainers import variants
from nnunet_triad.trainers.base import TriadTrainer
from nnunet_triad.weights.file import WeightsInfo, save_weights
from tests.nnunet_plans import REQUIRES_IMPORT, layers

DATASET = "Dataset500_Phantom"


def _plain_conv_unet(num_axes: int, num_stages: int = 4) -> dict[str, Any]:
    """The architecture as nnU-Net's default planner writes it, with fewer stages."""
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": num_stages,
            "features_per_stage": [32, 64, 128, 256][:num_stages],
            "kernel_sizes": [[3] * num_axes] * num_stages,
            "strides": [[1] * num_axes] + [[2] * num_axes] * (num_stages - 1),
            "n_conv_per_stage": [2] * num_stages,
            "n_conv_per_stage_decoder": [2] * (num_stages - 1),
            **layers(num_axes),
        },
        "_kw_requires_import": REQUIRES_IMPORT,
    }


def _residual_unet(num_axes: int) -> dict[str, Any]:
    """The architecture as the ResEnc planners write it."""
    architecture = _plain_conv_unet(num_axes)
    architecture["network_class_name"] = (
        "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
    )
    kwargs = architecture["arch_kwargs"]
    kwargs["n_blocks_per_stage"] = kwargs.pop("n_conv_per_stage")
    return architecture


def _make_plans(
    network: str, patch_size: tuple[int, ...], configuration: str, **more: Any
) -> dict[str, Any]:
    """Plans of one configuration (and a cascade's first stage), as nnU-Net writes them."""
    architecture = {"PlainConvUNet": _plain_conv_unet, "ResidualEncoderUNet": _residual_unet}
    settings = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(patch_size),
        "spacing": [1.0] * len(patch_size),
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "batch_dice": True,
        "architecture": architecture[network](len(patch_size)),
    }
    return {
        "dataset_name": DATASET,
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
        "configurations": {"3d_lowres": settings, configuration: {**settings, **more}},
        "continue_training": False,
    }


def _make_dataset_json(num_channels: int, labels: dict[str, Any]) -> dict[str, Any]:
    return {
        "channel_names": {str(channel): "MRI" for channel in range(num_channels)},
        "labels": labels,
        # regions in the order in which they are painted
        "regions_class_order": [1, 2],
        "file_ending": ".nii.gz",
    }


def _make_batch(trainer: TriadTrainer, *, seed: int = 0) -> dict[str, Any]:
    """A batch as the trainer's data loaders would give it, of noise."""
    random = torch.Generator().manual_seed(seed)
    size = tuple(trainer.configuration_manager.patch_size)
    manager = trainer.label_manager
    channels = trainer.num_input_channels
    if manager.has_regions:
        num_targets = manager.num_segmentation_heads + manager.has_ignore_label
        target = torch.randint(0, 2, (2, num_targets, *size), generator=random).float()
    else:
        highest = max(manager.all_labels) + manager.has_ignore_label
        target = torch.randint(0, highest + 1, (2, 1, *size), generator=random).float()
    scales = trainer._get_deep_supervision_scales()
    targets = target if scales is None else [_downsample(target, scale) for scale in scales]
    return {"data": torch.randn(2, channels, *size, generator=random), "target": targets}


def _downsample(target: torch.Tensor, scale: list[float]) -> torch.Tensor:
    x, y, z = (round(1 / factor) for factor in scale)
    return target[:, :, ::x, ::y, ::z]


@pytest.fixture
def nnunet_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """nnU-Net's three folders, with the least that a training asks for."""
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    monkeypatch.setenv("nnUNet_compile", "f")
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    monkeypatch.delenv("TRIAD_WEIGHTS", raising=False)
    preprocessed = tmp_path / "preprocessed" / DATASET
    (preprocessed / "nnUNetPlans_3d_fullres").mkdir(parents=True)
    (preprocessed / "nnUNetPlans_3d_fullres" / "case.b2nd").touch()
    (preprocessed / "dataset_fingerprint.json").write_text("{}")
    return tmp_path


@pytest.fixture
def make_trainer(
    nnunet_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., TriadTrainer]:
    """Construct a trainer by name, on the CPU, whose data loaders give noise."""

    def loaders(trainer: TriadTrainer) -> tuple[Iterator[dict], Iterator[dict]]:
        return (
            (_make_batch(trainer, seed=seed) for seed in itertools.count()),
            (_make_batch(trainer, seed=seed) for seed in itertools.count()),
        )

    monkeypatch.setattr(nnUNetTrainer, "get_dataloaders", loaders)
    monkeypatch.setattr(LocalLogger, "plot_progress_png", lambda *_: None)
    torch.manual_seed(0)

    def make(
        name: str,
        *,
        network: str = "PlainConvUNet",
        patch_size: tuple[int, ...] = (32, 16, 64),
        configuration: str = "3d_fullres",
        num_channels: int = 1,
        labels: dict[str, Any] | None = None,
        is_shortened: bool = True,
        **more: Any,
    ) -> TriadTrainer:
        trainer = getattr(variants, name)(
            _make_plans(network, patch_size, configuration, **more),
            configuration,
            0,
            _make_dataset_json(num_channels, labels or {"background": 0, "core": 1, "oedema": 2}),
            torch.device("cpu"),
        )
        if is_shortened:
            trainer.num_iterations_per_epoch = trainer.num_val_iterations_per_epoch = 1
        return trainer

    return make


@pytest.fixture
def make_batch() -> Callable[..., dict[str, Any]]:
    """Make the batch of noise that the trainer's data loaders would give for a seed."""
    return _make_batch


@pytest.fixture(scope="session")
def weights_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files for two encoders with random values, by the names that trainers look for."""
    folder = tmp_path_factory.mktemp("weights")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for name in ("unet", "swin_t"):
            spec = encoder_spec(name)
            for source in ("triad", "voco"):
                path = folder / f"{source}_{name}.safetensors"
                # the cases of these tests say no directions: z y x is taken, and Swin turned
                axes = "xyz" if spec.family == "swin" else None
                info = WeightsInfo(spec=spec, source=source, axes=axes)
                save_weights(path, build_encoder(spec), info)
    return folder
