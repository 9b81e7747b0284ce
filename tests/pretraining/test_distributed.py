"""Two processes share each batch: the same run as one process."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from nnunet_triad.architectures import encoder_spec
from pretraining.network import PretrainNetwork
from pretraining.objectives.parts.log_ratio_loss import log_ratio_loss
from pretraining.settings import PretrainSettings
from tests.pretraining.processes import gather_in_two_processes, run_command, run_in_two_processes


def test_log_ratio_loss_over_two_processes_is_that_of_one(tmp_path: Path):
    generator = torch.Generator().manual_seed(0)
    visual = torch.randn(8, 5, generator=generator, requires_grad=True)
    text = torch.randn(8, 3, generator=generator)
    loss = log_ratio_loss(visual, text)
    loss.backward()

    first, second = gather_in_two_processes(visual.detach(), text, tmp_path)

    for found in (first["loss"], second["loss"]):
        torch.testing.assert_close(found, loss.detach(), rtol=1e-6, atol=0)
    # DistributedDataParallel averages over the processes, hence the 2
    gradient = torch.cat([first["gradient"], second["gradient"]]) / 2
    torch.testing.assert_close(gradient, visual.grad, rtol=1e-5, atol=1e-7)


# a hook in the encoder, learnt tokens of several levels, shares that differ between crops
MIXED = [
    *("--objective", "spark", "--hidden-becomes", "token", "--mask-block", "16", "--noise", "0.5"),
    *("--seen-weight", "0.5", "--intensity", "percentiles"),
]


@pytest.mark.parametrize(("more", "figure"), [([], "l1"), (MIXED, "hidden")])
def test_run_of_two_processes_equals_that_of_one(
    store_path: Path, tmp_path: Path, more: list[str], figure: str
):
    options = [
        *more,
        *("--encoder", "swin_t", "--steps", "3", "--batch-size", "8", "--held-out", "3"),
        # At 100 times this rate AdamW's first steps, each of the size of the rate whatever the
        # gradient, turn differences of rounding into differences of weights.
        *("--crop-size", "64,32,32", "--learning-rate", "1e-5", "--warmup-steps", "1"),
        *("--device", "cpu"),
    ]
    one, two = tmp_path / "one", tmp_path / "two"

    assert run_command([str(store_path), str(one), *options], tmp_path / "printed") == 0
    assert run_in_two_processes([str(store_path), str(two), *options], tmp_path / "p") == (0, 0)

    logs = [pd.read_csv(output / "log.csv") for output in (one, two)]
    for name in ("loss", figure, "alignment", "rank"):
        # the third step's losses have differed by 1.7e-5 on one processor
        np.testing.assert_allclose(logs[1][name], logs[0][name], rtol=1e-4, err_msg=name)
        np.testing.assert_allclose(logs[1][name][0], logs[0][name][0], rtol=5e-6, err_msg=name)
    assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}
    first, second = update(one), update(two)
    assert first.norm() > 1e-4
    # AdamW turns rounding into 1.2 % of the way on one processor
    assert (first - second).norm() < 0.05 * first.norm()


def update(output: Path) -> torch.Tensor:
    """How far all weights of a run went."""
    settings = PretrainSettings.from_dict(json.loads((output / "settings.json").read_text()))
    torch.manual_seed(0)
    network = PretrainNetwork(settings.objective, encoder_spec(settings.encoder))
    state = torch.load(output / "checkpoint.pt", weights_only=True)["model"]
    return torch.cat([(state[n] - p.detach()).flatten() for n, p in network.named_parameters()])


# SGD's update is as the gradient; AdamW's first ones have the size of the rate whatever theirs.
EIGHT = [
    *("--steps", "1", "--batch-size", "8", "--held-out", "3", "--crop-size", "64,32,32"),
    *("--optimizer", "sgd", "--learning-rate", "1e-3", "--warmup-steps", "0", "--device", "cpu"),
]


# The passes of a crop are the same bits; only a gradient's sum over the crops is rounded to bf16's
# 8 bits, once, or twice and then averaged: by half of the last bit each time.
BF16_SUMS = 3 * 2**-9


@pytest.mark.parametrize(
    ("precision", "two", "tolerance"),
    [
        ("bf16", [], BF16_SUMS),
        pytest.param("fp32", ["--compile"], 2e-4, marks=pytest.mark.long),
    ],
)
def test_two_processes_of_four_crops_make_the_step_of_one_of_eight(
    store_path: Path, tmp_path: Path, precision: str, two: list[str], tolerance: float
):
    common = [str(store_path), *EIGHT, "--encoder", "unet_t", "--precision", precision]
    outputs = [tmp_path / "one", tmp_path / "two"]
    assert run_command([*common, str(outputs[0])], tmp_path / "printed") == 0
    assert run_in_two_processes([*common, str(outputs[1]), *two], tmp_path / "p") == (0, 0)

    expected, found = (update(output) for output in outputs)
    assert (found - expected).norm() <= tolerance * expected.norm()
    losses = [pd.read_csv(output / "log.csv")["loss"] for output in outputs]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


def test_batch_that_processes_cannot_share_is_a_clear_error(store_path: Path, tmp_path: Path):
    arguments = [str(store_path), str(tmp_path / "run"), "--batch-size", "3", "--device", "cpu"]
    arguments += ["--encoder", "swin_t", "--crop-size", "64,32,32"]

    assert run_in_two_processes(arguments, tmp_path / "p") == (2, 2)

    *_, line = (tmp_path / "p.0").read_text().splitlines()  # after the note on descriptions
    assert line == "error: --batch-size: expected a multiple of the 2 processes, got 3"
