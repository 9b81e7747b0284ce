"""Memory that is counted on fake tensors, against what a real iteration saves."""

import pytest
import torch
from torch import nn

from nnunet_triad.architectures import build_network, encoder_spec
from nnunet_triad.architectures.meta import build_on_meta
from nnunet_triad.errors import UserError
from nnunet_triad.training.memory_estimate import can_fake_gpu, estimate_training_memory

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


def test_torch_that_would_abort_is_refused_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    old = torch.torch_version.TorchVersion("2.9.1+cu128")
    monkeypatch.setattr(torch, "__version__", old)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"torch: expected 2\.10 or newer .* got 2\.9\.1"):
        estimate_training_memory(build_on_meta(tiny), (1, 1, 8, 8, 8))
    estimate = estimate_training_memory(build_on_meta(tiny), (1, 1, 8, 8, 8), device="cpu")
    assert estimate.total > 0
