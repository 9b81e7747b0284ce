import pytest
import torch
from monai.networks.nets.swin_unetr import SwinUNETR

from nnunet_triad.architectures.families import registration_networks
from nnunet_triad.errors import UserError
from registration.networks import RegistrationNetwork, network_spec
from registration.spatial import compose

SIZES = (40, 36, 33)  # none divisible by 32


pytestmark = pytest.mark.usefixtures("seeded")


def head_of(network):
    return network.body.head if network.name.startswith("transmorph") else network.body.out


def image_pair(sizes=SIZES):
    moving, fixed = torch.rand(2, 1, 1, *sizes)
    return moving, fixed


@pytest.mark.parametrize("name", ["transmorph_t", "swinunetr_t"])
@pytest.mark.parametrize("is_half", [False, True])
def test_network_gives_displacement_of_any_size_near_zero_at_start(name, is_half):
    network = RegistrationNetwork(name, is_half_resolution=is_half)
    displacement = network(*image_pair())
    assert displacement.shape == (1, 3, *SIZES)
    assert 0 < displacement.abs().max() < 0.01


@pytest.mark.parametrize("name", ["transmorph_t", "swinunetr_t"])
def test_checkpointing_leaves_gradients_as_they_are(name):
    moving, fixed = image_pair((32, 32, 64))
    gradients = []
    for use_checkpoint in (False, True):
        torch.manual_seed(1)
        network = RegistrationNetwork(name, use_checkpoint=use_checkpoint)
        torch.nn.init.normal_(head_of(network).weight)
        network(moving, fixed).square().mean().backward()
        gradients.append(network.encoder.patch_embed.proj.weight.grad)
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(gradients[0], gradients[1])


def test_transmorph_l_has_the_levels_of_transmorph_large(monkeypatch):
    monkeypatch.setattr("registration.networks.build_encoder", lambda *args, **kwargs: None)
    with torch.device("meta"):
        body = RegistrationNetwork("transmorph_l").body
    base = 192  # of the level at /4
    blocks = (body.up0, body.up1, body.up2, body.up3, body.up4)
    assert [tuple(block.conv1[0].weight.shape[:2]) for block in blocks] == [
        (4 * base, 12 * base),
        (2 * base, 6 * base),
        (base, 3 * base),
        (base // 2, base + base // 2),
        (16, base // 2 + 16),
    ]
    assert body.head.weight.shape == (3, 16, 3, 3, 3)


def test_transmorph_uses_every_parameter():
    network = RegistrationNetwork("transmorph_t")
    torch.nn.init.normal_(network.body.head.weight)
    network(*image_pair((64, 32, 32))).square().mean().backward()
    unused = [name for name, p in network.named_parameters() if p.grad is None]
    assert unused == []


def test_swinunetr_equals_monai_but_for_its_head():
    network = RegistrationNetwork("swinunetr_t")
    spec = network.spec
    monai = SwinUNETR(
        in_channels=2, out_channels=3, feature_size=spec.feature_size, depths=spec.depths,
        num_heads=spec.num_heads, window_size=spec.window_size, use_v2=True,
    )  # fmt: skip
    state = {n: t for n, t in network.body.state_dict().items() if not n.startswith("out.")}
    monai.load_state_dict(state, strict=False)
    monai.out = network.body.out
    images = torch.rand(1, 2, 32, 64, 32)
    torch.testing.assert_close(network.body(images), monai(images))


def test_standardized_network_sees_air_in_the_margin():
    network = RegistrationNetwork("swinunetr_t", is_half_resolution=True, is_standardized=True)
    moving, fixed = image_pair()  # of sizes that are padded at the end of each axis
    seen = []
    network.body.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))

    network.predict(moving, fixed)

    x, y, z = SIZES
    for channel, image in enumerate((moving, fixed)):
        inside = seen[0][0, channel, :x, :y, :z]
        assert inside.mean().item() == pytest.approx(0, abs=1e-5)
        assert inside.std(correction=0).item() == pytest.approx(1, abs=1e-5)
        air = (0 - image.mean()) / image.std(correction=0)
        torch.testing.assert_close(seen[0][0, channel, -1, -1, -1], air)


def test_standardized_network_does_not_see_brightness_and_contrast():
    network = RegistrationNetwork("swinunetr_t", is_half_resolution=True, is_standardized=True)
    torch.nn.init.normal_(head_of(network).weight, std=0.1)
    plain = RegistrationNetwork("swinunetr_t", is_half_resolution=True)
    plain.load_state_dict(network.state_dict())
    moving, fixed = image_pair((32, 32, 64))  # nothing is padded, with what is air elsewhere

    with torch.no_grad():
        one, other = network(moving, fixed), network(5 * moving - 3, 0.1 * fixed + 2)
        unlike = plain(5 * moving - 3, 0.1 * fixed + 2)
        empty = network(torch.zeros_like(moving), fixed)

    torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
    assert (unlike - one).abs().max() > 0.1
    assert empty.isfinite().all()


def test_diffeomorphic_network_knows_its_inverse():
    network = RegistrationNetwork("transmorph_t", is_diffeomorphic=True, is_half_resolution=True)
    torch.nn.init.normal_(network.body.head.weight, std=0.02)
    with torch.no_grad():
        field = network.predict(*image_pair())
        field = torch.nn.functional.avg_pool3d(field, 5, 1, 2)
        there = network.displacement(field, SIZES)
        back = network.displacement(field, SIZES, sign=-1)
    error = compose(there, back)[:, :, 8:-8, 8:-8, 8:-8].norm(dim=1)
    size = there.norm(dim=1)
    assert size.mean() > 0.1
    assert error.mean() < 0.1 * size.mean()


def test_network_names_are_checked():
    assert network_spec("swinunetr_b")[1].feature_size == 48
    assert network_spec("swinunetr_b_v1")[1].use_v2 is False
    assert {"transmorph_t", "transmorph_b_v1", "swinunetr_h"} <= set(registration_networks())
    with pytest.raises(UserError, match=r"network: expected one of .*transmorph_t.*got 'trans"):
        network_spec("transmorph_xl")


def test_encoder_without_features_for_a_decoder_is_named():
    with pytest.raises(UserError, match=r"fit swinunetr's decoder, got unet \(plainconv, 6 level"):
        network_spec("swinunetr_unet")


@pytest.mark.parametrize("name", ["transmorph_unet_t", "transmorph_mednext_s"])
def test_convolutional_encoder_registers(name):
    torch.manual_seed(0)
    network = RegistrationNetwork(name, is_half_resolution=True)
    moving, fixed = torch.rand(2, 1, 1, 20, 16, 24)
    displacement = network(moving, fixed)
    assert displacement.shape == (1, 3, 20, 16, 24)
    displacement.square().sum().backward()
    names = {n for n, p in network.named_parameters() if p.grad is None}
    assert not names
