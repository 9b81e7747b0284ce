"""Encoder, pooling, head: sizes, gradients, the transfer of weights; the losses."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch.nn.functional import cross_entropy, instance_norm, leaky_relu

from classification.initialization import fill_encoder, read_weights, too_small_cube
from classification.losses import build_loss, class_weights
from classification.model import Classifier, NeighbourHead, cam_layer, two_layer_head
from classification.model_file import Description, build_network, load_model, save_model
from classification.settings import PreprocessSettings, TrainSettings
from nnunet_triad.architectures import build_encoder, encoder_spec
from nnunet_triad.errors import UserError
from nnunet_triad.weights.file import WeightsInfo, save_weights
from nnunet_triad.weights.transfer import Shown, find_encoder

DESCRIPTION = Description(classes=("a", "b", "c"), num_channels=2, initialization="scratch")


@pytest.fixture(autouse=True)
def seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("name", ["unet", "swin_t"])
def test_classifier_pools_the_last_feature_and_learns_everywhere(name):
    spec = encoder_spec(name)
    network = Classifier(spec, two_layer_head(spec.channels[-1], 3), input_channels=2)
    image = torch.randn(1, 2, 64, 32, 32)
    features = network.features(image)
    last = network.encoder(image)[-1]
    torch.testing.assert_close(features, last.flatten(2).mean(dim=2))
    network(image).square().sum().backward()
    missing = [n for n, p in network.named_parameters() if p.grad is None]
    assert missing == []


@pytest.mark.parametrize(
    ("encoder", "size", "is_told"),
    [("unet", 32, True), ("unet", 64, False), ("swin_t", 32, False), ("resenc", 32, False)],
)
def test_a_cube_that_leaves_one_voxel_to_instance_norm_is_told(encoder, size, is_told):
    settings = TrainSettings(encoder=encoder, preprocess=PreprocessSettings(size=size))
    assert bool(too_small_cube(settings)) == is_told


def test_two_values_of_an_instance_norm_differ_by_their_sign_alone():
    """Which is why the average after the ReLU says nothing: it is the same for each image."""
    first = torch.randn(4, 8)
    values = torch.stack([first, first + 1 + torch.rand(4, 8)], dim=2)[..., None, None]
    pooled = leaky_relu(instance_norm(values), 0.01).mean(dim=(2, 3, 4))
    assert torch.allclose(pooled, torch.full_like(pooled, 0.99 / 2), atol=1e-3)


def test_unet_takes_the_smallest_cube_that_its_stride_allows():
    spec = encoder_spec("unet")
    network = Classifier(spec, two_layer_head(320, 3))
    assert network.train()(torch.randn(1, 1, 32, 32, 32)).shape == (1, 3)


def test_head_is_two_linear_layers_as_wide_as_the_feature():
    head = two_layer_head(192, 5)
    shapes = [tuple(p.shape) for p in head.parameters()]
    assert shapes == [(192, 192), (192,), (5, 192), (5,)]
    assert two_layer_head(192, 5, 7)[0].out_features == 7


@pytest.mark.parametrize("name", ["unet_t", "swin_t", "resenc", "mednext_s", "primus_m"])
def test_cam_layer_exists_and_is_coarser_by_eight(name):
    spec = encoder_spec(name)
    network = Classifier(spec, two_layer_head(spec.channels[-1], 3))
    shapes = []
    layer = network.get_submodule(cam_layer(spec))
    layer.register_forward_hook(lambda module, inputs, output: shapes.append(output.shape))
    network(torch.randn(1, 1, 64, 64, 32))
    assert shapes[0][2:] == (8, 8, 4)


def test_weights_fill_the_encoder_and_leave_the_head(tmp_path, make_settings):
    spec = encoder_spec("swin_t")
    encoder = build_encoder(spec)
    path = tmp_path / "triad_swin_t.safetensors"
    save_weights(path, encoder, WeightsInfo(spec=spec))
    settings = make_settings(init=str(path))
    network = build_network(settings, DESCRIPTION)
    head = {name: p.clone() for name, p in network.head.named_parameters()}
    description = fill_encoder(network, read_weights(settings), DESCRIPTION, Shown())
    assert description.initialization == "triad"
    assert description.transfer["fresh"]["tensors"] == 0
    assert description.transfer["adapted"]["tensors"] == 1  # the stem, for two channels
    assert find_encoder(network) is network.encoder
    stem = "patch_embed.proj.weight"
    own, given = network.encoder.state_dict(), encoder.state_dict()
    torch.testing.assert_close(own[stem], given[stem].repeat(1, 2, 1, 1, 1) / 2)
    assert all(torch.equal(own[name], given[name]) for name in given if name != stem)
    assert all(torch.equal(p, head[name]) for name, p in network.head.named_parameters())


@pytest.mark.parametrize("init", ["nowhere/weights.pt", "triad"])
def test_missing_weights_are_refused(make_settings, monkeypatch, init):
    monkeypatch.delenv("TRIAD_WEIGHTS", raising=False)
    settings = make_settings(init=init)
    with pytest.raises(UserError, match=r"expected .*weights file"):
        read_weights(settings)


@pytest.mark.parametrize("mode", ["finetune", "linear-probe", "knn"])
def test_model_file_keeps_the_model(tmp_path, make_settings, mode):
    settings = make_settings(mode=mode)
    description = Description(
        classes=("a", "b", "c"), num_channels=2, initialization="triad", num_neighbours_of=4
    )
    network = build_network(settings, description).eval()
    save_model(tmp_path / "model.pt", network, settings, description, epoch=3)
    model = load_model(tmp_path)
    assert (model.settings, model.description, model.epoch) == (settings, description, 3)
    image = torch.randn(1, 2, 32, 32, 32)
    assert torch.equal(model.network(image), network(image))


def test_what_is_no_model_file_is_refused(tmp_path):
    (tmp_path / "model.pt").write_text("no model")
    with pytest.raises(UserError, match="checkpoint of triad-classify train"):
        load_model(tmp_path)


def test_neighbours_vote_as_scikit_learns():
    random = np.random.default_rng(0)
    train, labels = random.normal(size=(40, 6)), random.integers(3, size=40)
    queries = random.normal(size=(9, 6))
    head = NeighbourHead(40, 6, 3)
    head.vectors.copy_(torch.from_numpy(train))
    head.labels.copy_(torch.from_numpy(labels))
    head.num_neighbours.fill_(5)
    expected = KNeighborsClassifier(5, metric="cosine").fit(train, labels).predict_proba(queries)
    found = head(torch.from_numpy(queries)).exp().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


COUNTS = np.array([6, 3, 1])


def test_weighted_loss_weighs_classes_inversely():
    weights = class_weights(COUNTS)
    torch.testing.assert_close(weights, torch.tensor([10 / 18, 10 / 9, 10 / 3]))
    logits, labels = torch.randn(8, 3), torch.tensor([0, 1, 2, 2, 1, 0, 0, 1])
    loss = build_loss("weighted", COUNTS, gamma=2, device=torch.device("cpu"))
    each = cross_entropy(logits, labels, reduction="none") * weights[labels]
    torch.testing.assert_close(loss(logits, labels), each.sum() / weights[labels].sum())


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_focal_loss_is_its_formula(gamma):
    logits, labels = torch.randn(8, 3), torch.tensor([0, 1, 2, 2, 1, 0, 0, 1])
    loss = build_loss("focal", COUNTS, gamma=gamma, device=torch.device("cpu"))
    share = logits.softmax(dim=1)[range(8), labels]
    expected = -((1 - share) ** gamma * share.log()).mean()
    torch.testing.assert_close(loss(logits, labels), expected)
