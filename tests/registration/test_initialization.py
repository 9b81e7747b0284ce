"""What a registration's encoder gets from a file of one image."""

import pytest
import torch

from nnunet_triad.architectures import build_encoder, encoder_spec
from nnunet_triad.weights.file import WeightsInfo, save_weights
from nnunet_triad.weights.locate import load_weights
from registration.initialization import fill_encoder
from registration.networks import RegistrationNetwork

pytestmark = pytest.mark.usefixtures("seeded")


@pytest.fixture
def make_weights(tmp_path):
    """An encoder of so many input channels, and its file."""

    def make(input_channels: int):
        spec = encoder_spec("swin_t")
        encoder = build_encoder(spec, input_channels=input_channels)
        save_weights(tmp_path / "w.safetensors", encoder, WeightsInfo(spec=spec, axes="xyz"))
        return encoder, load_weights(tmp_path / "w.safetensors")

    return make


@pytest.mark.parametrize("name", ["transmorph_t", "swinunetr_t"])
def test_two_equal_images_give_the_files_response(name, make_weights):
    encoder, weights = make_weights(1)
    network = RegistrationNetwork(name)
    report = fill_encoder(network, weights)
    image = torch.rand(1, 1, 32, 32, 64)

    ours, theirs = network.encoder(torch.cat([image, image], dim=1)), encoder(image)

    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert report.share == 1
    (how,) = report.adaptations.values()
    assert how == "1 -> 2 input channels, the difference of the images fresh"


def test_the_encoder_tells_the_moving_image_from_the_fixed_one(make_weights):
    _, weights = make_weights(1)
    network = RegistrationNetwork("swinunetr_t")
    random = network.encoder.patch_embed.proj.weight.detach().clone()
    fill_encoder(network, weights)
    moving, fixed = torch.rand(2, 1, 1, 32, 32, 64)

    one = network.encoder(torch.cat([moving, fixed], dim=1))[0]
    exchanged = network.encoder(torch.cat([fixed, moving], dim=1))[0]

    assert (one - exchanged).abs().mean() > 0.1 * one.abs().mean()
    # What differs between the images passes through the kernels that the network came with.
    stem = network.encoder.patch_embed.proj.weight.detach()
    torch.testing.assert_close(stem[:, 0] - stem[:, 1], random[:, 0] - random[:, 1])


def test_two_contrasts_of_a_file_are_no_pair_of_moving_and_fixed(make_weights):
    """T1 and FLAIR of BrainSegFounder, say: their sum is what both images pass through."""
    encoder, weights = make_weights(2)
    network = RegistrationNetwork("swinunetr_t")
    random = network.encoder.patch_embed.proj.weight.detach().clone()

    report = fill_encoder(network, weights)

    image = torch.rand(1, 1, 32, 32, 64).expand(1, 2, 32, 32, 64)
    for one, other in zip(network.encoder(image), encoder(image), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    stem = network.encoder.patch_embed.proj.weight.detach()
    torch.testing.assert_close(stem[:, 0] - stem[:, 1], random[:, 0] - random[:, 1])
    assert report.adaptations == {
        "patch_embed.proj.weight": "2 input channels shared out, the difference of the images fresh"
    }


@pytest.mark.parametrize("is_standardized", [True, False])
def test_scale_that_the_weights_did_not_see_is_said(make_weights, is_standardized):
    _, weights = make_weights(1)
    network = RegistrationNetwork("swinunetr_t", is_standardized=is_standardized)
    report = fill_encoder(network, weights, percentile=99)
    scale = "zscore" if is_standardized else "percentiles 0 99"
    assert report.intensity.startswith(scale)
    assert bool(report.cautions) != is_standardized
