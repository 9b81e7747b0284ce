"""The trainers' optimiser and schedule, iteration by iteration."""

import pytest
import torch

from nnunet_triad.weights.transfer import find_encoder
from studies.design import TRAININGS
from studies.segment import build_network, make_schedule, set_rates


def rates(name, iterations=20):
    """Learning rates by group, (iterations,) each."""
    network = build_network("unet_t", num_classes=2)
    schedule = make_schedule(network, "unet_t", TRAININGS[name], iterations=iterations)
    found = []
    for iteration in range(iterations):
        set_rates(schedule, iteration)
        found.append([group["lr"] for group in schedule.optimizer.param_groups])
    return torch.tensor(found, dtype=torch.float64).T


def test_rates_rise_to_the_end_of_the_warm_up_and_fall_by_nnunets_law():
    decoder, encoder = rates("adamw")

    expected = [0.5e-3, 1e-3, *(1e-3 * (1 - k / 18) ** 0.9 for k in range(18))]
    assert decoder.tolist() == pytest.approx(expected)
    assert encoder.tolist() == decoder.tolist()


def test_sawtooth_trains_the_decoder_alone_first():
    decoder, encoder = rates("adamw-sawtooth")

    # the end of the decoder's time is the beginning of the common rise, at zero
    assert decoder[:4].tolist() == pytest.approx([0.5e-3, 0, 0.5e-3, 1e-3])
    assert encoder[:4].tolist() == pytest.approx([0, 0, 0.5e-3, 1e-3])


def test_layer_wise_rates_fall_from_coarse_to_fine():
    decoder, *levels = rates("adamw-llrd")[:, 5].tolist()

    assert levels == pytest.approx([decoder * 0.75**k for k in range(1, len(levels) + 1)])
    assert len(levels) == 4


def test_a_frozen_encoder_is_in_no_group():
    network = build_network("unet_t", num_classes=2)
    schedule = make_schedule(network, "unet_t", TRAININGS["adamw-frozen"], iterations=10)
    frozen = set(find_encoder(network).parameters())

    trained = {p for group in schedule.optimizer.param_groups for p in group["params"]}

    assert frozen and not frozen & trained
    assert not any(parameter.requires_grad for parameter in frozen)
