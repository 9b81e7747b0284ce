"""3x3x3 convolutions on a CPU with half the multiplications: Winograd's filtering along x.

Four neighbouring outputs of a 1D filter of three taps need twelve multiplications; Winograd's
F(4, 3) needs six. Along y and z the filter stays as it is, so a 3D convolution becomes six 2D
convolutions for each four planes, and two small matrix products around them. A few planes at a
time stay in the processor's cache; no transformed volume is ever kept.

Source: Winograd, Arithmetic Complexity of Computations (1980); Lavin and Gray, Fast Algorithms for
Convolutional Neural Networks (CVPR 2016), whose matrices of F(4, 3) these are.

Axes: b batch, i and o channels of input and output, x y z space, k the six filtered planes.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.grad import conv2d_weight

TILE = 4  # output planes of a tile
TAPS = 3

_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_FILTER = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_OUTPUT = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)


def conv3d_winograd(image: Tensor, weight: Tensor) -> Tensor:
    """Convolve with stride 1 and padding 1, as `torch.nn.functional.conv3d` does.

    In float32 its rounding error is one to five times that of the direct sum, about 1e-6 for
    outputs of size one. It can be differentiated once.

    Args:
        image: (b, i, x, y, z) on a CPU; fast when channels last.
        weight: (o, i, 3, 3, 3), of the same type.

    Returns:
        (b, o, x, y, z), channels last.
    """
    output: Tensor = _Winograd.apply(image, weight)
    return output


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(image, weight)
        return _convolve(image, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        image, weight = ctx.saved_tensors
        of_image = of_weight = None
        if ctx.needs_input_grad[0]:
            of_image = _convolve(gradient, weight.flip(2, 3, 4).transpose(0, 1))
        if ctx.needs_input_grad[1]:
            of_weight = _weight_gradient(image, gradient)
        return of_image, of_weight


def _convolve(image: Tensor, weight: Tensor) -> Tensor:
    num_outputs = weight.shape[0]
    kernels = torch.einsum("kx,oixyz->koiyz", image.new_tensor(_FILTER), weight)
    filters = [kernel.contiguous(memory_format=torch.channels_last) for kernel in kernels]
    to_output = image.new_tensor(_OUTPUT)
    b, _, x, y, z = image.shape
    output = image.new_empty(b, x, y, z, num_outputs)
    products = image.new_empty(len(filters), y, z, num_outputs)
    for item, start, planes in _filtered_tiles(image):
        for k, kernel in enumerate(filters):
            convolved = functional.conv2d(planes[k], kernel, padding=1)
            products[k] = convolved[0].permute(1, 2, 0)
        tile = output[item, start : start + TILE]
        torch.mm(to_output[: len(tile)], products.flatten(1), out=tile.view(len(tile), -1))
    return output.permute(0, 4, 1, 2, 3)


def _weight_gradient(image: Tensor, gradient: Tensor) -> Tensor:
    y, z = image.shape[3:]
    num_outputs, num_inputs = gradient.shape[1], image.shape[1]
    shape = (num_outputs, num_inputs, TAPS, TAPS)
    to_products = image.new_tensor(_OUTPUT).T
    sums = image.new_zeros(len(_INPUT), *shape)
    rows = [_rows(item) for item in gradient]
    for item, start, planes in _filtered_tiles(image):
        of_products = torch.mm(to_products, _planes(rows[item], start, TILE))
        of_products = of_products.view(-1, 1, y, z, num_outputs).permute(0, 1, 4, 2, 3)
        for k in range(len(_INPUT)):
            sums[k] += conv2d_weight(planes[k], shape, of_products[k], padding=1)
    return torch.einsum("kx,koiyz->oixyz", image.new_tensor(_FILTER), sums)


def _filtered_tiles(image: Tensor) -> Iterator[tuple[int, int, Tensor]]:
    """Yield item, first output plane, and the six filtered planes (k, 1, i, y, z) of each tile."""
    matrix = image.new_tensor(_INPUT)
    channels, x, y, z = image.shape[1:]
    for number, item in enumerate(image):
        rows = _rows(item)
        for start in range(0, x, TILE):
            filtered = torch.mm(matrix, _planes(rows, start - 1, len(_INPUT)))
            yield number, start, filtered.view(-1, 1, y, z, channels).permute(0, 1, 4, 2, 3)


def _rows(volume: Tensor) -> Tensor:
    """Return (c, x, y, z) as (x, yzc)."""
    return volume.permute(1, 2, 3, 0).flatten(1)


def _planes(rows: Tensor, start: int, number: int) -> Tensor:
    """Return planes from `start` on, with zeros where there are none."""
    before, after = max(0, -start), max(0, start + number - len(rows))
    inside = rows[start + before : start + number - after]
    return functional.pad(inside, (0, 0, before, after)) if before or after else inside
