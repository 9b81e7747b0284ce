"""Two processes, as `nnUNetv2_train -num_gpus 2` starts them, on the CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nnunet_triad.architectures.families.swin import MERGINGS
from nnunet_triad.weights.locate import load_weights

NAMES = ["nnUNetTrainerTriadSwinT", "nnUNetTrainerTriadSwinT_llrd_sawtooth_1epoch"]


@pytest.fixture(params=NAMES)
def networks(
    request, make_trainer, weights_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, dict[str, torch.Tensor]]:
    """The networks of both ranks, after the start (start0, start1) and after two steps."""
    monkeypatch.setenv("TRIAD_WEIGHTS", str(weights_folder))
    init_args = make_trainer(request.param).my_init_kwargs
    init_args["plans"]["continue_training"] = False
    del init_args["device"]
    (tmp_path / "init_args.json").write_text(json.dumps(init_args))
    script = Path(__file__).parent / "train_as_rank.py"
    ranks = [
        subprocess.Popen([sys.executable, script, str(rank), request.param, tmp_path])
        for rank in (0, 1)
    ]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    return {path.stem: torch.load(path, weights_only=True) for path in tmp_path.glob("*.pt")}


def test_ranks_start_from_the_weights_and_stay_equal(
    networks: dict[str, dict[str, torch.Tensor]], weights_folder: Path
) -> None:
    tensors = load_weights(weights_folder / "triad_swin_t.safetensors").tensors
    start, end = networks["start0"], networks["end0"]
    for name, tensor in tensors.items():
        assert torch.equal(start[f"swinViT.{name}"], tensor)
    # the cases say no directions, so nnU-Net's z y x is taken; the weights saw x y z
    assert end["swinViT.conventions"].tolist() == [2, 1, 0, MERGINGS.index("new")]
    assert all(torch.equal(networks["start1"][name], value) for name, value in start.items())
    assert all(torch.equal(networks["end1"][name], value) for name, value in end.items())
    assert not torch.equal(start["out.conv.conv.weight"], end["out.conv.conv.weight"])
