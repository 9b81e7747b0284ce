"""The encoder contract: sizes, names, strides."""

from functools import partial

import pytest
import torch

from nnunet_triad.architectures import (
    ENCODERS,
    build_encoder,
    encoder_spec,
    family_of,
    plainconv_spec,
    resenc_spec,
)
from nnunet_triad.architectures.families import spec_from_dict
from nnunet_triad.errors import UserError


@pytest.fixture
def meta_device(monkeypatch):
    """Modules without memory; MONAI reads its drop rates from a tensor, which must stay real."""
    monkeypatch.setattr(torch, "linspace", partial(torch.linspace, device="cpu"))
    with torch.device("meta"):
        yield


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "millions"), [("unet", 14.0), ("swin_b", 18.64), ("swin_l", 73.89), ("swin_h", 294.86)]
)
def test_encoder_has_the_published_number_of_parameters(meta_device, name, millions):
    num_parameters = count(build_encoder(encoder_spec(name)))
    digits = 1 if name == "unet" else 2
    assert round(num_parameters / 1e6, digits) == millions


@pytest.mark.parametrize("name", ["unet", "swin_t", "swin_b", "swin_b_v1"])
def test_encoder_returns_the_channels_and_grids_of_its_spec(name):
    spec = encoder_spec(name)
    sizes = (32, 64, 96)
    with torch.no_grad():
        features = build_encoder(spec, input_channels=2)(torch.zeros(1, 2, *sizes))
    assert [feature.shape[1] for feature in features] == list(spec.channels)
    for feature, strides in zip(features, spec.strides, strict=True):
        sizes = tuple(size // stride for size, stride in zip(sizes, strides, strict=True))
        assert feature.shape[2:] == sizes


@pytest.mark.parametrize(
    ("name", "stride"),
    [("unet", 32), ("swin_b", 32), ("resenc", 32), ("mednext_s", 16), ("primus_m", 8)],
)
def test_total_stride_is_the_product_of_the_strides(name, stride):
    assert encoder_spec(name).total_stride == (stride,) * 3


def test_unet_names_are_those_of_plain_conv_encoder():
    names = [name for name, _ in build_encoder(encoder_spec("unet")).named_parameters()]
    assert names[:4] == [
        "stages.0.0.convs.0.conv.weight",
        "stages.0.0.convs.0.conv.bias",
        "stages.0.0.convs.0.norm.weight",
        "stages.0.0.convs.0.norm.bias",
    ]
    assert len(names) == 6 * 2 * 4


def test_swin_names_are_those_of_swin_unetr_v2():
    names = {name for name, _ in build_encoder(encoder_spec("swin_t")).named_parameters()}
    assert "patch_embed.proj.weight" in names
    assert "layers1.0.blocks.0.attn.relative_position_bias_table" in names
    assert "layers4.0.downsample.reduction.weight" in names
    assert "layers4c.0.layer.conv1.conv.weight" in names  # the convolutions that V2 adds
    assert all(name.split(".")[0][:6] in ("patch_", "layers") for name in names)


def test_spec_survives_json():
    spec = encoder_spec("swin_b")
    as_lists = {k: list(v) if isinstance(v, tuple) else v for k, v in spec.to_dict().items()}
    assert spec_from_dict(as_lists) == spec


def test_unknown_encoder_is_refused_with_the_known_names():
    with pytest.raises(UserError, match=r"one of unet, unet_t, unet_4, swin_t.*got 'swin_x'"):
        encoder_spec("swin_x")


def test_spec_with_missing_strides_is_refused():
    with pytest.raises(ValueError, match="expected one for each of 2 levels, got 1"):
        plainconv_spec("x", (8, 16), strides=((1, 1, 1),))


def test_swin_v1_is_v2_without_its_convolution_blocks(meta_device):
    v1 = dict(build_encoder(encoder_spec("swin_b_v1")).named_parameters())
    v2 = dict(build_encoder(encoder_spec("swin_b")).named_parameters())
    only_v2 = v2.keys() - v1.keys()
    assert v1.keys() < v2.keys()
    assert {name.split(".")[0] for name in only_v2} == {f"layers{i}c" for i in (1, 2, 3, 4)}
    # two 3x3x3 convolutions without bias a level, instance norm without affine
    assert sum(v2[n].numel() for n in only_v2) == sum(2 * 27 * (48 * 2**i) ** 2 for i in range(4))


def test_resenc_names_are_those_of_residual_encoder(meta_device):
    names = [name for name, _ in build_encoder(encoder_spec("resenc")).named_parameters()]
    assert names[0] == family_of(encoder_spec("resenc")).stem_weight == "stem.convs.0.conv.weight"
    assert names[4] == "stages.0.blocks.0.conv1.conv.weight"
    blocks = {tuple(name.split(".")[1:4:2]) for name in names if ".blocks." in name}
    assert len(blocks) == sum((1, 3, 4, 6, 6, 6))


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_every_parameter_has_a_level_and_the_stem_is_in_the_finest(meta_device, name):
    spec = encoder_spec(name)
    parameters = dict(build_encoder(spec).named_parameters())
    family = family_of(spec)
    assert {family.level_of(spec, n) for n in parameters} == set(range(len(spec.channels)))
    assert family.level_of(spec, family.stem_weight) == 0
    assert family.stem_weight in parameters


def test_spec_of_a_residual_encoder_without_its_blocks_is_refused():
    with pytest.raises(ValueError, match="one number for each of 2 levels, got 0"):
        resenc_spec("x", (8, 16), blocks_per_stage=())
