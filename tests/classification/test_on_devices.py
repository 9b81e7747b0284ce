"""What a training asks of its device: how often it waits for it, in which precision it computes."""

import pytest
import torch

from classification.loop import epoch_loader, start_training, train_step, validate
from nnunet_triad.training.loader import batches
from tests.waits import counting_waits

CPU = torch.device("cpu")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_waits_once_a_step_and_validates_in_its_precision(
    data, make_settings, precision: str
):
    training = start_training(data, make_settings(precision=precision), CPU)
    seen = []
    training.network.register_forward_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    batch = next(iter(batches(epoch_loader(training))))
    with counting_waits() as waits:
        train_step(training, batch)
    assert waits == ["classification/loop.py"]

    with counting_waits() as waits:
        validate(training)
    assert waits.count("classification/predict.py") == 1
    assert set(seen) == {precision == "bf16"}
