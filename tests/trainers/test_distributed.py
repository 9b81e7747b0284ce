"""Two processes, as `nnUNetv2_train -num_gpus 2` starts them, on the CPU."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nnunet_triad.architectures.families.swin import MERGINGS
from nnunet_triad.trainers.suffixes import SUFFIXES
from nnunet_triad.weights.locate import load_weights

TRAINER = "nnUNetTrainerTriadSwinT"
SOME = [TRAINER, f"{TRAINER}_llrd_sawtooth"]
OTHERS = [f"{TRAINER}_{suffix}" for suffix in SUFFIXES] + ["nnUNetTrainerTriadUNet"]


@pytest.fixture
def train(make_trainer, weights_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Train in one process and in two; return their networks by size and moment (start0, ...).

    The two compile their networks where that is asked for; the one does not.
    """
    monkeypatch.setenv("TRIAD_WEIGHTS", str(weights_folder))

    def run(
        names: list[str], *, two_compile: bool = False
    ) -> dict[str, dict[int, dict[str, dict[str, Tensor]]]]:
        init_args = make_trainer(names[0]).my_init_kwargs
        init_args["plans"]["continue_training"] = False
        del init_args["device"]
        processes = []
        for size, rank in ((1, 0), (2, 0), (2, 1)):
            folder = tmp_path / str(size)
            folder.mkdir(exist_ok=True)
            (folder / "init_args.json").write_text(json.dumps(init_args))
            script = Path(__file__).parent / "train_as_rank.py"
            command = [sys.executable, script, str(rank), str(size), folder, *names]
            compiles = "t" if size == 2 and two_compile else "f"
            variables = {
                **os.environ,
                "nnUNet_results": str(folder / "results"),
                "nnUNet_compile": compiles,
            }
            processes.append(subprocess.Popen(command, env=variables))
        assert [process.wait(timeout=600) for process in processes] == [0, 0, 0]
        found = {}
        for name in names:
            found[name] = {
                size: {
                    path.suffixes[0][1:]: torch.load(path, weights_only=True)
                    for path in (tmp_path / str(size)).glob(f"{name}.*.pt")
                }
                for size in (1, 2)
            }
        shutil.rmtree(tmp_path / "1")
        return found

    return run


def is_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(other[name], value) for name, value in one.items())


def update(networks: dict[str, dict[str, Tensor]], part: str) -> Tensor:
    """How far the values of a part of the network went."""
    start, end = networks["start0"], networks["end0"]
    moved = [(end[n] - start[n]).flatten().float() for n in start if n.startswith(part)]
    return torch.cat(moved)


def check_as_one(name: str, networks: dict[int, dict[str, dict[str, Tensor]]]) -> None:
    """Both ranks of two hold the same values, and those of one process, to 1 % of the way."""
    one, two = networks[1], networks[2]
    for moment in ("start", "end"):
        assert is_equal(two[f"{moment}0"], two[f"{moment}1"])
    assert is_equal(one["start0"], two["start0"])
    for part in ("swinViT", "encoder", "decoder", "out"):  # of a U-Net the middle ones alone
        if any(key.startswith(part) for key in one["start0"]):
            expected, found = update(one, part), update(two, part)
            assert (expected - found).norm() <= 0.01 * expected.norm(), (name, part)


def test_two_processes_train_as_one_and_start_from_the_weights(train, weights_folder: Path) -> None:
    found = train(SOME)
    tensors = load_weights(weights_folder / "triad_swin_t.safetensors").tensors
    for name, networks in found.items():
        check_as_one(name, networks)
        assert update(networks[2], "swinViT").norm() > 0
        for key, tensor in tensors.items():
            assert torch.equal(networks[2]["start1"][f"swinViT.{key}"], tensor)
        # the cases say no directions, so nnU-Net's z y x is taken; the weights saw x y z
        convention = networks[2]["end0"]["swinViT.conventions"].tolist()
        assert convention == [2, 1, 0, MERGINGS.index("new")]


@pytest.mark.long  # two minutes
def test_two_processes_that_compile_train_as_one_that_does_not(train) -> None:
    names = ("nnUNetTrainerTriadUNet_sawtooth", "nnUNetTrainerTriadUNet_frozen")
    for name, networks in train(list(names), two_compile=True).items():
        check_as_one(name, networks)
        assert (update(networks[2], "encoder").norm() == 0) == ("frozen" in name)


@pytest.mark.long
def test_every_suffix_trains_in_two_processes_as_in_one(train) -> None:
    found = train(OTHERS)
    assert len(found) == len(SUFFIXES) + 1
    for name, networks in found.items():
        check_as_one(name, networks)
        encoder = "encoder" if name.endswith("UNet") else "swinViT"
        assert (update(networks[2], encoder).norm() == 0) == ("frozen" in name)
