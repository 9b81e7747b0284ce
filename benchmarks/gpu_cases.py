"""What `gpu_speed` times: steps of each program, and the same of MONAI's and nnU-Net's."""

import functools
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.networks.nets.swin_unetr import SwinTransformer, SwinUNETR
from torch import Tensor, nn

from benchmarks.loader import write_volumes
from benchmarks.pretrain_step import made_up_batch, made_up_data
from nnunet_triad.architectures.families.swin import SwinSpec
from nnunet_triad.training.distributed import ProcessGroup
from nnunet_triad.training.loader import batches, on_device
from nnunet_triad.training.precision import autocast
from pretraining.pretrain_data import crop_loader, load_data
from pretraining.settings import PretrainSettings
from pretraining.store import VolumeStore
from pretraining.training import compute_losses, start_step, start_training
from registration.dry_run import random_pair
from registration.loop import start_training as start_registration
from registration.loop import train_pair
from registration.settings import RegistrationSettings
from registration.training_data import RegistrationData

Step = Callable[[], object]
_LABELS = {"background": 0, "a": 1, "b": 2, "c": 3}
_STEPS = 10**6  # more than are done


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large everything is."""

    encoders: tuple[str, ...] = ("unet", "swin_b", "swin_l", "swin_h")
    trainers: tuple[str, ...] = ("UNet", "SwinB", "SwinL", "SwinH")
    main: str = "swin_b"  # with every precision and peer
    main_trainer: str = "SwinB"
    crop: tuple[int, int, int] = (96, 96, 96)
    batch_size: int = 8  # of pre-training
    patch: tuple[int, int, int] = (96, 96, 96)
    registration: str = "transmorph_l"
    pair: tuple[int, int, int] = (160, 192, 224)
    workers: int = 8
    stored: tuple[int, int, int] = (256, 256, 128)
    compiles: bool = True


TINY = Sizes(
    encoders=("unet_t", "swin_t"),
    trainers=("UNet", "SwinT"),
    main="swin_t",
    main_trainer="SwinT",
    crop=(64, 32, 32),
    batch_size=2,
    patch=(64, 32, 32),
    registration="transmorph_t",
    pair=(32, 32, 32),
    workers=0,
    stored=(64, 64, 64),
    compiles=False,  # minutes
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One alternative: what it is called, and how its step is made."""

    task: str
    network: str
    by: str = "ours"
    precision: str = "bf16"
    is_compiled: bool = False
    has_loader: bool = False
    samples: int  # a step
    build: Callable[[ExitStack], Step]

    @property
    def work(self) -> tuple[str, str, int]:
        """Cases of the same work need the same operations."""
        return self.task, self.network, self.samples


def all_cases(sizes: Sizes, device: torch.device) -> Iterator[Case]:
    """Yield the cases, what matters most first."""
    yield from _pretraining_cases(sizes, device)
    yield from _segmentation_cases(sizes, device)
    yield from _registration_cases(sizes, device)


def _pretraining_cases(sizes: Sizes, device: torch.device) -> Iterator[Case]:
    ways: list[dict[str, Any]] = [
        {"network": name} for name in sizes.encoders if name != sizes.main
    ]
    is_gpu = device.type == "cuda"  # a CPU is there to test the command
    ways[:0] = [
        *([{"precision": "fp32"}, {"by": "MONAI", "precision": "fp32"}] if is_gpu else []),
        {},
        {"by": "MONAI"},
        {"has_loader": True},
        *([{"is_compiled": True}] if sizes.compiles else []),
    ]
    for way in ways:
        about = {"network": sizes.main, "precision": "bf16" if is_gpu else "fp32", **way}
        settings = PretrainSettings.from_dict(
            {
                "encoder": about["network"],
                "steps": _STEPS,
                "batch_size": sizes.batch_size,
                "crop_size": sizes.crop,
                "precision": about["precision"],
                "objective_name": "paper",
                "log_ratio_weight": 0.0,
                "device": device.type,
                "workers": sizes.workers,
                "held_out": 0,
            }
        )
        build = _monai_pretraining if way.get("by") else _our_pretraining
        has_loader, is_compiled = (bool(way.get(n)) for n in ("has_loader", "is_compiled"))
        yield Case(
            task="pre-training",
            samples=sizes.batch_size,
            build=functools.partial(build, sizes, settings, device, has_loader, is_compiled),
            **about,
        )


