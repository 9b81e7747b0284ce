"""The memory layout changes the time, and nothing else."""

import pytest
import torch
from torch import nn

from nnunet_triad.architectures import build_swin_unetr, encoder_spec
from nnunet_triad.architectures.channels_last import (
    LAYOUT,
    AnyLayoutInstanceNorm3d,
    in_fastest_layout,
    prepare_for_channels_last,
)


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_norm_keeps_the_layout_and_equals_pytorch_s(batch_size: int, affine: bool) -> None:
    torch.manual_seed(0)
    theirs = nn.InstanceNorm3d(5, affine=affine, eps=1e-3)
    ours = AnyLayoutInstanceNorm3d(5, affine=affine, eps=1e-3)
    if affine:
        for norm in (theirs, ours):
            nn.init.constant_(norm.weight, 1.5)
            nn.init.constant_(norm.bias, 0.5)
    image = torch.randn(batch_size, 5, 4, 6, 8) * 3 + 2
    one, other = (image.clone().requires_grad_() for _ in range(2))
    expected = theirs(one)
    found = ours(other.contiguous(memory_format=LAYOUT))
    assert found.is_contiguous(memory_format=LAYOUT)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    (found * weights).sum().backward()
    torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-5)
    # the mode does not matter: there are no statistics to fall back on
    torch.testing.assert_close(ours.eval()(image.contiguous(memory_format=LAYOUT)), found)


def test_network_computes_channels_last_up_to_its_logits() -> None:
    network = build_swin_unetr(encoder_spec("swin_t"), input_channels=2, output_channels=3)
    layouts = []
    for module in network.modules():
        if isinstance(module, nn.InstanceNorm3d):
            module.register_forward_hook(
                lambda _, __, out: layouts.append(out.is_contiguous(memory_format=LAYOUT))
            )
    with torch.no_grad():
        network(torch.randn(2, 2, 32, 32, 64))
    assert len(layouts) > 20
    assert all(layouts)


@pytest.mark.parametrize("bias", [False, True])
def test_pointwise_convolution_keeps_the_layout_and_equals_pytorch_s(bias: bool) -> None:
    torch.manual_seed(0)
    theirs = nn.Conv3d(3, 5, 1, bias=bias)
    (ours,) = nn.Sequential(nn.Conv3d(3, 5, 1, bias=bias))
    prepare_for_channels_last(ours)
    ours.load_state_dict(theirs.state_dict())
    image = torch.randn(2, 3, 4, 6, 8)
    one, other = (image.clone().requires_grad_() for _ in range(2))
    expected, found = theirs(one), ours(other.contiguous(memory_format=LAYOUT))
    assert found.is_contiguous(memory_format=LAYOUT)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    for output in (expected, found):
        output.square().sum().backward()
    torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=1e-4, atol=1e-4)


def test_preparation_leaves_names_and_values() -> None:
    network = nn.Sequential(nn.Conv3d(1, 4, 3), nn.InstanceNorm3d(4, affine=True))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    prepare_for_channels_last(network)
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_norm_with_running_statistics_is_refused() -> None:
    with pytest.raises(ValueError, match="expected instance norms without running statistics"):
        prepare_for_channels_last(nn.InstanceNorm3d(4, track_running_stats=True))


def test_layout_of_an_image_elsewhere_is_left_alone() -> None:
    image = torch.empty(1, 2, 4, 4, 4, device="meta")
    assert in_fastest_layout(image) is image
