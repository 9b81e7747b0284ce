"""One training step of TransMorph-L on a pair at 96x96x96, against MONAI's stock Swin.

    python -m benchmarks.registration_step [ROUNDS]

Stock: MONAI's `SwinTransformer` as its own Swin UNETR builds it (no V2 convolutions, no
recomputation), TransMorph's decoder, and the losses as TransMorph publishes them. Ours with and
without its V2 convolutions, which the pre-trained encoders have, shows what those cost.
"""

import sys
from collections.abc import Callable

import torch
from monai.networks.nets.swin_unetr import SwinTransformer

from benchmarks.registration_losses import (
    straightforward_gradient,
    straightforward_lncc,
    straightforward_warp,
)
from benchmarks.side_by_side import format_table, run_in_turn
from nnunet_triad.training.memory import GIB, peak_memory
from registration.gradient_loss import gradient_loss
from registration.lncc_loss import lncc_loss
from registration.networks import RegistrationNetwork
from registration.spatial import warp

SIZE = 96
ROUNDS = 2


def make_network(*, is_stock: bool) -> RegistrationNetwork:
    """Build TransMorph-L, with the project's encoder or MONAI's stock one."""
    torch.manual_seed(0)
    network = RegistrationNetwork("transmorph_l")
    if is_stock:
        spec = network.spec
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
    """Return a training step: forward, losses, backward, Adam with amsgrad."""
    network = make_network(is_stock=is_stock)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-5, amsgrad=True)
    moving, fixed = torch.rand(2, 1, 1, SIZE, SIZE, SIZE)

    def step() -> None:
        displacement = network(moving, fixed)
        if has_published_losses:
            loss = straightforward_lncc(fixed, straightforward_warp(moving, displacement))
            loss = loss + straightforward_gradient(displacement)
        else:
            loss = lncc_loss(warp(moving, displacement), fixed) + gradient_loss(displacement)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def main(num_rounds: int) -> None:
    """Print the table."""
    timings = run_in_turn(
        {
            "ours": make_step(is_stock=False, has_published_losses=False),
            "stock Swin, published losses": make_step(is_stock=True, has_published_losses=True),
        },
        num_rounds=num_rounds,
        num_warmups=0,
    )
    print(f"{SIZE}x{SIZE}x{SIZE}, {torch.get_num_threads()} thread(s), {num_rounds} round(s)")
    print(format_table(timings, ours="ours"))
    print(f"peak memory of all: {peak_memory(torch.device('cpu')) / GIB:.2f} GiB")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