def _our_pretraining(
    sizes: Sizes,
    settings: PretrainSettings,
    device: torch.device,
    has_loader: bool,
    is_compiled: bool,
    stack: ExitStack,
) -> Step:
    data = made_up_data(settings)
    if has_loader:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "store"
        volume = np.random.default_rng(0).integers(0, 2**12, sizes.stored, dtype=np.uint16)
        write_volumes(VolumeStore.create(folder, shape=sizes.stored), volume)
        data = load_data(folder, settings)
    group = ProcessGroup(device=device)
    training = start_training(data, settings, group)
    if is_compiled:
        training.network = torch.compile(training.model)  # type: ignore[assignment]
    if has_loader:
        loader = crop_loader(data, settings, steps=range(_STEPS), group=group)
        ready = iter(on_device(batches(loader), device, on_cpu=("volume",)))
        return lambda: start_step(training, next(ready))
    batch = made_up_batch(settings)
    batch["image"] = batch["image"].to(device)
    return lambda: start_step(training, batch)


def _monai_pretraining(
    sizes: Sizes,
    settings: PretrainSettings,
    device: torch.device,
    has_loader: bool,
    is_compiled: bool,
    stack: ExitStack,
) -> Step:
    """The same network around MONAI's encoder as it comes, in a plain loop."""
    training = start_training(made_up_data(settings), settings, ProcessGroup(device=device))
    spec = training.model.spec
    assert isinstance(spec, SwinSpec)
    training.model.encoder = _monai_encoder(spec, num_channels=1).to(device)
    optimizer = torch.optim.AdamW(training.model.parameters(), lr=1e-6)
    batch = made_up_batch(settings)

    def step() -> float:
        loss = compute_losses(training, batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(training.model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step


def _monai_encoder(spec: SwinSpec, *, num_channels: int) -> SwinTransformer:
    return SwinTransformer(
        in_chans=num_channels,
        embed_dim=spec.feature_size,
        window_size=(spec.window_size,) * 3,
        patch_size=spec.strides[0],
        depths=spec.depths,
        num_heads=spec.num_heads,
        use_v2=spec.use_v2,
        downsample="mergingv2",
    )


def _segmentation_cases(sizes: Sizes, device: torch.device) -> Iterator[Case]:
    main = sizes.main_trainer
    ways: list[tuple[str, str, bool, bool]] = [
        (main, "ours", False, False),
        (main, "MONAI", False, False),
        ("UNet", "ours", False, False),
        ("UNet", "nnU-Net", False, False),
        (main, "ours", False, True),
        (main, "ours", True, False),
        ("UNet", "ours", True, False),
        ("UNet", "nnU-Net", True, False),
        *((name, "ours", False, False) for name in sizes.trainers if name not in (main, "UNet")),
    ]
    for name, by, is_compiled, has_loader in ways:
        if is_compiled and not sizes.compiles:
            continue
        yield Case(
            task="segmentation",
            network=name,
            by=by,
            precision="fp16" if device.type == "cuda" else "fp32",  # nnU-Net's
            is_compiled=is_compiled,
            has_loader=has_loader,
            samples=2,
            build=functools.partial(
                _segmentation, sizes, name, by, device, is_compiled, has_loader
            ),
        )


def _segmentation(
    sizes: Sizes,
    name: str,
    by: str,
    device: torch.device,
    is_compiled: bool,
    has_loader: bool,
    stack: ExitStack,
) -> Step:
    os.environ["nnUNet_compile"] = "f"  # noqa: SIM112
    folder = Path(os.environ["nnUNet_preprocessed"]) / "Dataset999_Benchmark" / "data"  # noqa: SIM112
    folder.mkdir(parents=True, exist_ok=True)
    trainer = _trainer_class(name, by)(_plans(sizes.patch), "3d_fullres", "all", _dataset(), device)
    trainer.print_to_log_file = lambda *_, **__: None
    if has_loader:
        _write_cases(folder, sizes.patch)
    else:
        (folder / "case.b2nd").touch()
    trainer.initialize()
    if is_compiled:
        trainer.network = torch.compile(trainer.network)
    trainer.network.train()
    if has_loader:
        loader, _ = trainer.get_dataloaders()
        stack.callback(getattr(loader, "_finish", lambda: None))
        return lambda: trainer.train_step(next(loader))
    batch = _noise(trainer, sizes.patch, device)
    return lambda: trainer.train_step(batch)


def _trainer_class(name: str, by: str) -> type:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from nnunet_triad.trainers import variants

    if by == "nnU-Net":
        return nnUNetTrainer
    ours = getattr(variants, f"nnUNetTrainerScratch{name}")
    if by == "ours":
        return ours
    spec = ours.encoder

    def build(
        plans_manager: Any, configuration_manager: Any, num_in: int, num_out: int, *_: Any
    ) -> nn.Module:
        return SwinUNETR(
            in_channels=num_in,
            out_channels=num_out,
            feature_size=spec.feature_size,
            depths=spec.depths,
            num_heads=spec.num_heads,
            window_size=spec.window_size,
            use_v2=spec.use_v2,
        )

    return type("Peer", (ours,), {"build_network_architecture": staticmethod(build)})


def _plans(patch: Sequence[int]) -> dict[str, Any]:
    """nnU-Net's default network for a patch; Swin UNETR does not look at it."""
    num_stages = 6 if min(patch) >= 64 else 4
    library = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
    arguments = {
        "n_stages": num_stages,
        "features_per_stage": [32, 64, 128, 256, 320, 320][:num_stages],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3] * 3] * num_stages,
        "strides": [[1] * 3] + [[2] * 3] * (num_stages - 1),
        "n_conv_per_stage": [2] * num_stages,
        "n_conv_per_stage_decoder": [2] * (num_stages - 1),
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    settings = {
        "data_identifier": "data",
        "batch_size": 2,
        "patch_size": list(patch),
        "spacing": [1.0] * 3,
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "batch_dice": False,
        "architecture": {
            "network_class_name": library,
            "arch_kwargs": arguments,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }
    return {
        "dataset_name": "Dataset999_Benchmark",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
        "configurations": {"3d_fullres": settings},
        "continue_training": False,
    }


def _dataset() -> dict[str, Any]:
    return {"channel_names": {"0": "MRI"}, "labels": _LABELS, "file_ending": ".nii.gz"}


def _write_cases(folder: Path, patch: Sequence[int]) -> None:
    """Cases of noise, half as long again as a patch, as nnU-Net's preprocessing leaves them."""
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    (folder / "case.b2nd").unlink(missing_ok=True)
    random, size = np.random.default_rng(0), [edge * 3 // 2 for edge in patch]
    for number in range(4):
        labels = random.integers(0, 4, (1, *size)).astype(np.int8)
        places = {n: np.argwhere(labels == n)[:1000] for n in (1, 2, 3)}
        image = random.standard_normal((1, *size), dtype=np.float32)
        path = str(folder / f"case{number}")
        nnUNetDatasetBlosc2.save_case(image, labels, {"class_locations": places}, path)


def _noise(trainer: Any, patch: Sequence[int], device: torch.device) -> dict[str, Any]:
    random = torch.Generator().manual_seed(0)
    target = torch.randint(0, 4, (2, 1, *patch), generator=random).float()
    scales = trainer._get_deep_supervision_scales()

    def scaled(scale: list[float]) -> Tensor:
        x, y, z = (round(1 / one) for one in scale)
        return target[:, :, ::x, ::y, ::z].to(device)

    image = torch.randn(2, 1, *patch, generator=random).to(device)
    targets = target.to(device) if scales is None else [scaled(scale) for scale in scales]
    return {"data": image, "target": targets}


def _registration_cases(sizes: Sizes, device: torch.device) -> Iterator[Case]:
    ways = [("ours", "fp32"), ("MONAI", "fp32")]
    for by, precision in [*([("ours", "bf16")] if device.type == "cuda" else []), *ways]:
        settings = RegistrationSettings(
            network=sizes.registration, precision=precision, device=device.type, epochs=_STEPS
        )
        yield Case(
            task="registration",
            network=sizes.registration,
            by=by,
            precision=precision,
            samples=1,
            build=functools.partial(_registration, sizes, settings, by),
        )


def _registration(sizes: Sizes, settings: RegistrationSettings, by: str, stack: ExitStack) -> Step:
    from registration.memory import with_recomputation

    data = RegistrationData(train=(None,), val=(), test=(), earlier_fingerprint="")  # type: ignore[arg-type]
    settings = replace(with_recomputation(settings, sizes.pair))
    training = start_registration(data, settings, None)
    if by == "MONAI":
        spec = training.network.spec
        assert isinstance(spec, SwinSpec)
        encoder = _monai_encoder(spec, num_channels=2).to(training.device)
        training.network.body.swinViT = encoder
        training.optimizer = torch.optim.Adam(training.network.parameters(), amsgrad=True)
    batch = random_pair(sizes.pair, has_labels=False)
    for key in ("moving", "fixed"):
        batch[key] = batch[key].to(training.device)
    return lambda: train_pair(training, batch)


def matrix_product(device: torch.device, precision: str, size: int) -> Step:
    """Return one product of square matrices, in the precision: what a device can reach."""
    left, right = torch.randn(2, size, size, device=device)

    def step() -> Tensor:
        with autocast(device, precision):
            return left @ right

    return step
