"""Voxels: of the store, of the crops, and of nnU-Net's images, as the labelled images have them."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nnunet_triad.architectures import EncoderSpec
from nnunet_triad.images import open_image, spacing_of
from nnunet_triad.images.orientation import axes_of

# (voxels of a crop, voxels along an axis, voxels of a step), at most
_CROPS = {"cpu": (2**17, 64, 2**18), "cuda": (96**3, 96, 8 * 96**3)}


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What follows from the labelled images' sizes.

    Attributes:
        shape: of the store's volumes: voxels to the right, anterior, superior.
        spacing_mm: of the store's resampling.
        crop: voxels of a crop of pre-training.
        batch: crops a step.
        target_spacing_mm: that nnU-Net gets, in its readers' order z y x; None: it plans its own.
    """

    shape: tuple[int, int, int]
    spacing_mm: float
    crop: tuple[int, int, int]
    batch: int
    target_spacing_mm: tuple[float, float, float] | None


def choose_sizes(
    scans: Iterable[Path], spec: EncoderSpec, *, max_voxels: int, device: str
) -> Sizes:
    """Choose sizes by the medians of the labelled images.

    Args:
        scans: their first channels.
        spec: of the encoder.
        max_voxels: of an image; larger ones are made coarser along their finest axes; 0: none.
        device: cpu, or one with more power.

    Raises:
        UserError: an image cannot be read.
    """
    shapes, spacings, turned = [], [], []
    for path in scans:
        with open_image(path) as file:
            shapes.append(file.shape[:3])
            spacings.append(spacing_of(file.affine))
            turned.append(["xyz".index(axis) for axis in axes_of(file.affine)])
    spacing = np.median(spacings, axis=0)
    extent = np.median(np.array(shapes) * spacings, axis=0)
    coarse = coarsened(spacing, extent, max_voxels=max_voxels)
    in_ras = [
        [size for _, size in sorted(zip(order, np.array(shape) * own / coarse, strict=True))]
        for order, shape, own in zip(turned, shapes, spacings, strict=True)
    ]
    x, y, z = (max(1, round(length)) for length in np.median(in_ras, axis=0))
    crop, batch = choose_crop((x, y, z), spec, device=device)
    tz, ty, tx = (round(float(one), 4) for one in coarse[::-1])
    return Sizes(
        shape=(x, y, z),
        spacing_mm=round(float(coarse.min()), 4),
        crop=crop,
        batch=batch,
        target_spacing_mm=None if np.allclose(coarse, spacing) else (tz, ty, tx),
    )


def coarsened(
    spacing_mm: npt.NDArray[np.float64], extent_mm: npt.NDArray[np.float64], *, max_voxels: int
) -> npt.NDArray[np.float64]:
    """Return the spacing, (3,), at which an extent has so many voxels at most.

    The finest axes become coarser first: thick slices stay as they are as long as possible.
    """
    finest = float(spacing_mm.min())
    found = spacing_mm
    while max_voxels and np.prod(extent_mm / found) > max_voxels:
        finest *= 1.01
        found = np.maximum(spacing_mm, finest)
    return found


def choose_crop(
    shape: tuple[int, int, int], spec: EncoderSpec, *, device: str
) -> tuple[tuple[int, int, int], int]:
    """Return the crop's voxels, multiples of the encoder's strides, and how many make a step."""
    most_voxels, most_along, most_of_step = _CROPS["cpu" if device == "cpu" else "cuda"]
    strides = spec.total_stride
    counts = [
        min(max(1, round(length / stride)), max(1, most_along // stride))
        for length, stride in zip(shape, strides, strict=True)
    ]
    while math.prod(_times(counts, strides)) > most_voxels and max(counts) > 1:
        lengths = _times(counts, strides)
        axis = max((k for k in range(3) if counts[k] > 1), key=lambda k: (lengths[k], k))
        counts[axis] -= 1
    if counts == [1, 1, 1]:  # an encoder wants more than one voxel at its coarsest level
        counts[shape.index(max(shape))] = 2
    x, y, z = _times(counts, strides)
    return (x, y, z), int(np.clip(most_of_step // (x * y * z), 2, 8))


def _times(counts: Iterable[int], strides: Iterable[int]) -> list[int]:
    return [count * stride for count, stride in zip(counts, strides, strict=True)]
