"""Checkpoints as other projects publish them: their names, their shapes, their wrapping.

Sources of the names: VoCo's Omni-supervised/models/voco_head.py and its loaders, SuPreM's
Universal_model.py and train.py, Swin UNETR's Pretrain/models/ssl_head.py and MONAI's `load_from`,
nnssl's AbstractTrainer.save_checkpoint and adaptation_plan.py, nnU-Net's nnUNetTrainer.py,
QuickStart.py, main_pretrain.py, simmim_advanced.py and util/misc.py of Triad's authors, nnU-Net
1.7's network_trainer.py and generic_UNet.py, nnU-Net 2.2's default_experiment_planner.py.
"""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from monai.networks.nets.swin_unetr import SwinUNETR
from torch import Tensor, nn

from nnunet_triad.architectures import (
    EncoderSpec,
    encoder_spec,
    plainconv_spec,
    resenc_spec,
    swin_spec,
)
from tests.nnunet_plans import layers

State = dict[str, Tensor]
SWIN_T = encoder_spec("swin_t")
SMALL_V1 = swin_spec("swin", 12, num_heads=(1, 2, 4, 8), window_size=4, use_v2=False)
ANISOTROPIC = plainconv_spec(
    "plainconv",
    (4, 8, 16, 32),
    kernel_sizes=((1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3)),
    strides=((1, 1, 1), (1, 2, 2), (2, 2, 2), (1, 2, 2)),
)
SMALL_RESENC = resenc_spec("resenc", (4, 8, 16, 24, 32, 32), blocks_per_stage=(1, 2, 1, 1, 1, 1))


def swin_unetr(spec: EncoderSpec, *, classes: int = 2, channels: int = 1) -> nn.Module:
    """MONAI's own network."""
    return SwinUNETR(
        in_channels=channels,
        out_channels=classes,
        feature_size=spec.feature_size,
        num_heads=spec.num_heads,
        window_size=spec.window_size,
        use_v2=spec.use_v2,
    )


def nnunet_kwargs(spec: EncoderSpec) -> dict[str, Any]:
    """The architecture's arguments as nnU-Net's plans and nnssl's adaptation plan write them."""
    stages = len(spec.channels)
    count = "n_blocks_per_stage" if spec.family == "resenc" else "n_conv_per_stage"
    return {
        "n_stages": stages,
        "features_per_stage": list(spec.channels),
        "kernel_sizes": [list(kernel) for kernel in spec.kernel_sizes],
        "strides": [list(stride) for stride in spec.strides],
        count: list(getattr(spec, "blocks_per_stage", [2] * stages)),
        "n_conv_per_stage_decoder": [1] * (stages - 1),
        **layers(),
    }


def nnunet_network(spec: EncoderSpec, *, classes: int = 2, channels: int = 1) -> nn.Module:
    """nnU-Net's network on an encoder."""
    network = ResidualEncoderUNet if spec.family == "resenc" else PlainConvUNet
    layers = {"conv_op": nn.Conv3d, "norm_op": nn.InstanceNorm3d, "nonlin": nn.LeakyReLU}
    return network(
        input_channels=channels, num_classes=classes, **{**nnunet_kwargs(spec), **layers}
    )


def voco_ssl_head(spec: EncoderSpec) -> dict[str, Any]:
    """VoCo_{B,L,H}_SSL_head.pt: the Swin part without a decoder, the projection heads beside."""
    state = swin_unetr(spec).state_dict()
    kept = {n: t for n, t in state.items() if not n.startswith(("decoder", "out"))}
    heads = {"student.layer1.0.weight": torch.zeros(4), "teacher.layer1.0.weight": torch.zeros(4)}
    return {
        "global_step": 1,
        "state_dict": {
            **{f"module.backbone.{n}": t for n, t in kept.items()},
            **{f"module.{n}": t for n, t in heads.items()},
        },
    }


def suprem(spec: EncoderSpec) -> dict[str, Any]:
    """supervised_suprem_swinunetr_2100.pth: the whole network and the language branch."""
    state = {f"module.backbone.{n}": t for n, t in swin_unetr(spec).state_dict().items()}
    for name in ("precls_conv.0.weight", "GAP.0.weight", "controller.weight", "organ_embedding"):
        state[f"module.{name}"] = torch.zeros(8)
    return {"net": state, "optimizer": {"state": {}, "param_groups": []}, "epoch": 2100}


def swin_unetr_ssl(spec: EncoderSpec, *, prefix: str = "module.") -> dict[str, Any]:
    """self_supervised_nv_swin_unetr_5050.pt: names of the first release, a rotation head."""
    encoder = swin_unetr(spec).swinViT.state_dict()
    state = {prefix + n.replace("mlp.linear", "mlp.fc"): t for n, t in encoder.items()}
    heads = {"norm.weight": 3, "rotation_head.weight": 4, "contrastive_head.weight": 5}
    state |= {f"module.{name}": torch.zeros(size) for name, size in heads.items()}
    return {"epoch": 100, "state_dict": state, "optimizer": {}}


