"""Transfer: what is loaded, adapted, fresh and unused, to the parameter; and what it computes."""

from pathlib import Path

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import nn

from nnunet_triad.architectures import (
    build_encoder,
    build_network,
    encoder_spec,
    plainconv_spec,
)
from nnunet_triad.weights.file import EncoderWeights, WeightsInfo, encoder_tensors
from nnunet_triad.weights.transfer import Count, TransferError, transfer_encoder

CHANNELS = (4, 8, 16, 24, 32, 32, 32, 32)  # narrow: only shapes matter here
KERNEL = (3, 3, 3)


def small_spec(num_stages=6, first_kernel=KERNEL):
    kernels = (first_kernel,) + (KERNEL,) * (num_stages - 1)
    return plainconv_spec("small", CHANNELS[:num_stages], kernel_sizes=kernels)


def weights_of(spec, seed=1, input_channels=1):
    torch.manual_seed(seed)
    encoder = build_encoder(spec, input_channels=input_channels)
    return encoder, EncoderWeights(
        path=Path("w.safetensors"),
        sha256="0" * 64,
        info=WeightsInfo(spec=spec, input_channels=input_channels),
        tensors={name: t.detach().clone() for name, t in encoder_tensors(encoder).items()},
    )


def unet(spec, input_channels):
    torch.manual_seed(2)
    return PlainConvUNet(
        input_channels=input_channels,
        n_stages=len(spec.channels),
        features_per_stage=spec.channels,
        conv_op=nn.Conv3d,
        kernel_sizes=[list(kernel) for kernel in spec.kernel_sizes],
        strides=[list(stride) for stride in spec.strides],
        n_conv_per_stage=2,
        num_classes=3,
        n_conv_per_stage_decoder=2,
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"affine": True},
        nonlin=nn.LeakyReLU,
    )


