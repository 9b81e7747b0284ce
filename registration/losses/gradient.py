"""The diffusion regulariser: squared differences of neighbouring displacements."""

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from nnunet_triad.training.device import sum_dtype
from registration.losses import Loss


def gradient_loss(displacement: Tensor) -> Tensor:
    """Return the mean squared forward difference along each axis, averaged over the three axes.

    Source: TransMorph's `Grad3d` with penalty l2 (VoxelMorph, arXiv:1809.05231, equation 8).
    Differs: value and gradient are computed together, so one field is kept for the backward pass
    where automatic differentiation keeps six; float32 under autocast. An axis of one voxel adds
    nothing.

    Args:
        displacement: (b, 3, x, y, z), voxels.

    Returns:
        A scalar, zero or more.

    Raises:
        ValueError: it has not this shape.
    """
    if displacement.ndim != 5 or displacement.shape[1] != 3:
        raise ValueError(f"displacement: expected (b, 3, x, y, z), got {tuple(displacement.shape)}")
    with torch.autocast(displacement.device.type, enabled=False):
        dtype = torch.promote_types(displacement.dtype, torch.float32)
        return _SquaredDifferences.apply(displacement.to(dtype))


class _SquaredDifferences(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, displacement: Tensor) -> Tensor:
        needs_gradient = ctx.needs_input_grad[0]  # type: ignore[attr-defined]
        gradient = torch.zeros_like(displacement) if needs_gradient else None
        dtype = sum_dtype(displacement.device)
        total = displacement.new_zeros((), dtype=dtype)
        for axis in (2, 3, 4):
            length = displacement.shape[axis] - 1
            if length == 0:
                continue
            later, earlier = (displacement.narrow(axis, start, length) for start in (1, 0))
            difference = later - earlier
            share = 1.0 / (3 * difference.numel())
            # over whole planes in float32, over the planes in float64 where the device has it
            total += share * difference.square().sum(dim=(-1, -2)).sum(dtype=dtype)
            if gradient is not None:
                gradient.narrow(axis, 1, length).add_(difference, alpha=2 * share)
                gradient.narrow(axis, 0, length).sub_(difference, alpha=2 * share)
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return total.to(displacement.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, factor: Tensor) -> Tensor:
        (gradient,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradient * factor


LOSS = Loss(
    name="gradient",
    kind="regulariser",
    compute=lambda pair, settings: gradient_loss(pair.displacement),
    option="gradient_weight",
)
