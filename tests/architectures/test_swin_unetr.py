"""Swin UNETR against MONAI's own, and at sizes that MONAI refuses."""

from functools import partial

import pytest
import torch
from monai.networks.nets.swin_unetr import SwinUNETR, WindowAttention, compute_mask

from nnunet_triad.architectures import build_network, encoder_spec
from nnunet_triad.architectures.cpu.accelerate import accelerate_on_cpu
from nnunet_triad.architectures.padding import pad_to_stride
from nnunet_triad.architectures.swin_encoder import FusedWindowAttention


def build(name="swin_t", **options):
    torch.manual_seed(0)
    options = {"input_channels": 1, "output_channels": 3, **options}
    return build_network(encoder_spec(name), **options).eval()


@pytest.mark.parametrize(
    ("name", "millions"), [("swin_b", 72.76), ("swin_l", 290.39), ("swin_h", 1160.84)]
)
def test_network_has_the_published_number_of_parameters(monkeypatch, name, millions):
    monkeypatch.setattr(torch, "linspace", partial(torch.linspace, device="cpu"))
    with torch.device("meta"):
        network = build_network(encoder_spec(name), input_channels=1, output_channels=2)
    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    assert round(num_parameters / 1e6, 2) == millions


@pytest.mark.parametrize("is_accelerated", [False, True])
def test_outputs_and_names_equal_monai_for_the_same_weights(is_accelerated):
    spec = encoder_spec("swin_b")
    ours = build("swin_b", input_channels=2)
    theirs = SwinUNETR(
        in_channels=2, out_channels=3, feature_size=spec.feature_size, use_v2=True
    ).eval()
    state = ours.state_dict()
    del state["swinViT.conventions"]  # this project's own
    assert list(state) == list(theirs.state_dict())
    theirs.load_state_dict(state)
    image = torch.randn(1, 2, 32, 64, 32)
    if is_accelerated:
        accelerate_on_cpu(ours)
    with torch.no_grad():
        found, again, expected = ours(image), ours.train()(image), theirs(image)
        exact = theirs.double()(image.double())
    assert torch.equal(found, again)  # training computes as evaluation does
    error = (found - exact).abs().max()
    assert error < 1.5e-5
    assert error < 6 * (expected - exact).abs().max()  # of the size of MONAI's own


@pytest.mark.parametrize("sizes", [(20, 320, 256), (40, 56, 40), (32, 32, 32), (1, 7, 65)])
def test_network_takes_any_patch_and_keeps_its_size(sizes):
    with torch.no_grad():
        logits = build()(torch.randn(1, 1, *sizes))
    assert logits.shape == (1, 3, *sizes)
    assert torch.isfinite(logits).all()


def test_network_trains_on_a_patch_with_one_voxel_at_the_bottleneck():
    network = build().train()
    network(torch.randn(1, 1, 32, 32, 32)).square().mean().backward()
    gradients = [p.grad for p in network.swinViT.parameters()]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)


def test_padding_is_zeros_at_the_end_and_the_rest_is_unchanged():
    image = torch.randn(2, 1, 20, 64, 40)
    padded = pad_to_stride(image, (32, 32, 32))
    assert padded.shape == (2, 1, 32, 64, 64)
    assert torch.equal(padded[:, :, :20, :, :40], image)
    assert torch.count_nonzero(padded) == torch.count_nonzero(image)


def test_padding_leaves_a_fitting_image_alone():
    image = torch.randn(1, 1, 32, 64, 96)
    assert pad_to_stride(image, (32, 32, 32)) is image


def test_checkpointing_changes_neither_outputs_nor_gradients():
    image = torch.randn(1, 1, 32, 32, 64)
    gradients = []
    for use_checkpoint in (False, True):
        network = build(recompute=use_checkpoint).train()
        network(image).square().mean().backward()
        gradients.append(network.swinViT.patch_embed.proj.weight.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("is_shifted", [False, True])
def test_fused_attention_and_its_gradients_are_monai_s(is_shifted):
    torch.manual_seed(0)
    theirs = WindowAttention(12, 3, (4, 4, 4), qkv_bias=True)
    ours = FusedWindowAttention(12, 3, (4, 4, 4), qkv_bias=True)
    ours.load_state_dict(theirs.state_dict())
    mask = compute_mask([8, 8, 4], (4, 4, 4), (2, 2, 0), "cpu") if is_shifted else None
    windows = torch.randn(8, 64, 12)
    found = []
    for attention, attend in ((ours, ours.fused), (theirs, theirs)):
        image = windows.clone().requires_grad_()
        output = attend(image, mask)
        output.square().sum().backward()
        found.append([output, image.grad, *(p.grad for p in attention.parameters())])
    for mine, other in zip(*found, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)


def test_network_compiles_to_one_graph():
    torch._dynamo.reset()
    network = build("swin_t", input_channels=1)
    explained = torch._dynamo.explain(network)(torch.randn(1, 1, 32, 64, 32))
    assert (explained.graph_count, explained.graph_break_count) == (1, 0)
