import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from nnunet_triad.architectures import encoder_spec, plainconv_spec, resenc_spec
from pretraining.network import PretrainNetwork
from pretraining.objectives.paper import Paper
from pretraining.objectives.parts.decoder import Decoder

ANISOTROPIC = plainconv_spec("anisotropic", (4, 6, 8), strides=((1, 1, 1), (1, 2, 2), (2, 2, 4)))
RESENC = resenc_spec("small resenc", (4, 6, 8), blocks_per_stage=(1, 2, 1))
FLAT_STAGE = plainconv_spec(
    "flat stage", (4, 5, 6, 8), strides=((1,) * 3, (2,) * 3, (1,) * 3, (2,) * 3)
)
SPECS = (encoder_spec("swin_t"), ANISOTROPIC, RESENC, FLAT_STAGE)


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("has_skips", [False, True])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_autoencoder_returns_the_image_size_and_the_pooled_bottleneck(spec, has_skips):
    model = PretrainNetwork(Paper(has_skips=has_skips), spec)
    image = torch.randn(2, 1, 32, 64, 96)

    reconstruction, embedding = model({"image": image}).values()

    assert reconstruction.shape == image.shape
    assert embedding.shape == (2, spec.channels[-1])
    torch.testing.assert_close(embedding, model.encoder(image)[-1].flatten(2).mean(2))


@pytest.mark.parametrize("has_skips", [False, True])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_autoencoder_gradient_reaches_every_parameter(spec, has_skips):
    model = PretrainNetwork(Paper(has_skips=has_skips), spec)

    reconstruction, embedding = model({"image": torch.randn(2, 1, 64, 32, 32)}).values()
    (reconstruction.square().mean() + embedding.square().mean()).backward()

    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", ["unet", "swin_t", "swin_b"])
def test_decoder_has_a_block_for_each_halving(name):
    decoder = Decoder(encoder_spec(name))

    widths = [block[0].out_channels for block in decoder.blocks]

    channels = encoder_spec(name).channels
    expected = list(channels[-2::-1]) + ([channels[0]] if name != "unet" else [])
    assert widths == expected
    assert decoder.head.in_channels == channels[0]


@pytest.mark.parametrize("has_skips", [False, True])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
@pytest.mark.parametrize("width", [0.5, 2])
def test_decoder_of_another_width_leaves_the_encoder_as_it_is(spec, has_skips, width):
    model = PretrainNetwork(Paper(has_skips=has_skips, decoder_width=width), spec)
    plain = PretrainNetwork(Paper(has_skips=has_skips), spec)

    reconstruction, embedding = model({"image": torch.randn(1, 1, 64, 32, 32)}).values()

    assert reconstruction.shape == (1, 1, 64, 32, 32)
    assert embedding.shape == (1, spec.channels[-1])
    blocks = zip(model.decoder.blocks, plain.decoder.blocks, strict=True)
    widths = [(wide[0].out_channels, as_usual[0].out_channels) for wide, as_usual in blocks]
    assert all(wide == round(width * as_usual) for wide, as_usual in widths)


def test_decoder_equals_the_head_after_the_last_upsampling():
    decoder = Decoder(encoder_spec("swin_t"))
    feature = torch.randn(2, 192, 2, 1, 3)

    expected = feature
    for block in decoder.blocks:
        expected = F.interpolate(block(expected), scale_factor=2, mode="trilinear")
    expected = decoder.head(expected)

    torch.testing.assert_close(decoder([feature]), expected)


def test_decoder_without_skips_depends_on_the_coarsest_feature_alone():
    features = PretrainNetwork(Paper(), ANISOTROPIC).encoder(torch.randn(1, 1, 32, 64, 96))
    others = [torch.randn_like(feature) for feature in features[:-1]]

    decoder = Decoder(ANISOTROPIC)

    torch.testing.assert_close(decoder([*others, features[-1]]), decoder(features))


@pytest.mark.parametrize("spec", SPECS[:-1], ids=lambda spec: spec.name)
def test_decoder_with_skips_depends_on_the_feature_of_every_level(spec):
    model = PretrainNetwork(Paper(has_skips=True), spec)
    features = [f.detach().requires_grad_() for f in model.encoder(torch.randn(2, 1, 64, 32, 32))]

    decoded = model.decoder(features)
    decoded.square().mean().backward()

    assert decoded.shape == (2, 1, 64, 32, 32)
    assert all(feature.grad.abs().sum() > 0 for feature in features)


def test_autoencoder_with_recomputed_activations_has_the_same_gradients():
    spec = encoder_spec("swin_t")
    plain, recomputed = (PretrainNetwork(Paper(), spec, recompute=flag) for flag in (False, True))
    recomputed.load_state_dict(plain.state_dict())
    image = torch.randn(1, 1, 64, 32, 32)

    for model in (plain, recomputed):
        model({"image": image})["reconstruction"].square().mean().backward()

    for expected, found in zip(plain.parameters(), recomputed.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad)
