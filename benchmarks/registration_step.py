"""One training step of TransMorph-L on a pair at 96x96x96, against MONAI's stock Swin.

    python -m benchmarks.registration_step [ROUNDS]

Stock: MONAI's `SwinTransformer` as its own Swin UNETR builds it (no V2 convolutions, no
recomputation), TransMorph's decoder, and the losses as TransMorph publishes them. Ours has the V2
convolutions, which the pre-trained encoders have. A pair of 32x32x32 voxels warms both up; CPU time
counts. Both networks with Adam's states need about 7 GiB: with less at hand it does not start.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from monai.networks.nets.swin_unetr import SwinTransformer

from benchmarks.registration_losses import (
    straightforward_gradient,
    straightforward_lncc,
    straightforward_warp,
)
from benchmarks.side_by_side import format_table, run_in_turn
from nnunet_triad.architectures.families.swin import SwinSpec
from nnunet_triad.training.memory import GIB, peak_memory
from registration.losses.gradient import gradient_loss
from registration.losses.lncc import lncc_loss
from registration.networks import RegistrationNetwork
from registration.spatial import warp

SIZE = 96
WARMUP_SIZE = 32
ROUNDS = 3
LEAST_GIB = 8


def make_network(*, is_stock: bool) -> RegistrationNetwork:
    """Build TransMorph-L, with the project's encoder or MONAI's stock one."""
    torch.manual_seed(0)
    network = RegistrationNetwork("transmorph_l")
    if is_stock:
        spec = network.spec
        assert isinstance(spec, SwinSpec)
        network.body.swinViT = SwinTransformer(
            in_chans=2,
            embed_dim=spec.feature_size,
            window_size=(spec.window_size,) * 3,
            patch_size=spec.strides[0],
            depths=spec.depths,
            num_heads=spec.num_heads,
        )
    return network


def make_step(*, is_stock: bool, has_published_losses: bool) -> Callable[[], None]:
    """Return a training step, warmed up: forward, losses, backward, Adam with amsgrad."""
    network = make_network(is_stock=is_stock)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-5, amsgrad=True)

    def step(size: int = SIZE) -> None:
        moving, fixed = torch.rand(2, 1, 1, size, size, size)
        displacement = network(moving, fixed)
        if has_published_losses:
            loss = straightforward_lncc(fixed, straightforward_warp(moving, displacement))
            loss = loss + straightforward_gradient(displacement)
        else:
            loss = lncc_loss(warp(moving, displacement), fixed) + gradient_loss(displacement)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    step(WARMUP_SIZE)
    return step


def check_memory() -> None:
    """Refuse to start where the networks would push others' memory out (Linux tells how much)."""
    file = Path("/proc/meminfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    free = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    if free and free[0] < LEAST_GIB * GIB:
        sys.exit(f"expected {LEAST_GIB} GiB of free memory, got {free[0] / GIB:.1f}; try later")


def main(num_rounds: int) -> None:
    """Print the table."""
    check_memory()
    timings = run_in_turn(
        {
            "ours": make_step(is_stock=False, has_published_losses=False),
            "stock Swin, published losses": make_step(is_stock=True, has_published_losses=True),
        },
        num_rounds=num_rounds,
        num_warmups=0,
        clock=time.process_time,
    )
    threads = torch.get_num_threads()
    print(f"CPU time, {SIZE}x{SIZE}x{SIZE}, {threads} thread(s), {num_rounds} round(s)", flush=True)
    print(format_table(timings, ours="ours"))
    print(f"peak memory of all: {peak_memory(torch.device('cpu')) / GIB:.2f} GiB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rounds", type=int, nargs="?", default=ROUNDS)
    main(parser.parse_args().rounds)
