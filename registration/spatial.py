"""Warps and their calculus on voxel grids.

Shapes: an image is (b, c, x, y, z); a displacement is (b, 3, x, y, z) in voxels, channel i along
spatial axis i. A displacement pulls: the warped image at x is the moving image at x +
displacement(x).
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Padding = Literal["zeros", "border"]

NUM_SQUARINGS = 7  # scaling and squaring; 2**7 = 128 steps, as TransMorph-diff and VoxelMorph-diff


def warp(
    moving: Tensor,
    displacement: Tensor,
    *,
    mode: Literal["bilinear", "nearest"] = "bilinear",
    padding: Padding = "zeros",
) -> Tensor:
    """Sample `moving` at each voxel plus its displacement.

    Source: spatial transformer (arXiv:1506.02025), as in TransMorph (arXiv:2111.10480): voxel
    centres at the corners of the sampling range (`align_corners=True`); zeros outside the volume.
    Differs: the grid is rebuilt at each call in one buffer, so it never enters the state_dict;
    coordinates are float32 at least, also under autocast; an axis of one voxel does not divide by
    zero.

    Args:
        moving: (b, c, x, y, z), any intensity unit.
        displacement: (b, 3, x, y, z), voxels; channel i moves along spatial axis i.
        mode: linear, or nearest for label maps.
        padding: what lies outside: zeros, or the border's value.

    Returns:
        (b, c, x, y, z), dtype of `moving` (float32 at least).

    Raises:
        ValueError: the spatial shapes differ, or displacement has not 3 channels.
    """
    _check_displacement(displacement, moving.shape[2:])
    return _sample(moving, displacement, mode=mode, padding=padding)


def _check_displacement(displacement: Tensor, sizes: torch.Size) -> None:
    if displacement.ndim != 5 or displacement.shape[1] != 3:
        raise ValueError(f"displacement: expected (b, 3, x, y, z), got {tuple(displacement.shape)}")
    if displacement.shape[2:] != sizes:
        raise ValueError(
            f"displacement: expected the image's grid {tuple(sizes)}, "
            f"got {tuple(displacement.shape[2:])}"
        )


def _sample(moving: Tensor, displacement: Tensor, *, mode: str, padding: str) -> Tensor:
    with torch.autocast(moving.device.type, enabled=False):
        dtype = torch.promote_types(displacement.dtype, torch.float32)
        image = moving.to(torch.promote_types(moving.dtype, torch.float32))
        grid = _normalized_grid(displacement.to(dtype)).to(image.dtype)
        return functional.grid_sample(
            image, grid, mode=mode, padding_mode=padding, align_corners=True
        )


def _normalized_grid(displacement: Tensor) -> Tensor:
    """Return where to sample, from -1 to 1, the last axis in the order z y x: (b, x, y, z, 3)."""
    sizes = displacement.shape[2:]
    columns = []
    for axis in (2, 1, 0):
        shape = [1, 1, 1, 1]
        shape[axis + 1] = -1
        scale = 2.0 / max(sizes[axis] - 1, 1)
        places = torch.arange(sizes[axis], device=displacement.device, dtype=displacement.dtype)
        identity = (places * scale - 1.0).view(shape)
        columns.append(torch.add(identity, displacement[:, axis], alpha=scale))
    return torch.stack(columns, dim=-1)


def compose(first: Tensor, second: Tensor) -> Tensor:
    """Return the displacement first(x) + second(x + first(x)) of two, one after the other.

    Warping by the result equals warping by `second` and then by `first`, up to interpolation.

    Args:
        first: (b, 3, x, y, z), voxels, applied to a voxel of the fixed grid first.
        second: the same shape; its border value goes on outside.
    """
    return first + warp(second, first, padding="border")


def integrate_velocity(velocity: Tensor, *, num_squarings: int = NUM_SQUARINGS) -> Tensor:
    """Return the displacement at time 1 of a stationary velocity field, by scaling and squaring.

    Source: Arsigny et al., MICCAI 2006; TransMorph-diff (arXiv:2111.10480, section 3.4).
    Differs: outside the volume the border's velocity goes on, where TransMorph samples zeros; else
    the border would tear at each squaring. The integration of the negative field is the inverse.

    Args:
        velocity: (b, 3, x, y, z), voxels per unit of time.
        num_squarings: the interval is cut into 2**num_squarings steps.
    """
    displacement = velocity / 2**num_squarings
    for _ in range(num_squarings):
        displacement = compose(displacement, displacement)
    return displacement


def invert_displacement(displacement: Tensor, *, num_iterations: int = 30) -> Tensor:
    """Return the displacement w with w(x) = -displacement(x + w(x)), by fixed-point iteration.

    Source: Chen et al., Medical Physics 35, 2008. It converges where the displacement's Lipschitz
    constant is below 1; where the field folds there is no inverse, and `inverse_error` shows it.
    """
    inverse = -displacement
    for _ in range(num_iterations):
        inverse = -warp(displacement, inverse, padding="border")
    return inverse


def inverse_error(
    displacement: Tensor, inverse: Tensor, *, spacing: Sequence[float] = (1.0, 1.0, 1.0)
) -> Tensor:
    """Return how far from its start a voxel ends after both: (b, x, y, z), in the spacing's unit.

    Args:
        displacement: (b, 3, x, y, z), voxels.
        inverse: the same shape.
        spacing: length of a voxel along x, y and z.
    """
    left = compose(displacement, inverse)
    return (left * left.new_tensor(spacing).view(1, 3, 1, 1, 1)).norm(dim=1)


def upsample_displacement(displacement: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Resize a displacement to a finer grid of the same extent; values scale with the grid.

    Differs: the OASIS TransMorph leaves a half-resolution field's values as they are, so that its
    displacements act half as far as they say.

    Args:
        displacement: (b, 3, x', y', z') in voxels of its own grid.
        sizes: x, y, z of the result.

    Returns:
        (b, 3, x, y, z) in voxels of the finer grid.
    """
    ratios = [fine / coarse for fine, coarse in zip(sizes, displacement.shape[2:], strict=True)]
    resized = functional.interpolate(
        displacement, size=tuple(sizes), mode="trilinear", align_corners=False
    )
    return resized * resized.new_tensor(ratios).view(1, 3, 1, 1, 1)


