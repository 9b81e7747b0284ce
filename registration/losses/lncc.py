"""Local normalised cross-correlation, in float32 whatever the training's precision is."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from nnunet_triad.training.device import sum_dtype
from registration.losses import Loss

WINDOW = 9  # voxels along each edge; TransMorph's
EPSILON = 1e-5  # added to the product of the variances; TransMorph's

_SLAB = 24  # planes that are worked on at a time, without the margins


def lncc_loss(
    warped: Tensor, fixed: Tensor, *, window: int = WINDOW, epsilon: float = EPSILON
) -> Tensor:
    """Return minus the mean squared correlation of two images in the window around each voxel.

    Source: VoxelMorph (arXiv:1809.05231, equation 7), as in TransMorph: sums over the window with
    zeros outside the volume, cc = cross^2 / (variance x variance + 1e-5).
    Differs: window sums are three one-dimensional sums by doubling instead of a 9x9x9 convolution,
    so no TF32 or bf16 kernel can round them; variances, which cancellation can make negative, are
    cut off at zero; the gradient is computed slab by slab along with the value, so one volume is
    kept for the backward pass. Constant regions give a correlation of zero and no gradient, never
    NaN.

    Args:
        warped: (b, c, x, y, z), intensities of order 1.
        fixed: the same shape.
        window: voxels along each edge, odd.
        epsilon: added to the product of the two sums of squares.

    Returns:
        A scalar in [-1, 0], float32 (float64 for float64 images).

    Raises:
        ValueError: the shapes differ, or the window is even.
    """
    if warped.shape != fixed.shape or warped.ndim != 5:
        raise ValueError(
            f"fixed: expected the shape of warped, {tuple(warped.shape)} (b, c, x, y, z), "
            f"got {tuple(fixed.shape)}"
        )
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window: expected an odd number of voxels, got {window}")
    with torch.autocast(warped.device.type, enabled=False):
        dtype = torch.promote_types(torch.promote_types(warped.dtype, fixed.dtype), torch.float32)
        return _Lncc.apply(warped.to(dtype), fixed.to(dtype), window, epsilon)


class _Lncc(torch.autograd.Function):
    """The loss is a scalar, so its gradient is known up to a factor when the value is."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, warped: Tensor, fixed: Tensor, window: int, epsilon: float
    ) -> Tensor:
        needs = ctx.needs_input_grad  # type: ignore[attr-defined]
        gradients = [
            torch.empty_like(image) if needed else None
            for image, needed in zip((warped, fixed), needs[:2], strict=True)
        ]
        total = warped.new_zeros((), dtype=sum_dtype(warped.device))
        for slab in _slabs(warped.shape[2], window // 2, has_gradient=any(needs)):
            total += _correlate(warped, fixed, slab, window, epsilon, gradients)
        kept = [gradient for gradient in gradients if gradient is not None]
        ctx.save_for_backward(*kept)
        ctx.kept = [gradient is not None for gradient in gradients]  # type: ignore[attr-defined]
        return -(total / warped.numel()).to(warped.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, factor: Tensor) -> tuple[Tensor | None, ...]:
        kept = iter(ctx.saved_tensors)  # type: ignore[attr-defined]
        gradients = [next(kept) * factor if is_kept else None for is_kept in ctx.kept]  # type: ignore[attr-defined]
        return (*gradients, None, None)


class _Slab:
    """Planes `start` to `stop` along x, with what has to be known around them.

    The gradient at a plane needs the correlation within `radius` planes, and that one the images
    within `radius` more.
    """

    def __init__(self, start: int, stop: int, num_planes: int, radius: int, *, has_gradient: bool):
        """Cut both margins off at the volume's ends."""
        margin = radius if has_gradient else 0
        self.start, self.stop = start, stop
        self.centre_start = max(start - margin, 0)
        self.centre_stop = min(stop + margin, num_planes)
        self.image_start = max(self.centre_start - radius, 0)
        self.image_stop = min(self.centre_stop + radius, num_planes)

    @property
    def images(self) -> slice:
        """Planes to read."""
        return slice(self.image_start, self.image_stop)

    @property
    def centres(self) -> slice:
        """Planes, counted from `image_start`, whose windows lie within what was read."""
        return slice(self.centre_start - self.image_start, self.centre_stop - self.image_start)

    @property
    def own(self) -> slice:
        """The slab's own planes, counted from `centre_start`."""
        return slice(self.start - self.centre_start, self.stop - self.centre_start)


def _slabs(num_planes: int, radius: int, *, has_gradient: bool) -> Iterator[_Slab]:
    for start in range(0, num_planes, _SLAB):
        stop = min(start + _SLAB, num_planes)
        yield _Slab(start, stop, num_planes, radius, has_gradient=has_gradient)


def _correlate(
    warped: Tensor,
    fixed: Tensor,
    slab: _Slab,
    window: int,
    epsilon: float,
    gradients: list[Tensor | None],
) -> Tensor:
    """Return the slab's sum of squared correlations; fill its planes of the loss's gradients."""
    one, other = warped[:, :, slab.images], fixed[:, :, slab.images]
    products = torch.stack([one, other, one * one, other * other, one * other])
    sums = box_sum(products, window)[:, :, :, slab.centres]
    mean_one, mean_other = sums[0] / window**3, sums[1] / window**3
    variance_one = (sums[2] - mean_one * sums[0]).clamp_(min=0)
    variance_other = (sums[3] - mean_other * sums[1]).clamp_(min=0)
    cross = sums[4] - mean_one * sums[1]
    denominator = variance_one * variance_other + epsilon
    slope = cross / denominator
    squared = slope * cross
    total = squared[:, :, slab.own].sum(dtype=sum_dtype(warped.device))
    scale = -2.0 / warped.numel()
    sides = ((mean_one, variance_other), (mean_other, variance_one))
    for number, gradient in enumerate(gradients):
        if gradient is None:
            continue
        (own_mean, their_variance), (their_mean, _) = sides[number], sides[1 - number]
        # d cc / d own = sum over windows of 2 slope (their - their mean) - 2 curve (own - own mean)
        curve = squared * their_variance / denominator
        weights = torch.stack([slope, curve, slope * their_mean - curve * own_mean])
        weights = box_sum(weights, window)[:, :, :, slab.own]
        mine, theirs = (warped, fixed) if number == 0 else (fixed, warped)
        planes = slice(slab.start, slab.stop)
        part = weights[0] * theirs[:, :, planes] - weights[1] * mine[:, :, planes] - weights[2]
        gradient[:, :, planes] = part.mul_(scale)
    return total


def box_sum(volumes: Tensor, window: int) -> Tensor:
    """Sum over the window around each voxel, with zeros outside.

    Args:
        volumes: (..., x, y, z).
        window: voxels along each edge, odd.

    Returns:
        The same shape.
    """
    for axis in (-3, -2, -1):
        volumes = _line_sum(volumes, window, axis)
    return volumes


def _line_sum(volumes: Tensor, window: int, axis: int) -> Tensor:
    """Sum neighbours along an axis by doubling: log2(window) additions, little rounding."""
    length = volumes.shape[axis]
    radius = window // 2
    shape = list(volumes.shape)
    shape[axis] = length + 2 * radius
    padded = volumes.new_zeros(shape)
    padded.narrow(axis, radius, length).copy_(volumes)
    total: Tensor | None = None
    power, span, offset = padded, 1, 0  # power[i] = sum of padded[i : i + span]
    remaining = window
    while remaining:
        if remaining & 1:
            part = power.narrow(axis, offset, length)
            total = part.clone() if total is None else total.add_(part)
            offset += span
        remaining >>= 1
        if remaining:
            size = power.shape[axis] - span
            power = power.narrow(axis, 0, size) + power.narrow(axis, span, size)
            span *= 2
    assert total is not None
    return total


LOSS = Loss(
    name="lncc",
    kind="similarity",
    compute=lambda pair, settings: lncc_loss(pair.warped, pair.fixed, window=settings.lncc_window),
    option="lncc_weight",
)
