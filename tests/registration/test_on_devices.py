"""What a training asks of its device: how often it waits for it, in which precision it computes."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from registration.dry_run import random_pair
from registration.loop import predict_pair, start_training, train_pair
from registration.losses import gradient, lncc
from registration.settings import RegistrationSettings
from registration.training_data import RegistrationData, validation_loader
from tests.waits import counting_waits

SIZE = (32, 32, 32)
SETTINGS = RegistrationSettings(
    network="transmorph_t", epochs=1, is_half_resolution=True, dice_weight=1.0
)
NOTHING = RegistrationData(train=(None,), val=(), test=(), earlier_fingerprint="")


@pytest.fixture
def training():
    with torch.random.fork_rng():
        yield start_training(NOTHING, SETTINGS, None)


def test_step_waits_for_the_device_once(training):
    pair = random_pair(SIZE, has_labels=True, num_labels=3)
    with counting_waits() as waits:
        values = train_pair(training, pair)
    assert waits == ["registration/loop.py"]
    assert values["loss"] == pytest.approx(
        values["lncc"] + values["gradient"] + values["dice_loss"], rel=1e-5
    )


class NoFloat64(TorchDispatchMode):
    """As on MPS, no tensor is float64."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        assert getattr(output, "dtype", None) is not torch.float64, func
        return output


def test_step_needs_no_float64_where_there_is_none(training, monkeypatch):
    pair = random_pair(SIZE, has_labels=True, num_labels=3)
    with pytest.raises(AssertionError, match="aten"), NoFloat64():
        train_pair(training, pair)  # on a CPU sums are float64
    for module in (lncc, gradient):
        monkeypatch.setattr(module, "sum_dtype", lambda device: torch.float32)
    with NoFloat64():
        train_pair(training, pair)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_prediction_of_a_training_is_in_its_precision(training, precision):
    training.settings = replace(SETTINGS, precision=precision)
    seen = []
    training.network.encoder.register_forward_hook(
        lambda *_: seen.append(torch.is_autocast_enabled("cpu"))
    )
    pair = predict_pair(training, random_pair(SIZE, has_labels=False))
    assert seen == [precision == "bf16"]
    assert pair.warped.dtype == torch.float32


def test_validation_is_read_as_training_is():
    settings = replace(SETTINGS, workers=1)
    loader = validation_loader(NOTHING, settings)
    assert loader.num_workers == 1
    assert loader.multiprocessing_context.get_start_method() == "spawn"
