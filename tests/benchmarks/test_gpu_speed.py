"""The benchmark of GPUs, end to end on a CPU with small networks."""

import json
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks import gpu_speed
from benchmarks.gpu_cases import TINY, Sizes, all_cases, matrix_product
from benchmarks.gpu_speed import Result

CPU = torch.device("cpu")


def test_command_measures_all_cases_and_writes_a_table_and_json(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu_speed", "--tiny", "--output", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    found = json.loads((tmp_path / "gpu_speed.json").read_text(encoding="utf-8"))
    assert len(found["results"]) == len(list(all_cases(TINY, CPU)))
    assert all(one["seconds"] > 0 and one["tflops"] > 0 for one in found["results"])
    who = {(one["task"], one["by"]) for one in found["results"]}
    assert {("segmentation", "nnU-Net"), ("segmentation", "MONAI")} <= who
    assert {("pre-training", "MONAI"), ("registration", "MONAI")} <= who
    assert {one["task"] for one in found["results"] if one["has_loader"]} == {
        "pre-training",
        "segmentation",
    }
    lines = (tmp_path / "gpu_speed.md").read_text(encoding="utf-8").splitlines()
    assert sum(line.startswith("| segmentation | ") for line in lines) == 5


def test_time_that_is_up_is_said_in_the_rows(tmp_path: Path) -> None:
    results = gpu_speed.run(CPU, tmp_path, is_tiny=True, end=0)
    assert {result.note for result in results} == {"not run: no time left"}


def test_gpu_gets_every_precision_and_peer() -> None:
    cases = list(all_cases(Sizes(), torch.device("cuda")))
    ways = {(c.by, c.precision, c.is_compiled) for c in cases if c.network == "swin_b"}
    compiled = ("ours", "bf16", True)
    assert ways == {(by, p, False) for by in ("ours", "MONAI") for p in ("fp32", "bf16")} | {
        compiled
    }
    assert {c.network for c in cases} > {
        "UNet",
        "SwinB",
        "SwinL",
        "SwinH",
        "swin_h",
        "transmorph_l",
    }


def test_rates_follow_from_the_step() -> None:
    row = Result(
        task="t",
        network="n",
        by="b",
        precision="bf16",
        is_compiled=True,
        has_loader=True,
        seconds=0.5,
        quartiles=(0.4, 0.6),
        samples_per_second=16.0,
        tflops=120.0,
        share_of_peak=0.25,
        peak_gib=3.5,
    ).row()
    expected = "| bf16, compiled | loader | 500 ms (400 .. 600) | 16 | 120 | 25% | 3.50 GiB |"
    assert row.endswith(expected)


def test_matrix_product_has_the_precision() -> None:
    assert matrix_product(CPU, "bf16", 8)().dtype == torch.bfloat16
