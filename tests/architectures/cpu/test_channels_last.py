"""The memory format changes the time, and nothing else."""

import pytest
import torch
from torch import nn

from nnunet_triad.architectures import build_network, encoder_spec
from nnunet_triad.architectures.cpu.accelerate import accelerate_on_cpu
from nnunet_triad.architectures.cpu.channels_last import (
    CHANNELS_LAST,
    ChannelsLastConv3d,
    ChannelsLastInstanceNorm3d,
    channels_last_on_cpu,
    prepare_for_channels_last,
)
from nnunet_triad.architectures.cpu.winograd import conv3d_winograd


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_norm_keeps_the_memory_format_and_equals_pytorch_s(batch_size: int, affine: bool) -> None:
    torch.manual_seed(0)
    theirs = nn.InstanceNorm3d(5, affine=affine, eps=1e-3)
    ours = ChannelsLastInstanceNorm3d(5, affine=affine, eps=1e-3)
    if affine:
        for norm in (theirs, ours):
            nn.init.constant_(norm.weight, 1.5)
            nn.init.constant_(norm.bias, 0.5)
    image = torch.randn(batch_size, 5, 4, 6, 8) * 3 + 2
    one, other = (image.clone().requires_grad_() for _ in range(2))
    expected = theirs(one)
    found = ours(other.contiguous(memory_format=CHANNELS_LAST))
    assert found.is_contiguous(memory_format=CHANNELS_LAST)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    (found * weights).sum().backward()
    torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-5)
    # the mode does not matter: there are no statistics to fall back on
    torch.testing.assert_close(ours.eval()(image.contiguous(memory_format=CHANNELS_LAST)), found)


@pytest.mark.parametrize("weighted", [False, True])
def test_norm_of_a_large_image_is_as_accurate_as_float32_is(weighted: bool) -> None:
    torch.manual_seed(0)
    norm = ChannelsLastInstanceNorm3d(6, affine=weighted)
    image = torch.randn(1, 6, 64, 64, 64) * 2 + 10
    found = norm(image.contiguous(memory_format=CHANNELS_LAST))
    exact = nn.InstanceNorm3d(6)(image.double())
    assert (found - exact).abs().max() < 1e-5


def test_norm_has_the_gradient_of_its_formula() -> None:
    torch.manual_seed(0)
    norm = ChannelsLastInstanceNorm3d(3, affine=True, eps=1e-2).double()
    image = torch.randn(2, 3, 3, 2, 4, dtype=torch.float64).contiguous(memory_format=CHANNELS_LAST)

    def normalise(image: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        named = dict(zip(("weight", "bias"), parameters, strict=True))
        return torch.func.functional_call(norm, named, (image,))

    assert torch.autograd.gradcheck(normalise, (image.requires_grad_(), *norm.parameters()))


@pytest.mark.parametrize("affine", [False, True])
def test_norm_in_half_precision_is_as_accurate_as_its_input(affine: bool) -> None:
    torch.manual_seed(0)
    norm = ChannelsLastInstanceNorm3d(6, affine=affine)
    image = (torch.randn(1, 6, 16, 16, 16) * 2 + 10).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = norm(image.contiguous(memory_format=CHANNELS_LAST).requires_grad_())
    found.float().square().mean().backward()
    exact = nn.InstanceNorm3d(6)(image.double())
    assert (found.double() - exact).abs().max() < 0.03  # one bit of bfloat16 at 4


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize("threads", [1, 2])  # PyTorch chooses other kernels for one
def test_network_computes_channels_last_up_to_its_logits(
    channels: int, is_training: bool, threads: int
) -> None:
    network = build_network(encoder_spec("swin_t"), input_channels=channels, output_channels=3)
    accelerate_on_cpu(network)
    network.train(is_training)
    formats = []
    for module in network.modules():
        if isinstance(module, (nn.InstanceNorm3d, ChannelsLastConv3d, nn.ConvTranspose3d)):
            module.register_forward_hook(
                lambda _, __, out: formats.append(out.is_contiguous(memory_format=CHANNELS_LAST))
            )
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.no_grad():
            network(torch.randn(2, channels, 32, 32, 64))
    finally:
        torch.set_num_threads(before)
    assert len(formats) > 40
    assert all(formats)


@pytest.mark.parametrize("bias", [False, True])
def test_pointwise_convolution_keeps_the_memory_format_and_equals_pytorch_s(bias: bool) -> None:
    torch.manual_seed(0)
    theirs = nn.Conv3d(3, 5, 1, bias=bias)
    (ours,) = nn.Sequential(nn.Conv3d(3, 5, 1, bias=bias))
    prepare_for_channels_last(ours)
    ours.load_state_dict(theirs.state_dict())
    image = torch.randn(2, 3, 4, 6, 8)
    one, other = (image.clone().requires_grad_() for _ in range(2))
    expected, found = theirs(one), ours(other.contiguous(memory_format=CHANNELS_LAST))
    assert found.is_contiguous(memory_format=CHANNELS_LAST)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    for output in (expected, found):
        output.square().sum().backward()
    torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("channels", [1, 16])
@pytest.mark.parametrize("is_training", [False, True])
def test_convolution_equals_pytorch_s(channels: int, bias: bool, is_training: bool) -> None:
    torch.manual_seed(0)
    theirs = nn.Conv3d(channels, 5, 3, padding=1, bias=bias)
    (ours,) = nn.Sequential(nn.Conv3d(channels, 5, 3, padding=1, bias=bias))
    prepare_for_channels_last(ours)
    ours.load_state_dict(theirs.state_dict())
    ours.train(is_training)
    image = torch.randn(2, channels, 6, 16, 16)
    one, other = (image.clone().requires_grad_() for _ in range(2))
    expected, found = theirs(one), ours(other)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for output in (expected, found):
        output.square().sum().backward()
    torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-4)
    for parameter, their_parameter in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, their_parameter.grad, rtol=1e-4, atol=1e-2)


def test_convolution_in_half_precision_stays_pytorch_s() -> None:
    (ours,) = nn.Sequential(nn.Conv3d(16, 5, 3, padding=1))
    prepare_for_channels_last(ours)
    image = torch.randn(1, 16, 6, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(image).grad_fn.name() != "_WinogradBackward"
    assert ours.bfloat16()(image.bfloat16()).grad_fn.name() != "_WinogradBackward"
    assert conv3d_winograd(
        image, torch.randn(5, 16, 3, 3, 3, requires_grad=True)
    ).grad_fn.name() == ("_WinogradBackward")


@pytest.mark.parametrize(
    "options",
    [{"stride": 2}, {"dilation": 2}, {"padding": 0}, {"padding_mode": "reflect"}, {"groups": 16}],
)
def test_other_convolutions_stay_pytorch_s(options: dict) -> None:
    (ours,) = nn.Sequential(nn.Conv3d(16, 16, 3, **{"padding": 1, **options}))
    prepare_for_channels_last(ours)
    assert type(ours) is nn.Conv3d


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


def test_memory_format_of_an_image_elsewhere_is_left_alone() -> None:
    image = torch.empty(1, 2, 4, 4, 4, device="meta")
    assert channels_last_on_cpu(image) is image
