"""What a training is said to take of a GPU."""

import re

import pytest

from nnunet_triad.training.memory import GIB
from nnunet_triad.training.memory_estimate import can_fake_gpu
from registration.cards import describe_cards, fit
from registration.settings import RegistrationSettings

SETTINGS = RegistrationSettings(network="transmorph_t")


def test_cards_are_told_from_the_range():
    words = fit((20 * GIB, 30 * GIB))
    assert words == "24 GB: may fit, 48 GB: fits, 80 GB: fits"
    assert fit((45 * GIB, 79 * GIB)) == "24 GB: does not fit, 48 GB: does not fit, 80 GB: fits"


@pytest.mark.skipif(not can_fake_gpu(), reason="this PyTorch needs a real GPU for it")
def test_less_is_estimated_where_activations_are_computed_again():
    lines = list(describe_cards(SETTINGS, (96, 96, 96)))
    pattern = r"estimate for GPUs, 96 x 96 x 96, fp32, (.*): ([0-9.]+) to .* GiB; 24 GB: fits, 48"
    (kept, most), (recomputed, least) = (re.match(pattern, line).groups() for line in lines)
    assert (kept, recomputed) == ("activations kept", "recomputed")
    assert float(least) < float(most)
