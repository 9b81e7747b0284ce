"""A pair of heads, and a network that moves things."""

import pytest
import torch

from registration.model_file import ModelInfo, save_model
from registration.settings import RegistrationSettings
from tests.registration.heads import SPACING, head, moving_network, save


@pytest.fixture
def seeded():
    """PyTorch's numbers from seed 0; the state is restored."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture
def pair():
    """A moving and a fixed head with labels: other places, other sizes, another noise."""
    return head(centre_mm=(6.0, 2.0, -4.0), scale=0.93, seed=1), head()


@pytest.fixture
def pair_files(tmp_path, pair):
    """Files of `pair`: moving, fixed, moving_labels, fixed_labels."""
    (moving, moving_labels), (fixed, fixed_labels) = pair
    return {
        "moving": save(tmp_path / "moving.nii.gz", moving),
        "fixed": save(tmp_path / "fixed.nii.gz", fixed),
        "moving_labels": save(tmp_path / "moving_labels.nii.gz", moving_labels),
        "fixed_labels": save(tmp_path / "fixed_labels.nii.gz", fixed_labels),
    }


@pytest.fixture
def settings():
    """A small diffeomorphic network at half resolution: fast, and its inverse is known."""
    return RegistrationSettings(
        network="transmorph_t", is_diffeomorphic=True, is_half_resolution=True
    )


@pytest.fixture
def model(settings):
    """A network of random weights that moves things, and its description."""
    return moving_network(settings), ModelInfo(settings=settings, spacing_mm=SPACING)


@pytest.fixture
def model_file(tmp_path, model):
    """The model as a file."""
    save_model(tmp_path / "run" / "model.safetensors", *model)
    return tmp_path / "run"
