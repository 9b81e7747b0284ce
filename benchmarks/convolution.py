"""A 3x3x3 convolution with Winograd's filtering, and a norm channels last, against PyTorch's own.

    python -m benchmarks.convolution [--rounds 7]

Both channels last, forward and backward, with one thread on the CPU's clock, freed memory kept as
the trainers do. Errors are root mean squares against float64, in the same run.
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.side_by_side import format_table, run_in_turn
from nnunet_triad.architectures.cpu.allocator import keep_all_freed_memory
from nnunet_triad.architectures.cpu.channels_last import CHANNELS_LAST, ChannelsLastInstanceNorm3d
from nnunet_triad.architectures.cpu.winograd import conv3d_winograd

# Channels in and out, voxels along each edge: where Swin-B with patches of 64^3 spends its time.
CONVOLUTIONS = ((48, 48, 64), (96, 48, 64), (96, 96, 32), (192, 96, 32), (192, 192, 16))
OURS, THEIRS = "ours", "PyTorch's"


def main() -> None:
    """Print a table for each size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    keep_all_freed_memory()
    for inputs, outputs, size in CONVOLUTIONS:
        print(f"\n3x3x3 convolution, {inputs} to {outputs} channels, {size}^3\n")
        image, weight = _image(inputs, size), torch.randn(outputs, inputs, 3, 3, 3)
        weight = (weight / (27 * inputs) ** 0.5).requires_grad_()
        _compare(
            {OURS: conv3d_winograd, THEIRS: _direct},
            [image, weight],
            cotangent=outputs,
            rounds=rounds,
        )
    print("\ninstance norm, 48 channels, 64^3\n")
    ours = ChannelsLastInstanceNorm3d(48)
    theirs = nn.BatchNorm3d(48, affine=False, track_running_stats=False)
    _compare({OURS: ours, THEIRS: theirs}, [_image(48, 64)], cotangent=48, rounds=rounds)


def _direct(image: Tensor, weight: Tensor) -> Tensor:
    return functional.conv3d(image, weight, padding=1)


def _image(channels: int, size: int) -> Tensor:
    image = torch.randn(1, channels, size, size, size) + 3 * torch.randn(1, channels, 1, 1, 1)
    return image.contiguous(memory_format=CHANNELS_LAST).requires_grad_()


def _compare(
    functions: dict[str, Callable[..., Tensor]],
    arguments: list[Tensor],
    *,
    cotangent: int,
    rounds: int,
) -> None:
    size = arguments[0].shape[-1]
    gradient = _image(cotangent, size).detach()
    exact = functions[THEIRS](*(tensor.detach().double() for tensor in arguments))

    def step(function: Callable[..., Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(function(*arguments), arguments, gradient)

    timings = run_in_turn(
        {name: step(function) for name, function in functions.items()},
        num_rounds=rounds,
        clock=time.process_time,
    )
    print(format_table(timings, ours=OURS))
    for name, function in functions.items():
        error = (function(*arguments).detach() - exact).square().mean().sqrt().item()
        print(f"error, {name}: {error:.1e}")


if __name__ == "__main__":
    main()
