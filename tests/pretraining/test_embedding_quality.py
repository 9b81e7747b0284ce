"""The correlation of distances, the effective rank, and how they are measured in a run."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from nnunet_triad.architectures import build_encoder, encoder_spec
from pretraining.embedding_quality import (
    distance_correlation,
    effective_rank,
    measure_embeddings,
)


def naive_correlation(visual: np.ndarray, text: np.ndarray) -> float:
    pairs = [(i, j) for i in range(len(visual)) for j in range(i)]
    ranks = [
        rankdata([np.sqrt(((points[i] - points[j]) ** 2).sum()) for i, j in pairs])
        for points in (visual, text)
    ]
    return float(np.corrcoef(*ranks)[0, 1])


def test_distance_correlation_equals_a_loop_over_all_pairs():
    random = np.random.default_rng(0)
    visual, text = random.normal(size=(9, 4)), random.normal(size=(9, 3))
    text[3] = text[5]  # equal descriptions: ties

    assert distance_correlation(visual, text) == pytest.approx(naive_correlation(visual, text))


def test_distance_correlation_of_proportional_distances_is_one():
    text = np.random.default_rng(0).normal(size=(7, 3))
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))

    assert distance_correlation(5 * text @ rotation + 2, text) == pytest.approx(1)


def test_distance_correlation_of_reversed_distances_is_minus_one():
    visual = np.array([[0.0], [1.0], [3.0]])  # distances 1, 3, 2
    text = np.array([[0.0, 0.0], [3.0, 0.0], [0.5, 0.0]])  # distances 3, 0.5, 2.5: reversed

    assert distance_correlation(visual, text) == pytest.approx(-1)


@pytest.mark.parametrize(
    "text", [np.ones((5, 2)), np.zeros((2, 2))], ids=["equal texts", "too few images"]
)
def test_distance_correlation_without_meaning_is_none(text):
    assert distance_correlation(np.random.default_rng(0).normal(size=(len(text), 3)), text) is None


@pytest.mark.parametrize("directions", [1, 2, 5])
def test_effective_rank_of_equal_directions_is_their_number(directions):
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))

    assert effective_rank(3 * rotation[:directions]) == pytest.approx(directions)


def test_effective_rank_follows_its_formula():
    shares = np.array([0.5, 0.3, 0.2])
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 3)))

    found = effective_rank(rotation @ np.diag(7 * shares))

    assert found == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))


def test_effective_rank_sees_a_collapse_that_centring_would_hide():
    spread = np.random.default_rng(0).normal(size=(40, 16))

    assert effective_rank(spread) > 14
    assert effective_rank(spread + 1000) < 1.1
    assert effective_rank(0 * spread) == 0


def test_measures_are_those_of_the_embedded_centre_crops(make_settings, make_data):
    data = make_data(make_settings(held_out=4))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = build_encoder(encoder_spec("swin_t"))

    found = measure_embeddings(encoder, data, device=torch.device("cpu"))

    source, embeddings = data.dataset.source, []
    for volume in data.held_out:
        crop = source.read_box(data.table.names[volume], (4, 4, 8), (64, 32, 32))
        crop = (crop - data.table.means[volume]) / data.table.stds[volume]
        feature = encoder(torch.from_numpy(crop)[None, None].float())[-1]
        embeddings.append(feature.mean(dim=(2, 3, 4))[0].detach().numpy())
    text = data.texts(torch.from_numpy(data.held_out)).numpy()
    assert found["alignment"] == pytest.approx(naive_correlation(np.stack(embeddings), text))
    assert found["rank"] == pytest.approx(effective_rank(np.stack(embeddings)), rel=1e-4)


def test_nothing_is_measured_without_held_out_volumes(make_settings, make_data):
    data = make_data(make_settings(held_out=0))

    assert measure_embeddings(torch.nn.Identity(), data, device=torch.device("cpu")) == {}


def test_alignment_is_measured_without_the_log_ratio_loss_too(make_settings, make_data):
    data = make_data(make_settings(held_out=3, log_ratio_weight=0.0))

    assert data.texts is not None


def test_rank_is_measured_without_texts(make_settings, make_data):
    data = replace(make_data(make_settings(held_out=3)), texts=None)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = build_encoder(encoder_spec("swin_t"))

    (name,) = measure_embeddings(encoder, data, device=torch.device("cpu"))

    assert name == "rank"
