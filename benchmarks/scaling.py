"""How cost grows with size, encoder and the store, and how near it is to what the core can do.

    python -m benchmarks.scaling [--quick]

One thread, CPU time, medians. Operations are counted by PyTorch's `FlopCounterMode` over forward
and backward pass (convolutions and matrix products; a multiplication with its addition counts as
two). The limits are measured beside: a large matrix product, and copying memory.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.side_by_side import Timing, run_in_turn
from benchmarks.volumes import stored_volume
from nnunet_triad.architectures import build_network, encoder_spec
from pretraining.network import PretrainNetwork
from pretraining.objectives.paper import Paper
from pretraining.sampling import CropPlan, read_crop
from pretraining.store import VolumeStore

SERIES = "BENCHMARK/sub-001/ses-001/T1w"
Shape = tuple[int, int, int]
SHAPES: tuple[Shape, ...] = ((64, 32, 32), (64, 64, 32), (64, 64, 64))
NETWORKS = {
    "pre-training, swin_t": lambda: PretrainNetwork(Paper(), encoder_spec("swin_t")),
    "pre-training, unet": lambda: PretrainNetwork(Paper(), encoder_spec("unet")),
    "Swin UNETR, swin_t": lambda: build_network(
        encoder_spec("swin_t"), input_channels=1, output_channels=4
    ),
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two rounds, small sizes")
    is_quick = parser.parse_args().quick
    torch.set_num_threads(1)
    rounds = 2 if is_quick else 5
    print_limits(rounds)
    print_reading((32, 64) if is_quick else (16, 32, 64, 96, 128), rounds)
    print_steps(SHAPES[:1] if is_quick else SHAPES, rounds)


def print_limits(rounds: int) -> None:
    """Print what one core reaches at most, with this PyTorch and numpy."""
    a, b = torch.rand(1024, 1024), torch.rand(1024, 1024)
    source = np.zeros(1 << 27, np.uint8)
    target = np.empty_like(source)
    product, copy = measure(
        {"product": lambda: torch.mm(a, b), "copy": lambda: np.copyto(target, source)}, rounds
    )
    speed = 2 * 1024**3 / product.median_s / 1e9
    print_row("limit of one core", "reached", is_header=True)
    print_row("fp32 matrix product, 1024^3", f"{speed:.0f} GFLOP/s")
    print_row("copying 128 MiB", f"{source.nbytes / copy.median_s / 1e9:.1f} GB/s")


def print_reading(sizes: Iterable[int], rounds: int) -> None:
    """Print the time of one normalised crop by its size: what is asked for, and what is decoded."""
    volume = stored_volume()
    header = ("crop from the store", "time", "crops / s", "voxels / s", "decoded for it")
    print_row(*header, is_header=True)
    with tempfile.TemporaryDirectory() as folder:
        store = VolumeStore.create(Path(folder) / "store")
        store.write_series(SERIES, volume, {"series_id": SERIES})
        readers = {str(size): _reader(store, volume.shape, size) for size in sizes}
        for timing in measure(readers, rounds, num_calls=20):
            size, seconds = int(timing.name), timing.median_s
            print_row(
                f"{size}^3",
                f"{1e3 * seconds:.2f} ms",
                f"{1 / seconds:.0f}",
                f"{size**3 / seconds / 1e6:.0f} M",
                f"{_decoded_share(size):.1f} times the crop",
            )


def print_steps(shapes: Iterable[Shape], rounds: int) -> None:
    """Print forward and backward pass by network and crop size."""
    header = ("network, crop, batch 1", "time", "a voxel", "GFLOP", "GFLOP/s")
    print_row(*header, is_header=True)
    for name, build in NETWORKS.items():
        network = build()
        steps = {"x".join(map(str, shape)): _step(network, shape) for shape in shapes}
        counts = {crop: _count_gflop(step) for crop, step in steps.items()}
        voxels = dict(zip(steps, map(math.prod, shapes), strict=True))
        for timing in measure(steps, rounds):
            crop, seconds = timing.name, timing.median_s
            print_row(
                f"{name}, {crop}",
                f"{1e3 * seconds:.0f} ms",
                f"{1e9 * seconds / voxels[crop]:.0f} ns",
                f"{counts[crop]:.1f}",
                f"{counts[crop] / seconds:.0f}",
            )


def print_row(*cells: str, is_header: bool = False) -> None:
    """Print a row of a Markdown table; a header with an empty line before it."""
    before, after = ("\n", f"\n|{'---|' * len(cells)}") if is_header else ("", "")
    print(f"{before}| {' | '.join(cells)} |{after}", flush=True)


def measure(
    alternatives: dict[str, Callable[[], object]], rounds: int, *, num_calls: int = 1
) -> list[Timing]:
    """Time alternatives in turn by the process's clock."""
    return run_in_turn(
        alternatives, num_rounds=rounds, num_calls=num_calls, clock=time.process_time
    )


def _reader(store: VolumeStore, shape: tuple[int, ...], size: int) -> Callable[[], object]:
    generator = np.random.default_rng(0)

    def read() -> object:
        first, second, third = (int(generator.integers(n - size + 1)) for n in shape)
        plan = CropPlan(
            step=0,
            k=0,
            volume=0,
            name=SERIES,
            mean=1.0,
            std=1.0,
            start=(first, second, third),
            is_flipped=(False, False, False),
        )
        return read_crop(store, plan, size=(size, size, size))

    return read


def _decoded_share(size: int, block: int = 16) -> float:
    """Return the mean voxels of the blocks that a crop touches, in crops."""
    blocks = np.mean([(start + size - 1) // block + 1 for start in range(block)])
    return float((blocks * block / size) ** 3)


def _step(network: torch.nn.Module, shape: Shape) -> Callable[[], object]:
    image = torch.randn(1, 1, *shape)

    def step() -> None:
        if isinstance(network, PretrainNetwork):
            output = network({"image": image})["reconstruction"]
        else:
            output = network(image)
        output.square().mean().backward()

    return step


def _count_gflop(step: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / 1e9


if __name__ == "__main__":
    main()
