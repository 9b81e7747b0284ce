"""Warp + LNCC + gradient loss, forward and backward, against the straightforward formulation.

    python -m benchmarks.registration_losses [SIZE] [ROUNDS]

Straightforward: `grid_sample` on a grid that is built each time, five 9x9x9 convolutions, and
squared differences, all left to automatic differentiation, as VoxelMorph and TransMorph publish
them. Memory is the peak of the process above its start, measured in a fresh process a formulation.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from monai.losses import LocalNormalizedCrossCorrelationLoss
from torch import Tensor
from torch.nn import functional

from benchmarks.side_by_side import format_table, run_in_turn
from registration.losses.gradient import gradient_loss
from registration.losses.lncc import lncc_loss
from registration.spatial import warp

SIZE = 96
ROUNDS = 5


def straightforward_warp(moving: Tensor, displacement: Tensor) -> Tensor:
    """Warp as published: a stacked grid, normalised axis by axis."""
    sizes = displacement.shape[2:]
    places = torch.meshgrid(*[torch.arange(0, size) for size in sizes], indexing="ij")
    grid = torch.stack(places)[None].float() + displacement
    for axis, size in enumerate(sizes):
        grid[:, axis] = 2 * (grid[:, axis] / (size - 1) - 0.5)
    grid = grid.permute(0, 2, 3, 4, 1)[..., [2, 1, 0]]
    return functional.grid_sample(moving, grid, align_corners=True, mode="bilinear")


def straightforward_lncc(one: Tensor, other: Tensor) -> Tensor:
    """Correlate as published: a dense convolution a sum."""
    kernel = torch.ones(1, 1, 9, 9, 9)

    def total(image: Tensor) -> Tensor:
        return functional.conv3d(image, kernel, padding=4)

    size = 9**3
    sum_one, sum_other = total(one), total(other)
    squares_one, squares_other, products = (
        total(one * one),
        total(other * other),
        total(one * other),
    )
    mean_one, mean_other = sum_one / size, sum_other / size
    cross = products - mean_other * sum_one - mean_one * sum_other + mean_one * mean_other * size
    variance_one = squares_one - 2 * mean_one * sum_one + mean_one * mean_one * size
    variance_other = squares_other - 2 * mean_other * sum_other + mean_other * mean_other * size
    return -torch.mean(cross * cross / (variance_one * variance_other + 1e-5))


def straightforward_gradient(displacement: Tensor) -> Tensor:
    """Regularise as published."""
    parts = []
    for axis in (2, 3, 4):
        difference = displacement.diff(dim=axis).abs()
        parts.append((difference * difference).mean())
    return sum(parts) / 3  # type: ignore[return-value]


def ours(moving: Tensor, fixed: Tensor, displacement: Tensor) -> None:
    """Do one forward and backward pass."""
    (lncc_loss(warp(moving, displacement), fixed) + gradient_loss(displacement)).backward()


def straightforward(moving: Tensor, fixed: Tensor, displacement: Tensor) -> None:
    """Do one forward and backward pass."""
    similarity = straightforward_lncc(fixed, straightforward_warp(moving, displacement))
    (similarity + straightforward_gradient(displacement)).backward()


def separable(moving: Tensor, fixed: Tensor, displacement: Tensor) -> None:
    """Do one forward and backward pass with MONAI's separable LNCC."""
    loss = LocalNormalizedCrossCorrelationLoss(kernel_size=9)
    similarity = loss(straightforward_warp(moving, displacement), fixed)
    (similarity + straightforward_gradient(displacement)).backward()


FORMULATIONS: dict[str, Callable[[Tensor, Tensor, Tensor], None]] = {
    "ours": ours,
    "straightforward": straightforward,
    "with MONAI's separable LNCC": separable,
}


def make_inputs(size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return a moving and a fixed image of noise, and a displacement of about a voxel."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 1, 1, size, size, size, generator=generator)
    displacement = torch.randn(1, 3, size, size, size, generator=generator).requires_grad_()
    return images[0], images[1], displacement


def peak_mib(name: str, size: int) -> float:
    """Return by how much one pass raises the peak of a fresh process, MiB."""
    command = [sys.executable, "-m", "benchmarks.registration_losses", str(size), "--memory", name]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _print_memory(name: str, size: int) -> None:
    FORMULATIONS[name](*make_inputs(8))  # threads and libraries are loaded
    inputs = make_inputs(size)
    before = _high_water_kib()
    FORMULATIONS[name](*inputs)
    print((_high_water_kib() - before) / 1024)


def _high_water_kib() -> int:
    """Return the peak of this process alone; `ru_maxrss` would start at the parent's (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def main(size: int, num_rounds: int) -> None:
    """Print the table and the peaks."""
    inputs = make_inputs(size)
    timings = run_in_turn(
        {name: lambda run=run: run(*inputs) for name, run in FORMULATIONS.items()},  # type: ignore[misc]
        num_rounds=num_rounds,
        clock=time.process_time,
    )
    print(
        f"CPU time, {size}x{size}x{size}, {torch.get_num_threads()} thread(s), {num_rounds} rounds"
    )
    print(format_table(timings, ours="ours", targets={"straightforward": 2.0}))
    for name in FORMULATIONS:
        print(f"peak memory, {name}: {peak_mib(name, size):.0f} MiB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("size", type=int, nargs="?", default=SIZE)
    parser.add_argument("rounds", type=int, nargs="?", default=ROUNDS)
    parser.add_argument("--memory", choices=FORMULATIONS, help="the peak of this one alone, MiB")
    chosen = parser.parse_args()
    if chosen.memory:
        _print_memory(chosen.memory, chosen.size)
    else:
        main(chosen.size, chosen.rounds)
