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
        np.testing.assert_allclose(logs[1][name], logs[0][name], rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(logs[1][name][0], logs[0][name][0], rtol=1e-6, err_msg=name)
    assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}
    assert_same_updates(one, two)


def assert_same_updates(one: Path, two: Path) -> None:
    """All weights went the same way, to within 1 % of the way."""
    settings = PretrainSettings.from_dict(json.loads((one / "settings.json").read_text()))
    torch.manual_seed(0)
    network = PretrainNetwork(settings.objective, encoder_spec("swin_t"))
    start = dict(network.named_parameters())
    states = [
        torch.load(output / "checkpoint.pt", weights_only=True)["model"] for output in (one, two)
    ]
    updates = [
        torch.cat([(state[name] - start[name]).flatten() for name in start]) for state in states
    ]
    assert updates[0].norm() > 1e-4
    assert (updates[0] - updates[1]).norm() < 0.01 * updates[0].norm()


def test_batch_that_processes_cannot_share_is_a_clear_error(store_path: Path, tmp_path: Path):
    arguments = [str(store_path), str(tmp_path / "run"), "--batch-size", "3", "--device", "cpu"]
    arguments += ["--encoder", "swin_t", "--crop-size", "64,32,32"]

    assert run_in_two_processes(arguments, tmp_path / "p") == (2, 2)

    *_, line = (tmp_path / "p.0").read_text().splitlines()  # after the note on descriptions
    assert line == "error: --batch-size: expected a multiple of the 2 processes, got 3"
