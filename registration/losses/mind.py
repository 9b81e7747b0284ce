"""Modality-independent neighbourhood descriptors: the similarity for images of other contrasts."""

import itertools

import torch
from torch import Tensor
from torch.nn import functional

from registration.losses import Loss
from registration.losses.lncc import box_sum

RADIUS = 1  # of the patches that are compared, voxels
DISTANCE = 1  # from a voxel to the patches around it, voxels
_SPREAD = 1e3  # a voxel's variance lies within this factor of the mean one

_FACES = [
    tuple(sign * (axis == number) for axis in range(3)) for number in range(3) for sign in (1, -1)
]
# The twelve pairs of faces that share an edge of the cube around the voxel.
_EDGES = [
    (one, other)
    for one, other in itertools.combinations(_FACES, 2)
    if sum(a * b for a, b in zip(one, other, strict=True)) == 0
]


def mind_descriptors(image: Tensor, *, radius: int = RADIUS, distance: int = DISTANCE) -> Tensor:
    """Return how alike the patches around each voxel are to one another.

    Source: MIND-SSC (Heinrich et al., MICCAI 2013, equations 2 to 4): exp(-D / V) for the twelve
    pairs of six neighbours that share an edge, D the mean squared difference of two patches, V the
    mean of the twelve; the smallest D is subtracted, so that the largest value is 1. It depends on
    no scale of intensities, and hardly on which tissue is the brighter one.

    Args:
        image: (b, 1, x, y, z).
        radius: of a patch, voxels.
        distance: from the voxel to a patch, voxels.

    Returns:
        (b, 12, x, y, z) in (0, 1].

    Raises:
        ValueError: it has more channels than one.
    """
    if image.ndim != 5 or image.shape[1] != 1:
        raise ValueError(f"image: expected (b, 1, x, y, z), got {tuple(image.shape)}")
    with torch.autocast(image.device.type, enabled=False):
        image = image.to(torch.promote_types(image.dtype, torch.float32))
        margin = distance + radius
        padded = functional.pad(image, (margin,) * 6, mode="replicate")
        views = {face: _shifted(padded, face, distance, radius, image.shape[2:]) for face in _FACES}
        squares = torch.cat([(views[a] - views[b]).square() for a, b in _EDGES], dim=1)
        window = 2 * radius + 1
        sums = box_sum(squares, window)[
            ..., radius : -radius or None, radius : -radius or None, radius : -radius or None
        ]
        gaps = sums / window**3
        gaps = gaps - gaps.amin(dim=1, keepdim=True)
        variance = gaps.mean(dim=1, keepdim=True)
        usual = variance.detach().mean().clamp_min(torch.finfo(image.dtype).tiny * _SPREAD)
        return (-gaps / variance.clamp(usual / _SPREAD, usual * _SPREAD)).exp()


def _shifted(
    padded: Tensor, face: tuple[int, ...], distance: int, radius: int, sizes: torch.Size
) -> Tensor:
    """Return the image moved by `distance` towards a face, with `radius` voxels around it."""
    for axis, (sign, size) in enumerate(zip(face, sizes, strict=True)):
        padded = padded.narrow(2 + axis, distance * (1 + sign), size + 2 * radius)
    return padded


def mind_loss(warped: Tensor, fixed: Tensor) -> Tensor:
    """Return the mean squared difference of two images' descriptors.

    Args:
        warped: (b, 1, x, y, z).
        fixed: the same shape.

    Returns:
        A scalar from 0 to 1.

    Raises:
        ValueError: the shapes differ.
    """
    if warped.shape != fixed.shape:
        raise ValueError(
            f"fixed: expected the shape of warped, {tuple(warped.shape)}, got {tuple(fixed.shape)}"
        )
    return (mind_descriptors(warped) - mind_descriptors(fixed)).square().mean()


LOSS = Loss(
    name="mind",
    kind="similarity",
    compute=lambda pair, settings: mind_loss(pair.warped, pair.fixed),
)
