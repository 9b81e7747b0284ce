"""Memory that is counted on fake tensors, against what a real iteration saves."""

import pytest
import torch
from torch import nn

from nnunet_triad.architectures import build_network, encoder_spec
from nnunet_triad.architectures.meta import build_on_meta
from nnunet_triad.architectures.swin_encoder import FusedWindowAttention
from nnunet_triad.errors import UserError
from nnunet_triad.training.memory_estimate import (
    can_fake_gpu,
    estimate_step_memory,
    estimate_training_memory,
)

fakes_gpu = pytest.mark.skipif(not can_fake_gpu(), reason="this PyTorch needs a real GPU for it")


def tiny() -> nn.Module:
    return nn.Conv3d(1, 4, 3, padding=1)


def swin() -> nn.Module:
    return build_network(encoder_spec("swin_t"), input_channels=1, output_channels=3)


@fakes_gpu
def test_parameters_gradients_and_momentum_are_four_bytes_each() -> None:
    estimate = estimate_training_memory(build_on_meta(swin), (1, 1, 32, 32, 64))
    size = 4 * sum(p.numel() for p in swin().parameters())
    assert estimate.parameters == estimate.gradients == estimate.optimizer == size


@fakes_gpu
def test_frozen_parameters_have_no_gradients() -> None:
    network = build_on_meta(tiny)
    network.bias.requires_grad_(False)
    estimate = estimate_training_memory(network, (1, 1, 8, 8, 8))
    assert estimate.parameters - estimate.gradients == 4 * 4


def test_activations_equal_what_a_real_iteration_saves() -> None:
    network = swin()
    own = {t.untyped_storage()._cdata for t in (*network.parameters(), *network.buffers())}
    saved, keep = {}, []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        keep.append(tensor)
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            saved[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(torch.randn(1, 1, 32, 32, 64)).square().sum()
    estimate = estimate_training_memory(
        build_on_meta(swin), (1, 1, 32, 32, 64), device="cpu", precision="fp32"
    )
    # the terms of the loss differ: a few copies of the logits
    logits = 4 * 3 * 32 * 32 * 64
    assert abs(estimate.activations - sum(saved.values())) <= 8 * logits


@fakes_gpu
def test_half_precision_halves_what_a_convolution_keeps() -> None:
    def saved_by_convolutions(precision: str) -> int:
        network = build_on_meta(lambda: nn.Sequential(tiny(), nn.Conv3d(4, 64, 3)))
        more, less = (
            estimate_training_memory(network, (b, 1, 16, 16, 16), precision=precision)
            for b in (2, 1)
        )
        return more.activations - less.activations

    with_loss = 4 * 64 * 14**3  # of a batch item, in fp32, a few times, in either precision
    difference = saved_by_convolutions("fp32") - saved_by_convolutions("fp16")
    hidden = 4 * 16**3
    assert difference == pytest.approx(4 * hidden - 2 * hidden, abs=3 * with_loss)


@fakes_gpu
def test_activations_grow_with_the_batch_and_nothing_else_does() -> None:
    one, two, three = (
        estimate_training_memory(build_on_meta(swin), (b, 1, 32, 32, 64)) for b in (1, 2, 3)
    )
    first, second = two.activations - one.activations, three.activations - two.activations
    assert first > 0
    assert second == pytest.approx(first, rel=1e-3)  # norms keep statistics of the whole batch
    assert one.parameters == three.parameters
    assert one.total < two.total < three.total


@fakes_gpu
def test_attention_on_a_gpu_keeps_no_map() -> None:
    """One block of Swin-B's first stage; what a fused kernel keeps has no n x n but the bias."""
    images, windows, n, channels, heads = 2, 343, 343, 48, 3
    attention = build_on_meta(lambda: FusedWindowAttention(channels, heads, (7, 7, 7), True))

    def compute_loss(network: nn.Module, device: str) -> torch.Tensor:
        x = torch.empty(images * windows, n, channels, device=device)
        return network(x, torch.empty(windows, n, n, device=device)).float().sum()

    estimate = estimate_step_memory(attention, compute_loss, precision="bf16")
    tokens = 2 * images * windows * n * channels  # bytes in bf16
    row = -(-n // 16) * 16  # the kernel's, of the bias
    bias, sums = 2 * windows * heads * n * row, 4 * images * windows * heads * 352
    # queries, keys, values, the output, and the inputs of both linear layers
    kept = 6 * tokens + bias + sums
    assert kept <= estimate.activations <= 1.1 * kept


@fakes_gpu
def test_attention_that_no_kernel_takes_keeps_its_maps() -> None:
    """Swin-T's heads of 12 channels are no multiple of 16 bytes in bf16."""
    windows, n, channels = 8, 343, 12
    attention = build_on_meta(lambda: FusedWindowAttention(channels, 1, (7, 7, 7), True))

    def compute_loss(network: nn.Module, device: str) -> torch.Tensor:
        x = torch.empty(windows, n, channels, device=device)
        return network(x, None).float().sum()

    estimate = estimate_step_memory(attention, compute_loss, precision="bf16")
    assert estimate.activations > 2 * windows * n * n


def test_torch_that_would_abort_is_refused_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    old = torch.torch_version.TorchVersion("2.9.1+cu128")
    monkeypatch.setattr(torch, "__version__", old)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"torch: expected 2\.10 or newer .* got 2\.9\.1"):
        estimate_training_memory(build_on_meta(tiny), (1, 1, 8, 8, 8))
    estimate = estimate_training_memory(build_on_meta(tiny), (1, 1, 8, 8, 8), device="cpu")
    assert estimate.total > 0
