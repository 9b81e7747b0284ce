"""Swin UNETR against MONAI's own, and at sizes that MONAI refuses."""

from functools import partial

import pytest
import torch
import torch._dynamo.testing
from monai.networks.blocks import UnetrBasicBlock
from monai.networks.nets.swin_unetr import SwinUNETR, WindowAttention, compute_mask

from nnunet_triad.architectures import build_encoder, build_network, encoder_spec, swin_encoder
from nnunet_triad.architectures.cpu.accelerate import accelerate_on_cpu
from nnunet_triad.architectures.families import read_spec
from nnunet_triad.architectures.padding import pad_to_stride
from nnunet_triad.architectures.swin_encoder import FusedWindowAttention
from nnunet_triad.weights.file import WeightsInfo, encoder_tensors, save_weights
from nnunet_triad.weights.locate import load_weights
from nnunet_triad.weights.transfer import TransferError, transfer_encoder


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


def test_mask_of_shifted_windows_is_built_once_for_each_size(monkeypatch):
    calls = []

    def spy(*arguments):
        calls.append(arguments[0])
        return compute_mask(*arguments)

    monkeypatch.setattr(swin_encoder, "compute_mask", spy)
    encoder = build_encoder(encoder_spec("swin_t")).eval()
    small, large = torch.randn(1, 1, 32, 32, 32), torch.randn(1, 1, 32, 64, 32)
    with torch.inference_mode():  # a mask made here must serve a training
        encoder(small)
    encoder(small)[-1].sum().backward()
    encoder(large)
    assert len(calls) == 2 * 4  # levels
    found = {size for size in calls if size[0] == 16}
    assert found == {(16, 16, 16), (16, 32, 16)}


def count_graphs(network, image, *, modes):
    """Compile a network as nnU-Net does, run it in each mode, and count graphs and breaks."""
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(network, backend=counter)
    counts = []
    for is_training, batch_size, context in modes:
        compiled.train(is_training)
        with context():
            compiled(image[:batch_size])
        counts.append(counter.frame_count)
    return counts


def test_network_compiles_to_one_graph():
    torch._dynamo.reset()
    network = build("swin_t", input_channels=1).train()
    explained = torch._dynamo.explain(network)(torch.randn(1, 1, 32, 64, 32))
    assert (explained.graph_count, explained.graph_break_count) == (1, 0)


def test_group_norm_s_blocks_are_monai_s_with_that_norm():
    encoder = build_encoder(encoder_spec("swin_t_gn")).eval()
    for level, groups in enumerate((4, 8, 16, 32), 1):
        ours = getattr(encoder, f"layers{level}c")[0]
        channels = 12 * 2 ** (level - 1)
        norm = ("group", {"num_groups": groups})
        theirs = UnetrBasicBlock(3, channels, channels, 3, 1, norm, res_block=True).eval()
        torch.nn.init.normal_(ours.layer.norm1.weight)
        theirs.load_state_dict(ours.state_dict())
        image = torch.randn(2, channels, 4, 6, 8)
        assert torch.equal(ours(image), theirs(image))


def test_group_norm_adds_the_norms_weights_to_the_names_of_instance_norm():
    plain, grouped = (
        dict(build_encoder(encoder_spec(name)).named_parameters())
        for name in ("swin_t", "swin_t_gn")
    )
    assert {n: p.shape for n, p in plain.items()}.items() <= {
        n: p.shape for n, p in grouped.items()
    }.items()
    assert sorted(grouped.keys() - plain.keys()) == [
        f"layers{level}c.0.layer.norm{norm}.{part}"
        for level in (1, 2, 3, 4)
        for norm in (1, 2)
        for part in ("bias", "weight")
    ]


def test_group_norm_is_told_from_tensors_and_kept_in_the_metadata():
    spec = encoder_spec("swin_t_gn")
    tensors = encoder_tensors(build_encoder(spec))
    assert read_spec(tensors) == spec
    del tensors["layers1c.0.layer.norm1.weight"], tensors["layers1c.0.layer.norm1.bias"]
    assert read_spec(tensors) == encoder_spec("swin_t")
    assert WeightsInfo.from_json(WeightsInfo(spec=spec).to_json()).spec == spec


def test_group_norm_s_weights_are_refused_by_a_network_without_it(tmp_path):
    spec = encoder_spec("swin_t_gn")
    save_weights(tmp_path / "w.safetensors", build_encoder(spec), WeightsInfo(spec=spec))
    weights = load_weights(tmp_path / "w.safetensors")
    assert transfer_encoder(build("swin_t_gn"), weights).share == 1
    with pytest.raises(TransferError, match=r"expected group_norm False, .* got True"):
        transfer_encoder(build(), weights)


def test_group_norm_s_network_trains_on_channels_last():
    network = build("swin_t_gn").train()
    image = torch.randn(1, 1, 32, 32, 64)
    expected = network(image)
    accelerate_on_cpu(network)
    found = network(image)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    found.square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.swinViT.parameters())


@pytest.mark.long  # minutes
def test_network_is_compiled_once_for_each_of_training_validation_and_prediction():
    network = build("swin_t", input_channels=1)
    counts = count_graphs(
        network,
        torch.randn(2, 1, 32, 64, 32),
        modes=[
            (True, 2, torch.enable_grad),
            (True, 2, torch.enable_grad),
            (False, 2, torch.no_grad),
            (True, 2, torch.enable_grad),  # the next epoch
            (False, 2, torch.no_grad),
            (False, 1, torch.inference_mode),  # nnU-Net predicts windows one by one
            (False, 1, torch.inference_mode),
        ],
    )
    assert counts == [1, 1, 2, 2, 2, 3, 3]
