"""The command as a user types it: help, dry run, wrong inputs."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from nnunet_triad.architectures import ENCODERS, encoder_spec
from nnunet_triad.training.memory import num_parameters
from pretraining import dry_run, pretrain_cli
from pretraining.network import PretrainNetwork
from pretraining.objectives.masked import Masked
from pretraining.objectives.parts.log_ratio_loss import log_ratio_loss
from pretraining.pretrain_data import load_data, share_without_triplets
from tests.commands import exit_code

SMALL = ("--encoder", "swin_t", "--crop-size", "64,32,32", "--batch-size", "2", "--steps", "2")
TINY = (*SMALL, "--warmup-steps", "0", "--device", "cpu")


@pytest.fixture
def pretrain(capsys):
    """Run triad-pretrain; return its exit code and what it prints."""

    def pretrain(*arguments: object) -> tuple[int, str]:
        with torch.random.fork_rng():
            code = exit_code(pretrain_cli.main, "triad-pretrain", *arguments)
        return code, "".join(capsys.readouterr())

    return pretrain


def test_help_shows_the_papers_values(pretrain):
    code, printed = pretrain("--help")

    assert code == 0
    for value in (*ENCODERS, "200000", "1e-4 for U-Nets, 1e-6 for Swin", "0.01", "1000", "96"):
        assert value in " ".join(printed.split())
    assert "exits with code 75" in " ".join(printed.split())


def test_dry_run_measures_and_writes_nothing(pretrain, store_path, tmp_path):
    output = tmp_path / "run"

    code, printed = pretrain(store_path, output, *TINY, "--dry-run")

    assert code == 0
    assert not output.exists()
    model = PretrainNetwork(Masked(), encoder_spec("swin_t"))
    encoder, decoder = (num_parameters(half) / 1e6 for half in (model.encoder, model.decoder))
    assert f"parameters: encoder {encoder:.2f} M, decoder {decoder:.2f} M" in printed
    assert "data: 5 volumes of DATASET" in printed
    assert re.search(r"peak memory: \d+\.\d\d GiB on cpu", printed)
    assert re.search(r"time: \d+\.\d\d s a step .* for 2 steps", printed)


def test_crop_that_only_the_stride_makes_longer_is_taken_with_a_note(
    pretrain, store_path, tmp_path
):
    code, printed = pretrain(
        store_path, tmp_path / "run", *TINY, "--crop-size", "64,64,32", "--dry-run"
    )

    assert code == 0
    assert "note: 38% of each crop of (64, 64, 32) voxels is padding, as the volumes" in printed
    assert "note: in some 100% of the steps no descriptions can be compared" in printed
    assert printed.count("note: ") == 2


@pytest.mark.parametrize(("counts", "batch_size"), [((9, 1), 4), ((5, 3, 2), 3), ((10,), 8)])
def test_share_of_steps_without_a_loss_is_that_of_the_loss_itself(
    store_path, make_settings, counts, batch_size
):
    data = load_data(store_path, make_settings(held_out=0))
    codes = np.repeat(np.arange(len(counts)), counts)
    table = replace(data.table, names=("",) * len(codes), descriptions=pd.Categorical(codes))
    data = replace(data, sampler=replace(data.sampler, table=table))
    random = np.random.default_rng(0)
    texts = torch.nn.functional.one_hot(torch.from_numpy(codes), 4).float()
    draws = torch.from_numpy(random.integers(len(codes), size=(1000, batch_size)))
    zeros = [log_ratio_loss(torch.rand(batch_size, 8), texts[rows]) == 0 for rows in draws]
    assert share_without_triplets(data, batch_size) == pytest.approx(np.mean(zeros), abs=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "OUT", *TINY], "expected a volume store, got no store.json"),
        (["STORE", "FILE", *TINY], "expected a folder, got a file; choose another OUTPUT"),
        (["STORE", "OUT", "--crop-size", "96x96"], "--crop-size: expected one whole number, or"),
        (["STORE", "OUT", "--encoder", "resnet"], "encoder: expected one of unet"),
        (["STORE", "OUT", "--crop-size", "90"], "--crop-size: expected three multiples of 32"),
        (["STORE", "OUT", *TINY, "--balance", "organs"], "--balance: expected volume, dataset or"),
        (
            ["STORE", "OUT", *SMALL, "--warmup-steps", "2"],
            "--warmup-steps: expected zero or more and fewer than the 2 steps, got 2",
        ),
        (
            ["STORE", "OUT", *TINY, "--recipe", "vae"],
            "--objective: expected mae, masked, mdae, paper, simmim or spark",
        ),
        (["STORE", "OUT", *TINY, "--held-out", "5"], "--held-out: expected"),
        (
            ["STORE", "OUT", *TINY, "--crop-size", "96"],
            "--crop-size: expected at most 96,64,64, the volumes' 72,40,48 rounded up to the "
            "stride of swin_t, got 96,96,96, of which 84% would be padding; use --crop-size "
            "64,32,32",
        ),
        (["STORE", "OUT", *TINY, "--device", "mps"], "device: expected one that PyTorch"),
    ],
)
def test_wrong_input_prints_one_line(pretrain, store_path, tmp_path, arguments, message):
    (tmp_path / "file").touch()
    paths = {"STORE": store_path, "OUT": tmp_path / "out", "FILE": tmp_path / "file"}

    code, printed = pretrain(*(paths.get(argument, argument) for argument in arguments))

    assert code == 2
    assert message in printed
    assert printed.startswith("error: ")
    assert printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_command_without_enough_memory_prints_one_line(pretrain, store_path, tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 ...")

    monkeypatch.setattr(dry_run, "train_step", fail)

    code, printed = pretrain(store_path, tmp_path / "out", *TINY, "--dry-run")

    assert code == 2
    *_, line = printed.splitlines()  # after the note on descriptions
    assert line.startswith("error: memory: expected enough to go on, got 'CUDA out of memory")
    assert "try --recompute-activations, then a smaller --batch-size" in line