def state(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def stage_count(spec, stages):
    """Tensors and parameters of whole stages, from the formula: 2 x (conv, bias, norm, norm)."""
    inputs = (1, *spec.channels)
    parameters = sum(
        27 * (inputs[s] + spec.channels[s]) * spec.channels[s] + 6 * spec.channels[s]
        for s in stages
    )
    return Count(tensors=8 * len(stages), parameters=parameters)


@pytest.mark.parametrize("input_channels", [1, 4])
@pytest.mark.parametrize("first_kernel", [(3, 3, 3), (1, 3, 3)])
@pytest.mark.parametrize("num_stages", [5, 6, 7])
def test_plainconv_report_counts_every_parameter(input_channels, first_kernel, num_stages):
    source, target = small_spec(), small_spec(num_stages, first_kernel)
    _, weights = weights_of(source)
    network = unet(target, input_channels)
    report = transfer_encoder(network, weights)

    # The stem's kernel is adapted to channels; a flattened kernel concerns both convs of stage 0.
    is_flat, is_wide = first_kernel != KERNEL, input_channels != 1
    size = 9 if is_flat else 27
    adapted = []
    if is_flat or is_wide:
        adapted.append(size * input_channels * 4)
    if is_flat:
        adapted.append(size * 4 * 4)
    assert report.adapted == Count(tensors=len(adapted), parameters=sum(adapted))
    common = stage_count(source, range(min(num_stages, 6)))
    replaced = {0: 0, 1: 27 * 4, 2: 27 * 4 + 27 * 16}[len(adapted)]
    assert report.loaded == Count(
        tensors=common.tensors - len(adapted), parameters=common.parameters - replaced
    )
    assert report.fresh == stage_count(target, range(6, num_stages))
    assert report.unused == stage_count(source, range(num_stages, 6))
    encoder_size = sum(p.numel() for p in network.encoder.parameters())
    assert report.loaded.parameters + report.adapted.parameters + report.fresh.parameters == (
        encoder_size
    )
    whole = sum(p.numel() for p in network.parameters())
    assert report.outside_encoder.parameters == whole - encoder_size


def test_plainconv_without_adaptation_computes_the_source():
    source, weights = weights_of(small_spec())
    network = unet(small_spec(), 1)
    image = torch.randn(1, 1, 32, 64, 96)
    with torch.no_grad():
        before = network.encoder(image)[-1]
        transfer_encoder(network, weights)
        after, expected = network.encoder(image), source(image)
    assert not torch.allclose(before, expected[-1])
    assert all(torch.equal(a, e) for a, e in zip(after, expected, strict=True))


@pytest.mark.parametrize("input_channels", [1, 4])
def test_swin_unetr_report_counts_every_parameter(input_channels):
    spec = encoder_spec("swin_t")
    source, weights = weights_of(spec)
    network = build_network(spec, input_channels=input_channels, output_channels=2)
    report = transfer_encoder(network, weights)
    stem = 8 * 12
    num_adapted = int(input_channels != 1)
    assert report.adapted == Count(
        tensors=num_adapted, parameters=num_adapted * stem * input_channels
    )
    assert report.loaded == Count(
        tensors=len(list(source.parameters())) - num_adapted,
        parameters=sum(p.numel() for p in source.parameters()) - num_adapted * stem,
    )
    assert report.fresh == report.unused == Count(tensors=0, parameters=0)


def test_swin_unetr_without_adaptation_computes_the_source():
    spec = encoder_spec("swin_t")
    source, weights = weights_of(spec)
    network = build_network(spec, input_channels=1, output_channels=2)
    transfer_encoder(network, weights)
    image = torch.randn(1, 1, 32, 64, 32)
    with torch.no_grad():
        for after, expected in zip(network.swinViT(image), source(image), strict=True):
            # another memory layout, another order of the sums
            torch.testing.assert_close(after, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["unet", "swin_t"])
def test_equal_channels_give_the_response_of_one(name):
    spec = small_spec() if name == "unet" else encoder_spec(name)
    source, weights = weights_of(spec)
    encoder = build_encoder(spec, input_channels=4)
    transfer_encoder(encoder, weights)
    image = torch.randn(1, 1, 32, 64, 32)
    with torch.no_grad():
        for after, expected in zip(
            encoder(image.repeat(1, 4, 1, 1, 1)), source(image), strict=True
        ):
            torch.testing.assert_close(after, expected, rtol=1e-3, atol=1e-4)


def test_fewer_channels_are_summed():
    spec = small_spec()
    source, weights = weights_of(spec, input_channels=3)
    encoder = build_encoder(spec, input_channels=1)
    report = transfer_encoder(encoder, weights)
    stem = "stages.0.0.convs.0.conv.weight"
    assert report.adaptations == {stem: "3 -> 1 input channels"}
    expected = source.state_dict()[stem].sum(1, keepdim=True)
    torch.testing.assert_close(encoder.state_dict()[stem], expected)


@pytest.mark.parametrize(
    ("in_file", "here", "is_said"), [(3, 3, True), (3, 1, False), (1, 1, False)]
)
def test_order_of_several_channels_is_said_to_be_unknown(in_file, here, is_said):
    _, weights = weights_of(small_spec(), input_channels=in_file)
    report = transfer_encoder(build_encoder(small_spec(), input_channels=here), weights)
    assert any("in this order" in caution for caution in report.cautions) == is_said


def test_flattened_kernel_computes_the_same_where_the_image_is_constant_along_the_axis():
    _, weights = weights_of(small_spec())
    encoder = build_encoder(small_spec(6, (1, 3, 3)))
    transfer_encoder(encoder, weights)
    flat, full = encoder.stages[0][0].convs[0].conv, weights.tensors
    image = torch.randn(1, 1, 1, 8, 9).expand(1, 1, 5, 8, 9)
    name = "stages.0.0.convs.0.conv."
    expected = nn.functional.conv3d(
        image, full[name + "weight"], full[name + "bias"], padding=(0, 1, 1)
    )
    with torch.no_grad():
        torch.testing.assert_close(flat(image)[:, :, 1:-1], expected, rtol=1e-4, atol=1e-5)


def test_widened_kernel_has_the_source_in_its_centre():
    _, weights = weights_of(small_spec(6, (1, 3, 3)))
    encoder = build_encoder(small_spec())
    report = transfer_encoder(encoder, weights)
    name = "stages.0.0.convs.0.conv.weight"
    assert report.adaptations[name] == "kernel 1x3x3 -> 3x3x3"
    wide = encoder.state_dict()[name]
    assert torch.equal(wide[:, :, 1:2], weights.tensors[name])
    assert wide[:, :, [0, 2]].abs().sum() == 0


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel])
def test_wrapped_networks_are_looked_through(wrap):
    source, weights = weights_of(small_spec())
    network = unet(small_spec(), 1)
    transfer_encoder(wrap(network), weights)
    assert torch.equal(
        network.encoder.stages[0][0].convs[0].conv.weight, source.stages[0][0].convs[0].conv.weight
    )


@pytest.mark.parametrize(
    ("file_of", "network_of"),
    [("swin_t", "unet"), ("unet", "swin_t")],
)
def test_another_architecture_is_refused_and_the_network_untouched(file_of, network_of):
    _, weights = weights_of(encoder_spec(file_of))
    network = build_encoder(encoder_spec(network_of))
    before = state(network)
    with pytest.raises(TransferError, match=rf"got {file_of}, which fits \d+% of it"):
        transfer_encoder(network, weights)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_empty_match_is_refused():
    _, weights = weights_of(small_spec())
    nothing = EncoderWeights(
        path=weights.path, sha256=weights.sha256, info=weights.info, tensors={}
    )
    with pytest.raises(TransferError, match="fits 0% of it"):
        transfer_encoder(unet(small_spec(), 1), nothing)


def test_summary_names_every_exception():
    _, weights = weights_of(small_spec())
    report = transfer_encoder(unet(small_spec(7, (1, 3, 3)), 4), weights)
    text = report.summary()
    assert "1 -> 4 input channels, kernel 3x3x3 -> 1x3x3" in text
    assert "stages.6.0.convs.0.conv.weight: not in the file" in text
    assert weights.sha256 in text
    assert report.to_dict()["fresh"] == {"tensors": 8, "parameters": report.fresh.parameters}
