"""Deformable registration without a model: a diffeomorphic field, optimised for its own pair."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nnunet_triad.images import Grid
from registration.pairs import at_spacing
from registration.spatial import compose, upsample_displacement

Similarity = Callable[[Tensor, Tensor], Tensor]  # (warped, fixed) -> a scalar; lower is better

_MIN_LENGTH = 6  # voxels along an axis at the coarsest level
_FACTORS = (8, 4, 2, 1)  # how much coarser than the fixed image the levels are
_NUM_STEPS = (40, 40, 30, 10)  # at most, of each
_STEP = 0.2  # voxels
_MAX_STEP = 0.5  # voxels: a smooth update below it cannot fold
_FLUID_SIGMA = 1.7  # voxels, of the update
_ELASTIC_SIGMA = 1.0  # voxels, of the field
_LEAST_FORCE = 1e-3  # a voxel's share of the loss's slope, by voxel: below it the step shrinks
_MOMENTS = (0.9, 0.99)  # Adam's
_WINDOW = 10  # steps over which the similarity has to grow
_TOLERANCE = 1e-3  # by which share


@dataclass(frozen=True, kw_only=True)
class Maps:
    """An image, or several feature maps, on a grid of their own."""

    values: Tensor  # (1, c, x, y, z)
    grid: Grid
    similarity: Similarity


@torch.no_grad()
def deform(
    moving: Sequence[Maps],
    fixed: Sequence[Maps],
    *,
    grid: Grid,
    matrix: np.ndarray,
    device: str = "cpu",
    say: Callable[[str], None] | None = None,
) -> Tensor:
    """Optimise a field from coarse to fine so that the maps agree.

    Each step composes the field with a small smooth update, so the result is invertible as long as
    its updates are: x + u(x) becomes y + u(y) at y = x + v(x). The update v is the smoothed
    gradient of the similarity, scaled by Adam and smoothed again; then the field is smoothed a
    little.

    Source: composed updates with fluid and elastic smoothing, as in greedy SyN (Avants et al.,
    Medical Image Analysis 12, 2008) and Greedy (Yushkevich et al., 2016); Adam on them as in
    FireANTs (arXiv:2404.01249).
    Differs: the moving image is sampled where it lies, on its own grid, so that what the affine map
    brings in from outside the fixed image is there; where there is nothing of it, no force acts.
    An axis of thick slices is not made coarser than the others.

    Args:
        moving: maps of the moving image, each on a grid of its own in its world.
        fixed: the same maps of the fixed image.
        grid: the fixed image's, on which the field is wanted.
        matrix: (4, 4), world of the fixed image to world of the moving image, mm.
        device: cpu, cuda or mps.
        say: is told what each level brought, in a line.

    Returns:
        (1, 3, x, y, z), voxels of `grid`; it comes before the affine map. Of each level the field
        with the smallest loss, so that equal images stay where they are.
    """
    field = torch.zeros(1, 3, 1, 1, 1, device=device)
    for level, num_steps in levels_of(grid):
        field = upsample_displacement(field, level.shape)
        targets = []
        for one, other in zip(moving, fixed, strict=True):
            still, _ = Sampler(other, level, np.eye(4), device)(torch.zeros_like(field))
            targets.append((Sampler(one, level, matrix, device), still, other.similarity))
        field, losses = _optimize(field, targets, level.spacing_mm, num_steps)
        if say is not None:
            size = " x ".join(map(str, level.shape))
            say(f"{size}: {len(losses) - 1} steps, loss {losses[0]:.4f} to {min(losses):.4f}")
    return field


def levels_of(grid: Grid) -> list[tuple[Grid, int]]:
    """Return the grids from coarse to fine, each with its number of steps.

    A factor makes the finest axis coarser by so much, and the others no coarser than that.
    """
    spacing_mm = grid.spacing_mm
    found: list[tuple[Grid, int]] = []
    for factor, num_steps in zip(_FACTORS, _NUM_STEPS, strict=True):
        factors = np.maximum(1, np.rint(factor * spacing_mm.min() / spacing_mm))
        if factor > 1 and (np.array(grid.shape) / factors < _MIN_LENGTH).any():
            continue
        found.append((at_spacing(grid, spacing_mm * factors), num_steps))
    return found


class Sampler:
    """Maps that are smoothed for a level, and sampled on its displaced grid."""

    def __init__(self, maps: Maps, level: Grid, matrix: np.ndarray, device: str = "cpu") -> None:
        """Smooth the maps, and find where the level's voxels lie in them.

        Args:
            maps: on a grid of their own.
            level: the grid that is asked for.
            matrix: (4, 4), world of the level to world of the maps, mm.
            device: cpu, cuda or mps.
        """
        index_map = np.linalg.inv(maps.grid.affine) @ matrix @ level.affine
        # How many own voxels a step along each of the level's axes crosses, along each own axis.
        factors = np.abs(index_map[:3, :3]).max(axis=1)
        sigmas = 0.5 * np.sqrt(np.maximum(factors**2 - 1, 0))
        self.values = smooth(maps.values.to(device), sigmas)
        lengths = np.array(maps.values.shape[2:])
        scale = 2.0 / np.maximum(lengths - 1, 1)  # voxels to -1 .. 1
        linear = (scale[:, None] * index_map[:3, :3])[::-1].copy()  # grid_sample wants z y x
        offset = (scale * index_map[:3, 3] - 1)[::-1].copy()
        self.linear = torch.from_numpy(linear).float().to(device)
        places = np.indices(level.shape, dtype=np.float64)
        base = np.einsum("ij,jxyz->xyzi", linear, places) + offset
        self.base = torch.from_numpy(base.astype(np.float32))[None].to(device)

    def __call__(self, displacement: Tensor) -> tuple[Tensor, Tensor]:
        """Sample the maps.

        Args:
            displacement: (1, 3, x, y, z), voxels of the level.

        Returns:
            (1, c, x, y, z), the border's value outside; (1, 1, x, y, z) bool, False outside.
        """
        places = self.base + torch.einsum("ij,bjxyz->bxyzi", self.linear, displacement)
        found = functional.grid_sample(
            self.values, places, padding_mode="border", align_corners=True
        )
        return found, (places.abs() <= 1).all(dim=-1)[:, None]


def _optimize(
    field: Tensor,
    targets: Sequence[tuple[Sampler, Tensor, Similarity]],
    spacing_mm: np.ndarray,
    num_steps: int,
) -> tuple[Tensor, list[float]]:
    """Improve a field on one level; return it, and the loss before each step."""
    finest = spacing_mm.min() / spacing_mm  # along the finest axis it is 1
    scale = torch.from_numpy(finest).to(field).view(1, 3, 1, 1, 1)
    fluid, elastic = _FLUID_SIGMA * finest, _ELASTIC_SIGMA * finest
    first, second = torch.zeros_like(field), torch.zeros_like(field)
    least = _LEAST_FORCE / field[0, 0].numel()
    best, losses = field, list[float]()
    for step in range(1, num_steps + 2):
        force, loss = _force(field, targets)
        losses.append(loss)
        if loss == min(losses):
            best = field
        has_settled = step > _WINDOW and losses[-_WINDOW - 1] - loss < _TOLERANCE * abs(loss)
        if step > num_steps or has_settled:
            break
        force = smooth(force * scale, fluid)
        first.lerp_(force, 1 - _MOMENTS[0])
        second.lerp_(force.square(), 1 - _MOMENTS[1])
        mean = first / (1 - _MOMENTS[0] ** step)
        size = (second / (1 - _MOMENTS[1] ** step)).sqrt()
        update = _STEP * smooth(mean / size.clamp_min(least), fluid)
        longest = update.square().sum(dim=1).max().sqrt()  # `norm` takes a quarter of all time
        update *= (_MAX_STEP / longest.clamp_min(_MAX_STEP)) * scale
        field = smooth(compose(update, field), elastic)
    return best, losses


def _force(
    field: Tensor, targets: Sequence[tuple[Sampler, Tensor, Similarity]]
) -> tuple[Tensor, float]:
    """Return the direction in which the maps grow more alike, per voxel, and their loss."""
    force, total = torch.zeros_like(field), 0.0
    for source, fixed, similarity in targets:
        warped, is_inside = source(field)
        with torch.enable_grad():
            warped.requires_grad_()
            loss = similarity(warped, fixed)
            (slope,) = torch.autograd.grad(loss, warped)
        warped = warped.detach()
        slope = slope * is_inside
        for axis in range(3):
            force[:, axis] -= (slope * _difference(warped, 2 + axis)).sum(dim=1)
        total += float(loss.detach())
    return force / len(targets), total / len(targets)


def _difference(values: Tensor, axis: int) -> Tensor:
    """Return central differences along an axis, zero at both ends."""
    found = torch.zeros_like(values)
    length = values.shape[axis] - 2
    if length > 0:
        inner = found.narrow(axis, 1, length)
        torch.sub(values.narrow(axis, 2, length), values.narrow(axis, 0, length), out=inner)
        inner /= 2
    return found


def smooth(values: Tensor, sigmas: Sequence[float] | np.ndarray) -> Tensor:
    """Smooth by a Gaussian along each axis; its weights sum to one at the border, too.

    Args:
        values: (b, c, x, y, z).
        sigmas: of the three axes, voxels; 0 leaves an axis as it is.
    """
    b, c, x, y, z = values.shape
    for axis, sigma in enumerate(sigmas):
        if sigma < 1e-3:
            continue
        weights = _gaussian(values.shape[2 + axis], float(sigma)).to(values)
        if axis == 0:
            values = (weights @ values.reshape(b, c, x, -1)).reshape(b, c, x, y, z)
        elif axis == 1:
            values = weights @ values
        else:
            values = values @ weights.T
    return values


@functools.lru_cache(maxsize=64)
def _gaussian(length: int, sigma: float) -> Tensor:
    places = torch.arange(length, dtype=torch.float64)
    weights = (-0.5 * ((places[:, None] - places) / sigma).square()).exp()
    return weights / weights.sum(dim=1, keepdim=True)
