"""What the registry says of every family: specs in files, axes, and that nobody else asks."""

import copy
import itertools
import shutil

import pytest
import torch
from torch import nn

from nnunet_triad.architectures import (
    ENCODERS,
    NETWORKS,
    build_encoder,
    encoder_spec,
    family_of,
    plainconv_spec,
    resenc_spec,
    swin_spec,
)
from nnunet_triad.architectures.families import FAMILIES, read_spec, spec_from_dict
from nnunet_triad.architectures.families.mednext import mednext_spec
from nnunet_triad.architectures.families.primus import PrimusSpec

SMALL = {
    "plainconv": plainconv_spec(
        "plainconv",
        (4, 6, 8),
        strides=((1, 1, 1), (1, 2, 2), (2, 2, 1)),
        kernel_sizes=((1, 3, 3), (3, 3, 3), (3, 3, 1)),
    ),
    "resenc": resenc_spec(
        "resenc",
        (4, 6, 8),
        blocks_per_stage=(1, 2, 1),
        strides=((1, 1, 1), (1, 2, 2), (2, 2, 1)),
        kernel_sizes=((1, 3, 3), (3, 3, 3), (3, 3, 1)),
    ),
    "mednext": mednext_spec("mednext", (1, 2, 1), (2, 3, 2), width=4),
    "primus": PrimusSpec(
        name="primus", channels=(144,), strides=((8, 8, 8),), depth=1, num_heads=2, grid=(2, 2, 2)
    ),
    "swin": swin_spec("swin", 12, num_heads=(1, 2, 4, 8), window_size=4, use_v2=False),
}
# As the version before the families had specs of their own wrote them.
OLD_JSON = {
    "unet": {
        "name": "unet",
        "family": "plainconv",
        "channels": [32, 64, 128, 256, 320, 320],
        "strides": [[1, 1, 1]] + [[2, 2, 2]] * 5,
        "kernel_sizes": [[3, 3, 3]] * 6,
        "convs_per_stage": 2,
        "blocks_per_stage": [],
        "depths": [],
        "num_heads": [],
        "window_size": 7,
        "use_v2": True,
    },
    "swin_b_v1": {
        "name": "swin_b_v1",
        "family": "swin",
        "channels": [48, 96, 192, 384, 768],
        "strides": [[2, 2, 2]] * 5,
        "kernel_sizes": [],
        "convs_per_stage": 2,
        "blocks_per_stage": [],
        "depths": [2, 2, 2, 2],
        "num_heads": [3, 6, 12, 24],
        "window_size": 7,
        "use_v2": False,
    },
}


def tensors_of(encoder: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in encoder.named_parameters()}


@pytest.mark.parametrize("name", OLD_JSON)
def test_spec_of_an_earlier_version_s_file_is_read(name):
    assert spec_from_dict(OLD_JSON[name]) == encoder_spec(name)


def test_spec_with_a_field_that_never_was_is_refused():
    with pytest.raises(TypeError, match="num_layers"):
        spec_from_dict({**OLD_JSON["unet"], "num_layers": 3})


def test_every_network_has_an_encoder_and_every_family_a_name_of_its_own():
    assert set(NETWORKS.values()) <= set(ENCODERS)
    assert all(spec.family in FAMILIES for spec in ENCODERS.values())


@pytest.mark.parametrize("name", SMALL)
def test_spec_is_read_off_the_tensors_and_the_plan(name):
    spec = SMALL[name]
    arguments = {"strides": [list(stride) for stride in spec.strides]}
    tensors = dict(tensors_of(build_encoder(spec)))
    assert read_spec(tensors, arguments) == spec
    del tensors[FAMILIES[name].stem_weight]
    assert read_spec(tensors, arguments) is None  # a file that lacks its first layer


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("name", [n for n in SMALL if FAMILIES[n].can_permute_axes])
def test_permuted_parameters_give_permuted_features(name, order):
    torch.manual_seed(0)
    spec, family = SMALL[name], FAMILIES[name]
    encoder = build_encoder(spec, input_channels=2)
    permuted = build_encoder(family.permute_spec(spec, order), input_channels=2)
    permuted.load_state_dict(family.permute_axes(spec, encoder.state_dict(), order))
    axes = (0, 1, *(axis + 2 for axis in order))
    image = torch.randn(2, 2, 16, 24, 32)
    with torch.no_grad():
        expected = [feature.permute(axes) for feature in encoder(image)]
        found = permuted(image.permute(axes))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in SMALL if not FAMILIES[n].can_permute_axes])
def test_family_that_cannot_permute_says_to_permute_the_image(name):
    with pytest.raises(ValueError, match=f"got {name}; permute the image instead"):
        FAMILIES[name].permute_axes(SMALL[name], {}, (2, 1, 0))


@pytest.mark.parametrize("name", SMALL)
def test_layer_of_a_level_gives_its_feature_s_grid(name):
    spec = SMALL[name]
    encoder, family = build_encoder(spec), family_of(spec)
    grids = {}

    def keep(level):
        def hook(_module, _inputs, output):
            grids[level] = output.shape[2:]

        return hook

    for level in range(len(spec.channels)):
        encoder.get_submodule(family.layer_of(spec, level)).register_forward_hook(keep(level))
    with torch.no_grad():
        features = encoder(torch.randn(1, 1, 32, 64, 64))
    assert grids == {level: feature.shape[2:] for level, feature in enumerate(features)}


def train_a_step(encoder, image):
    """Return the loss and the gradient, by which a step goes.

    Where the parameters are after the step would tell less: a small step is lost in their rounding.
    """
    random = torch.Generator().manual_seed(0)
    # The mean square of a Swin's features would be one, as they are layer-normed: no gradient.
    loss = sum(
        (feature - torch.randn(feature.shape, generator=random)).square().mean()
        for feature in encoder(image)
    )
    loss.backward()
    return loss.detach(), torch.cat([p.grad.flatten() for p in encoder.parameters()])


@pytest.mark.long  # the compilers take minutes
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler on a CPU")
@pytest.mark.parametrize("name", SMALL)
def test_compiled_encoder_trains_as_the_plain_one(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch._dynamo.reset()
    torch.manual_seed(0)
    plain, image = build_encoder(SMALL[name]), torch.randn(2, 1, 32, 32, 64)
    encoder = copy.deepcopy(plain)
    compiled = torch.compile(encoder, backend="inductor", fullgraph=True)
    (expected, plain_way), (found, way) = train_a_step(plain, image), train_a_step(compiled, image)
    assert list(encoder.state_dict()) == list(plain.state_dict())
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    assert (way - plain_way).norm() <= 1e-3 * plain_way.norm()
