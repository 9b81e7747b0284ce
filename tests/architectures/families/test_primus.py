"""Primus: the library's names, sizes and features; images of any size; nnssl's order of tokens."""

import pytest
import torch
from dynamic_network_architectures.architectures.primus import Primus, PrimusM
from einops import rearrange

from nnunet_triad.architectures import build_encoder, build_network, encoder_spec
from nnunet_triad.architectures.families.primus import PrimusSpec
from nnunet_triad.architectures.meta import build_on_meta
from pretraining.objectives.parts.decoder import Decoder

GRID = (2, 3, 4)
SMALL = PrimusSpec(
    name="small", channels=(144,), strides=((8, 8, 8),), depth=2, num_heads=2, grid=GRID
)
IMAGE = tuple(8 * size for size in GRID)


def library(spec, *, classes=3):
    return Primus(
        1, 144, (8, 8, 8), classes, spec.depth, spec.num_heads, tuple(8 * n for n in spec.grid),
        init_values=0.1, scale_attn_inner=True,
    ).eval()  # fmt: skip


def fill(ours, theirs):
    """Copy the library's values by name; ours has the encoder in an attribute."""
    state = theirs.state_dict()
    ours.load_state_dict({name: state[name.removeprefix("encoder.")] for name in ours.state_dict()})
    return ours.eval()


def test_network_has_the_parameters_and_names_of_the_library_s():
    theirs = build_on_meta(lambda: PrimusM(1, 2, (8, 8, 8), (160, 160, 160)))
    ours = build_on_meta(
        lambda: build_network(encoder_spec("primus_m"), input_channels=1, output_channels=2)
    )
    shapes = {name: tuple(p.shape) for name, p in theirs.named_parameters()}
    found = {name.removeprefix("encoder."): tuple(p.shape) for name, p in ours.named_parameters()}
    assert found == shapes
    assert round(sum(p.numel() for p in ours.parameters()) / 1e6, 1) == 152.0


def test_encoder_s_names_are_those_of_token_embedding_and_transformer():
    encoder = build_on_meta(lambda: build_encoder(encoder_spec("primus_m")))
    names = [name for name, _ in encoder.named_parameters()]
    assert names[:3] == [
        "down_projection.proj.weight",
        "down_projection.proj.bias",
        "eva.pos_embed",
    ]
    assert dict(encoder.named_parameters())["eva.pos_embed"].shape == (1, 20**3, 864)
    assert sum(p.numel() for p in encoder.parameters()) == 150_997_536


def test_logits_are_the_library_s_where_the_image_is_of_the_grid():
    torch.manual_seed(0)
    theirs = library(SMALL)
    ours = fill(build_network(SMALL, input_channels=1, output_channels=3), theirs)
    image = torch.randn(2, 1, *IMAGE)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image), rtol=0, atol=1e-5)


def test_other_grids_interpolate_learnt_positions_and_count_rotary_ones():
    torch.manual_seed(0)
    wide = PrimusSpec(
        name="w", channels=(144,), strides=((8, 8, 8),), depth=2, num_heads=2, grid=(4, 3, 2)
    )
    theirs = library(wide)
    ours = build_encoder(SMALL).eval()
    with torch.no_grad():
        theirs.eva.pos_embed.zero_()
        state = theirs.state_dict()
        state["eva.pos_embed"] = torch.zeros(1, 24, 144)
        ours.load_state_dict({name: state[name] for name in ours.state_dict()})
        image = torch.randn(1, 1, 32, 24, 16)
        tokens = theirs.eva(rearrange(theirs.down_projection(image), "b c x y z -> b (x y z) c"))[0]
        expected = rearrange(tokens, "b (x y z) c -> b c x y z", x=4, y=3)
        (found,) = ours(image)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_constant_positions_stay_constant_on_another_grid():
    torch.manual_seed(0)
    encoder = build_encoder(SMALL).eval()
    image = torch.randn(1, 1, 32, 16, 8)
    with torch.no_grad():
        encoder.eva.pos_embed.copy_(encoder.eva.pos_embed[:, :1].expand_as(encoder.eva.pos_embed))
        (first,) = encoder(image)
        encoder.down_projection.proj.bias += encoder.eva.pos_embed[0, 0]
        encoder.eva.pos_embed.zero_()
        (second,) = encoder(image)
    torch.testing.assert_close(first, second, rtol=0, atol=1e-5)


@pytest.mark.parametrize("sizes", [(9, 17, 30), (8, 8, 8)])
def test_any_size_is_padded_and_cropped(sizes):
    network = build_network(SMALL, input_channels=2, output_channels=3).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 2, *sizes)).shape == (1, 3, *sizes)


def test_recomputing_changes_neither_features_nor_gradients():
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        encoder = build_encoder(SMALL, recompute=recompute)
        encoder(torch.ones(1, 1, *IMAGE))[0].square().mean().backward()
        gradients.append([p.grad for p in encoder.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_masked_pretraining_step_reaches_every_parameter():
    encoder, decoder = build_encoder(SMALL, recompute=True), Decoder(SMALL, has_skips=True)
    reconstruction = decoder(encoder(torch.randn(2, 1, 16, 8, 24)))
    assert reconstruction.shape == (2, 1, 16, 8, 24)
    reconstruction.abs().mean().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())
    assert all(parameter.grad is not None for parameter in decoder.parameters())