def jacobian_determinant(displacement: Tensor) -> Tensor:
    """Return det(I + grad u) by central differences on the inner voxels.

    Args:
        displacement: (b, 3, x, y, z), voxels.

    Returns:
        (b, x - 2, y - 2, z - 2): 1 where volume is kept, at most 0 where the grid folds.

    Raises:
        ValueError: an axis has fewer than 3 voxels.
    """
    if min(displacement.shape[2:]) < 3:
        raise ValueError(
            f"displacement: expected at least 3 voxels an axis, got {tuple(displacement.shape[2:])}"
        )
    inner = slice(1, -1)
    columns = []
    for axis in range(3):
        later, earlier = [inner] * 3, [inner] * 3
        later[axis], earlier[axis] = slice(2, None), slice(None, -2)
        whole = (slice(None), slice(None))
        difference = displacement[(*whole, *later)] - displacement[(*whole, *earlier)]
        columns.append(difference / 2)
        columns[axis][:, axis] += 1
    (a, d, g), (b, e, h), (c, f, i) = (column.unbind(1) for column in columns)
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def folding_percent(displacement: Tensor) -> float:
    """Return at how many percent of the inner voxels the Jacobian determinant is at most zero."""
    return 100.0 * float((jacobian_determinant(displacement) <= 0).float().mean())


def sd_log_jacobian(displacement: Tensor) -> float:
    """Return the standard deviation of log(det J + 3), two voxels inside the border.

    Source: Learn2Reg's evaluation (central differences, +3, clipped at 1e-9, 2 voxels cut off each
    side). NaN where an axis has fewer than 5 voxels.
    """
    if min(displacement.shape[2:]) < 5:
        return float("nan")
    determinant = jacobian_determinant(displacement)[:, 1:-1, 1:-1, 1:-1]
    return float((determinant + 3).clamp(1e-9, 1e9).log().std(correction=0))