def nnssl(spec: EncoderSpec, *, arch: str = "ResEncL", channels: int = 1) -> dict[str, Any]:
    """A checkpoint of nnssl, with its adaptation plan."""
    is_dynamic = arch in ("PlainConvUNet", "ResidualEncoderUNet")
    is_plain = spec.family == "plainconv"
    stem = "encoder.stages.0" if is_plain else "encoder.stem"
    first = f"{stem}.0.convs.0" if is_plain else f"{stem}.convs.0"
    configuration = {"spacing": [1, 1, 1], "patch_size": [160, 160, 160]}
    configuration["normalization_schemes"] = ["ZScoreNormalization"]
    return {
        "network_weights": nnunet_network(spec, channels=channels).state_dict(),
        "optimizer_state": {},
        "current_epoch": 1000,
        "trainer_name": "BaseMAETrainer",
        "init_args": {"plan": {}},
        "citations": [{"type": "Pre-training", "name": "MAE", "apa_citations": ["Wald (2025)."]}],
        "nnssl_adaptation_plan": {
            "architecture_plans": {
                "arch_class_name": arch,
                "arch_kwargs": nnunet_kwargs(spec) if is_dynamic else None,
                "arch_kwargs_requiring_import": ["conv_op", "norm_op", "nonlin"],
            },
            "pretrain_plan": {"configurations": {"onemmiso": configuration}},
            "pretrain_num_input_channels": channels,
            "recommended_downstream_patchsize": [160, 160, 160],
            "key_to_encoder": "encoder.stages",
            "key_to_stem": stem,
            "keys_to_in_proj": [f"{first}.conv", f"{first}.all_modules.0"],
            "key_to_lpe": None,
        },
    }


def nnunet_checkpoint(spec: EncoderSpec, *, channels: int = 1) -> dict[str, Any]:
    """checkpoint_final.pth of nnU-Net, which holds NumPy scalars and the plans."""
    settings = {
        "patch_size": [64, 96, 80],
        "spacing": [1.5, 1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"],
        "architecture": {"arch_kwargs": nnunet_kwargs(spec)},
    }
    return {
        "network_weights": nnunet_network(spec, channels=channels).state_dict(),
        "_best_ema": np.float64(0.5),
        "logging": {"mean_fg_dice": [np.float32(0.1)], "lrs": [0.01], "n": [np.int64(3)]},
        "init_args": {
            "plans": {"configurations": {"3d_fullres": settings}},
            "configuration": "3d_fullres",
            "device": torch.device("cpu"),
        },
        "trainer_name": "nnUNetTrainer",
    }


def triad_authors_swin(spec: EncoderSpec) -> State:
    """Triad-SwinB-{MAE,SimMIM}.pth: MONAI's Swin alone, in an attribute of an attribute."""
    encoder = swin_unetr(spec).swinViT.state_dict()
    return {f"backbone.swinViT.{n}": tensor for n, tensor in encoder.items()}


def triad_authors_unet(spec: EncoderSpec) -> State:
    """Triad-PlainConvUNet-{MAE,SimMIM}.pth: the encoder of PlainConvUNet alone."""
    encoder = nnunet_network(spec).encoder.state_dict()
    return {f"encoder.{n}": tensor for n, tensor in encoder.items()}


def _trained_by_triad(model: State) -> dict[str, Any]:
    """What util/misc.py's save_model writes, the parsed arguments with it."""
    arguments = argparse.Namespace(
        batch_size=8, patch_size=(2, 2, 2), output_dir="UNET_wo_text", mask_ratio=0.6, resume=None
    )
    optimizer = {"state": {0: {"step": 1, "exp_avg": torch.zeros(2)}}, "param_groups": []}
    scaler = {"scale": 65536.0, "growth_tracker": 0}
    return {"model": model, "optimizer": optimizer, "epoch": 9, "scaler": scaler, "args": arguments}


def triad_training_swin(spec: EncoderSpec) -> dict[str, Any]:
    """checkpoint-9.pth of main_pretrain.py with --model_type swin_skip2; 768 features at full size.

    MAE and SimMIM are the same network there.
    """
    encoder = swin_unetr(spec).swinViT.state_dict()
    return _trained_by_triad(
        {
            "encoder.mask_token": torch.zeros(1, 1, spec.feature_size),
            **{f"encoder.swinViT.{n}": tensor for n, tensor in encoder.items()},
            "upsample.0.weight": torch.zeros(4, 8, 3, 3, 3),
            "ssl_head.0.weight": torch.zeros(4, 4),
        }
    )


def triad_training_unet(spec: EncoderSpec) -> dict[str, Any]:
    """checkpoint-9.pth of main_pretrain.py with --model_type unet_ssl_as_encoder."""
    encoder = nnunet_network(spec).encoder.state_dict()
    return _trained_by_triad(
        {
            "encoder.mask_token_vol": torch.zeros(1, 1, 1, 1, 1),
            **{f"encoder.encoder.{n}": tensor for n, tensor in encoder.items()},
            "encoder.z_proj.weight": torch.zeros(4, 4, 1, 1, 1),
            "z_adapter.weight": torch.zeros(8, 4, 1, 1, 1),
            "upsample.0.weight": torch.zeros(4, 8, 3, 3, 3),
        }
    )


def suprem_backbone(spec: EncoderSpec) -> dict[str, Any]:
    """swinunetr_backbone.pth of SuPreM's train.py: its own Swin UNETR, which ends in decoder1."""
    state = swin_unetr(spec).state_dict()
    kept = {n: tensor for n, tensor in state.items() if not n.startswith("out.")}
    return {"net": kept, "optimizer": {"state": {}}, "scheduler": {"last_epoch": 3}, "epoch": 3}


def nnunet_v1(spec: EncoderSpec) -> dict[str, Any]:
    """model_final_checkpoint.model of nnU-Net v1, whose bottleneck is two stacks of one."""
    last = len(spec.channels) - 1
    state = {"seg_outputs.0.weight": torch.zeros(2, 4, 1, 1, 1)}
    state["conv_blocks_localization.0.0.blocks.0.conv.weight"] = torch.zeros(4, 8, 3, 3, 3)
    for name, tensor in nnunet_network(spec).encoder.state_dict().items():
        _, stage, _, _, conv, *rest = name.split(".")
        if rest[0] == "all_modules":
            continue
        block = f"{conv}.blocks.0" if int(stage) == last else f"blocks.{conv}"
        attribute = ".".join(rest).replace("norm", "instnorm")
        state[f"conv_blocks_context.{stage}.{block}.{attribute}"] = tensor
    losses = ([], [], [], [])
    best = {"plot_stuff": losses, "best_stuff": (np.float64(0.1), None, None)}
    return {"epoch": 1000, "state_dict": state, "optimizer_state_dict": None, **best}


def nnunet_before_2_4(spec: EncoderSpec) -> dict[str, Any]:
    """checkpoint_final.pth with plans of nnU-Net 2.0 to 2.3, of a cascade's second stage."""
    stages = len(spec.channels)
    full = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "batch_size": 2,
        "patch_size": [40, 224, 192],
        "spacing": [3.0, 0.8, 0.8],
        "normalization_schemes": ["ZScoreNormalization"],
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 32,
        "n_conv_per_stage_encoder": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
        "num_pool_per_axis": [3, 5, 5],
        "pool_op_kernel_sizes": [list(stride) for stride in spec.strides],
        "conv_kernel_sizes": [list(kernel) for kernel in spec.kernel_sizes],
        "unet_max_num_features": 320,
    }
    second = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    plans = {"configurations": {"3d_fullres": full, "3d_cascade_fullres": second}}
    return {
        "network_weights": nnunet_network(spec).state_dict(),
        "init_args": {"plans": plans, "configuration": "3d_cascade_fullres", "fold": 0},
        "trainer_name": "nnUNetTrainer",
    }


