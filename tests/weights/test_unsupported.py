"""Encoders of other projects are called what they are, by the names in those projects' code."""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from monai.networks.nets import UNETR, BasicUNet, DynUNet, SegResNet, ViTAutoEnc, resnet10
from torch import Tensor, nn

from nnunet_triad.errors import UserError
from nnunet_triad.weights.locate import load_weights
from nnunet_triad.weights.unsupported import UNSUPPORTED
from tests.weights.references import load

_VIT = {"hidden_size": 24, "mlp_dim": 24, "num_heads": 2}


def named(names: Iterable[str], *, prefix: str = "", num_axes: int = 5) -> dict[str, Tensor]:
    """A state dict of these names; only names, and a kernel's axes, are looked at."""
    return {prefix + name: torch.zeros((1,) * num_axes) for name in names}


def flat_unet() -> dict[str, Tensor]:
    network = PlainConvUNet(1, 2, (4, 8), nn.Conv2d, 3, (1, 2), 2, 2, 1, norm_op=nn.InstanceNorm2d)
    return network.state_dict()


def resnet() -> dict[str, Tensor]:
    """MONAI's, which has MedicalNet's names."""
    state = resnet10(n_input_channels=1).state_dict()
    return {f"module.{name}": tensor for name, tensor in state.items()}


BLOCK_OF_STUNET = ("conv1", "norm1", "conv2", "norm2", "conv3")
STUNET = named(f"conv_blocks_context.{d}.0.{n}.weight" for d in range(6) for n in BLOCK_OF_STUNET)
GENESIS = named(
    f"down_tr{width}.ops.{i}.{n}.weight"
    for width in (64, 128, 256, 512)
    for i in (0, 1)
    for n in ("conv1", "bn1")
)
YUCCA = named(
    f"encoder.{block}.conv{i}.{n}.weight"
    for block in ("in_conv", "encoder_conv1", "encoder_conv2", "encoder_conv3", "encoder_conv4")
    for i in (1, 2)
    for n in ("conv", "norm")
)
VIT_3DINO = named(
    (
        *("cls_token", "pos_embed", "mask_token", "patch_embed.proj.weight"),
        *("blocks.0.0.norm1.weight", "blocks.0.0.attn.qkv.weight", "norm.weight"),
    )
)
SAM = named(
    (
        *("image_encoder.pos_embed", "image_encoder.patch_embed.proj.weight"),
        *("image_encoder.blocks.0.norm1.weight", "image_encoder.blocks.0.attn.rel_pos_d"),
        *("prompt_encoder.not_a_point_embed.weight", "mask_decoder.iou_token.weight"),
    )
)
UNIMISS = named(
    (
        *("patch_embed2D0.conv.weight", "patch_embed3D0.conv.weight", "pos_embed3D1"),
        *("patch_embed3D1.proj.conv.weight", "block1.0.attn.kv.weight"),
    ),
    prefix="module.backbone.transformer.",
)
DODNET = named(
    (
        *("conv1.weight", "layer0.0.gn1.weight", "layer0.0.conv1.weight", "layer1.0.conv1.weight"),
        *("layer4.0.conv1.weight", "fusionConv.2.weight", "precls_conv.2.weight"),
        "controller.weight",
    )
)
DAE = named(
    (
        *("mask_token", "patch_embed.proj.conv1.conv.weight", "patch_embed.proj.norm1.weight"),
        *("layers1.0.0.blocks.0.norm1.weight", "layers1.0.0.blocks.0.attn.qkv.weight"),
    ),
    prefix="encoder.",
)
FOMO26_CLASSIFICATION = {
    name: tensor
    for name, tensor in load("fomo_resenc").checkpoint()["state_dict"].items()
    if ".decoder." not in name
} | named(("fc.weight", "fc.bias"), prefix="model._orig_mod.decoder.", num_axes=2)
MICROSOFT = named(
    ("patch_embed.proj.weight", "layers.0.blocks.0.attn.relative_position_bias_table")
)

