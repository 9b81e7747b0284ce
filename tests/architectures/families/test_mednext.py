"""MedNeXt: MONAI's names and sizes, its own levels, any size of image."""

import pytest
import torch
from monai.networks.nets.mednext import MedNeXtB, MedNeXtL, MedNeXtM, MedNeXtS

from nnunet_triad.architectures import build_encoder, build_network, encoder_spec
from nnunet_triad.architectures.families.mednext import mednext_spec
from nnunet_triad.architectures.meta import build_on_meta
from pretraining.objectives.parts.decoder import Decoder

SMALL = mednext_spec("small", (1, 2, 1), (2, 3, 2), width=4)
PUBLISHED = {
    "mednext_s": MedNeXtS,
    "mednext_b": MedNeXtB,
    "mednext_m": MedNeXtM,
    "mednext_l": MedNeXtL,
}


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "millions"),
    [("mednext_s", 5.55), ("mednext_b", 10.51), ("mednext_m", 17.54), ("mednext_l", 61.73)],
)
def test_network_has_the_parameters_of_the_library_s(name, millions):
    theirs = build_on_meta(lambda: PUBLISHED[name](deep_supervision=True))
    ours = build_on_meta(
        lambda: build_network(encoder_spec(name), input_channels=1, output_channels=2)
    )
    assert count(ours) == count(theirs)
    assert round(count(ours) / 1e6, 2) == millions


def test_names_are_the_library_s_below_encoder_and_decoder():
    theirs = build_on_meta(lambda: PUBLISHED["mednext_s"](deep_supervision=True))
    ours = build_on_meta(
        lambda: build_network(encoder_spec("mednext_s"), input_channels=1, output_channels=2)
    )
    shapes = {name.split(".", 1)[1]: t.shape for name, t in ours.state_dict().items()}
    assert shapes == {name: t.shape for name, t in theirs.state_dict().items()}
    inside = {name for name in ours.state_dict() if name.startswith("encoder.")}
    encoder = build_on_meta(lambda: build_encoder(encoder_spec("mednext_s")))
    assert inside == {f"encoder.{name}" for name in encoder.state_dict()}


def test_logits_are_the_library_s():
    torch.manual_seed(0)
    theirs = PUBLISHED["mednext_s"](out_channels=3, deep_supervision=True).train()
    ours = build_network(
        encoder_spec("mednext_s"), input_channels=1, output_channels=3, deep_supervision=True
    )
    state = theirs.state_dict()
    ours.load_state_dict({name: state[name.split(".", 1)[1]] for name in ours.state_dict()})
    image = torch.randn(1, 1, 16, 32, 16)
    with torch.no_grad():
        for found, expected in zip(ours(image), theirs(image), strict=True):
            assert torch.equal(found, expected)


def test_features_have_the_channels_and_grids_of_the_spec():
    with torch.no_grad():
        features = build_encoder(SMALL, input_channels=2)(torch.randn(1, 2, 8, 16, 12))
    assert [tuple(f.shape[1:]) for f in features] == [(4, 8, 16, 12), (8, 4, 8, 6), (16, 2, 4, 3)]


@pytest.mark.parametrize("sizes", [(5, 9, 12), (4, 4, 4)])
def test_any_size_is_padded_and_cropped_at_each_level(sizes):
    network = build_network(SMALL, input_channels=1, output_channels=2, deep_supervision=True)
    with torch.no_grad():
        outputs = network(torch.randn(1, 1, *sizes))
    grids = [tuple(max(round(n / 2**level), 1) for n in sizes) for level in range(3)]
    assert [tuple(output.shape[2:]) for output in outputs] == grids
    network.decoder.deep_supervision = False
    with torch.no_grad():
        assert network(torch.randn(1, 1, *sizes)).shape == (1, 2, *sizes)


def test_every_parameter_gets_a_gradient():
    network = build_network(SMALL, input_channels=1, output_channels=2, deep_supervision=True)
    sum(output.square().mean() for output in network(torch.randn(1, 1, 8, 8, 8))).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_masked_pretraining_step_reaches_every_parameter():
    encoder, decoder = build_encoder(SMALL), Decoder(SMALL, has_skips=True)
    reconstruction = decoder(encoder(torch.randn(2, 1, 8, 8, 16)))
    assert reconstruction.shape == (2, 1, 8, 8, 16)
    reconstruction.abs().mean().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())
    assert all(parameter.grad is not None for parameter in decoder.parameters())