def shapes_only(state: Mapping[str, Tensor]) -> State:
    """Tensors of the same names and shapes that hold a single value each, also in a file."""
    kinds = {n: t.dtype for n, t in state.items()}
    return {n: torch.zeros((), dtype=kinds[n]).expand(t.shape) for n, t in state.items()}


CHECKPOINTS: dict[str, Callable[[], Any]] = {
    "voco SSL head": lambda: voco_ssl_head(SWIN_T),
    "VoComni": lambda: swin_unetr(SWIN_T, classes=21).state_dict(),
    "VoComni nnunet": lambda: nnunet_network(encoder_spec("unet"), classes=21).state_dict(),
    "suprem": lambda: suprem(SMALL_V1),
    "swin_unetr_ssl": lambda: swin_unetr_ssl(SMALL_V1),
    "swin_unetr_ssl swin_vit": lambda: swin_unetr_ssl(SMALL_V1, prefix="module.swin_vit."),
    "nnssl resenc": lambda: nnssl(SMALL_RESENC, arch="ResidualEncoderUNet"),
    "nnssl plainconv": lambda: nnssl(encoder_spec("unet"), arch="PlainConvUNet"),
    "Triad's authors swin": lambda: triad_authors_swin(SWIN_T),
    "Triad's authors unet": lambda: triad_authors_unet(encoder_spec("unet")),
    "Triad's training swin": lambda: triad_training_swin(SWIN_T),
    "Triad's training unet": lambda: triad_training_unet(encoder_spec("unet_t")),
    "suprem backbone": lambda: suprem_backbone(SMALL_V1),
    "nnunet v1": lambda: nnunet_v1(encoder_spec("unet_t")),
    "nnunet before 2.4": lambda: nnunet_before_2_4(ANISOTROPIC),
    "nnunet": lambda: nnunet_checkpoint(encoder_spec("unet")),
    "monai": lambda: swin_unetr(SWIN_T, classes=3).state_dict(),
    "monai v1": lambda: swin_unetr(SMALL_V1, classes=3).state_dict(),
}


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Write a checkpoint by its name in CHECKPOINTS, once a session."""
    folder = tmp_path_factory.mktemp("published")

    def write(name: str) -> Path:
        path = folder / f"{name.replace(' ', '_')}.bin"  # the name says nothing of the kind
        if not path.exists():
            with torch.random.fork_rng():
                torch.manual_seed(3)
                torch.save(CHECKPOINTS[name](), path)
        return path

    return write