# How each project saves it, and what the error calls it.
FILES: dict[str, tuple[Callable[[], Any], str]] = {
    "nnU-Net, 2D": (lambda: {"network_weights": flat_unet(), "epoch": 1}, "a 2D U-Net of nnU-Net"),
    "STU-Net, nnU-Net v1": (lambda: {"state_dict": STUNET, "epoch": 4000}, "STU-Net"),
    "STU-Net, nnU-Net v2": (
        lambda: {
            "network_weights": STUNET,
            "trainer_name": "STUNetTrainer_base_ft",
            "init_args": {"plans": {"configurations": {}}, "configuration": "3d_fullres"},
        },
        "STU-Net",
    ),
    "3DINO": (
        lambda: {"teacher": {f"backbone.{n}": t for n, t in VIT_3DINO.items()}},
        "a Vision Transformer as DINOv2 and 3DINO write it",
    ),
    "SAM-Med3D": (
        lambda: {"model_state_dict": SAM, "losses": [0.5], "args": argparse.Namespace(lr=8e-4)},
        "SAM-Med3D",
    ),
    "UniMiSS": (
        lambda: {"student": UNIMISS, "teacher": UNIMISS, "args": argparse.Namespace(arch="x")},
        "UniMiSS's pyramid transformer",
    ),
    "Swin, Microsoft's": (lambda: {"model": MICROSOFT}, "a Swin Transformer with Microsoft's"),
    "MedicalNet": (lambda: {"state_dict": resnet(), "optimizer": {}}, "a ResNet, such as Medic"),
    "DoDNet": (lambda: DODNET, "DoDNet's U-Net"),
    "Models Genesis": (
        lambda: {"state_dict": {f"module.{n}": t for n, t in GENESIS.items()}},
        "the U-Net of Models Genesis",
    ),
    "SuPreM, U-Net": (
        lambda: {
            "net": {
                **{f"module.backbone.{n}": t for n, t in GENESIS.items()},
                **named(("precls_conv.0.weight", "controller.weight"), prefix="module."),
            },
            "scheduler": {},
        },
        "the U-Net of Models Genesis, which SuPreM",
    ),
    "SuPreM, SegResNet": (
        lambda: {"net": SegResNet(init_filters=8).state_dict(), "epoch": 1},
        "MONAI's SegResNet, which SuPreM",
    ),
    "AMAES, FOMO25": (
        lambda: {"state_dict": {f"model._orig_mod.{n}": t for n, t in YUCCA.items()}},
        "the U-Net of yucca, AMAES",
    ),
    "FOMO26, classification": (
        lambda: {"state_dict": FOMO26_CLASSIFICATION, "pytorch-lightning_version": "2.5.5"},
        "a classification network of asparagus",
    ),
    "AMAES, MedNeXt": (
        load("amaes_mednext").checkpoint,
        "MedNeXt by its authors' names, as AMAES",
    ),
    "Disruptive Autoencoders": (
        lambda: {"model": DAE, "epoch": 1},
        "the Swin of Disruptive Autoencoders",
    ),
    "UNETR": (lambda: UNETR(1, 2, (32, 32, 32), **_VIT).state_dict(), "MONAI's UNETR"),
    "ViT": (
        lambda: ViTAutoEnc(1, (32, 32, 32), (16, 16, 16), num_layers=1, **_VIT).state_dict(),
        "MONAI's Vision Transformer",
    ),
    "DynUNet": (
        lambda: DynUNet(3, 1, 2, [3] * 3, [1, 2, 2], [2, 2], filters=[2, 4, 8]).state_dict(),
        "MONAI's DynUNet",
    ),
    "BasicUNet": (
        lambda: BasicUNet(features=(2, 2, 2, 2, 2, 2)).state_dict(),
        "MONAI's BasicUNet",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_encoder_of_another_project_is_called_what_it_is(tmp_path: Path, name: str) -> None:
    make, title = FILES[name]
    torch.save(make(), tmp_path / "c.pth")
    with pytest.raises(UserError, match=f"got {title}.*, which is not supported: ") as error:
        load_weights(tmp_path / "c.pth")
    assert "\n" not in str(error.value)
    assert "what would match" not in str(error.value)


def test_every_row_is_tried() -> None:
    primus = "a Primus of another build"  # tests/weights/test_primus.py
    titles = [title for _, title in FILES.values()] + [primus]
    assert all(any(row.title.startswith(title) for title in titles) for row in UNSUPPORTED)
