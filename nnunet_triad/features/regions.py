"""Regions that features are pooled over: the whole image, or each label of a mask.

A label map is taken onto the grid that the encoder sees by its nearest voxel. A feature of any
level then counts with the share of its voxels that lie in the region (of those that lie in the
image at all): 1 inside, less at the border. A map that covers the image gives what no map gives.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnunet_triad.architectures.spec import Triple
from nnunet_triad.errors import UserError
from nnunet_triad.images import Volume, read_labels

WHOLE = ""  # the region's name where there is no mask
MAX_REGIONS = 1000  # of one mask; more are no labels
_INSIDE = 1  # the value of the whole image


@dataclass(frozen=True, kw_only=True)
class Regions:
    """Regions of one image.

    Attributes:
        names: value in `own` and `seen` -> name; WHOLE alone where there is no mask.
        own: (x, y, z), the label map on the image's own grid, axes as the file's.
        seen: the same on the encoder's grid, padded; zero beyond the image.
        inside: voxels of the encoder's grid that lie in the image, before the padding.
    """

    names: Mapping[int, str]
    own: NDArray[np.int32]
    seen: NDArray[np.int32]
    inside: Triple

    def missing(self) -> list[str]:
        """Return the names of regions of which the encoder's grid has no voxel."""
        found = set(np.unique(self.seen))
        return [name for value, name in self.names.items() if value not in found]


def read_mask(path: Path, image: Volume) -> Volume:
    """Read an image's label map.

    Raises:
        UserError: it is missing, no label map, empty, or not on the image's grid; corners may
            be apart by a hundredth of a voxel, as headers round.
    """
    if not path.is_file():
        raise UserError(f"{path}: expected the image's mask, got no file")
    mask = read_labels(path)
    advice = "resample it by nearest neighbour"
    image.grid.check_covers(mask.grid, name=str(path), of=image.name, advice=advice)
    number = len(np.unique(mask.voxels[mask.voxels != 0]))
    if not 1 <= number <= MAX_REGIONS:
        raise UserError(f"{path}: expected 1 to {MAX_REGIONS} labels besides 0, got {number}")
    return mask


def find_regions(
    image: Volume,
    mask: Volume | None,
    affine: NDArray[np.float64],
    *,
    shape: Triple,
    padded: Triple,
) -> Regions:
    """Return the regions of an image on its own grid and on the encoder's.

    Args:
        image: as its file has it.
        mask: on the same grid, or None for the whole image.
        affine: (4, 4), of the encoder's grid: voxel to world, mm; its axes are the image's, turned
            to right, anterior and superior.
        shape: of the encoder's grid.
        padded: that shape with what is appended for the network.
    """
    if mask is None:
        own = np.broadcast_to(np.int32(_INSIDE), image.voxels.shape)
        names, inside = {_INSIDE: WHOLE}, np.full(shape, _INSIDE, np.int32)
    else:
        own = mask.voxels
        names = {int(value): str(value) for value in np.unique(own) if value}
        # the image's own affine: the mask's may differ from it by rounding
        inside = _nearest(Volume(voxels=own, affine=image.affine), affine, shape)
    margins = [(0, wanted - length) for wanted, length in zip(padded, shape, strict=True)]
    return Regions(names=names, own=own, seen=np.pad(inside, margins), inside=shape)


def shares(
    values: NDArray[np.int32],
    value: int,
    strides: Sequence[Triple],
    *,
    start: Triple,
    inside: Triple,
) -> Iterator[NDArray[np.float32]]:
    """Yield, level by level, the share of each feature's voxels that have a value.

    Args:
        values: (x, y, z), of a window.
        value: of the region.
        strides: of the encoder's levels.
        start: of the window in the image, voxels.
        inside: of the image, voxels; those beyond count for nothing.
    """
    counts = (values == value).astype(np.float32)
    lines = [
        (np.arange(first, first + length) < limit).astype(np.float32)
        for first, length, limit in zip(start, values.shape, inside, strict=True)
    ]
    for stride in strides:
        counts = _sum_blocks(counts, stride)
        lines = [line.reshape(-1, s).sum(1) for line, s in zip(lines, stride, strict=True)]
        x, y, z = lines
        there = x[:, None, None] * y[:, None] * z
        yield np.divide(counts, there, out=np.zeros_like(counts), where=there > 0)


def _sum_blocks(volume: NDArray[np.float32], stride: Triple) -> NDArray[np.float32]:
    for axis, step in enumerate(stride):
        if step > 1:
            length = volume.shape[axis] // step
            split = (*volume.shape[:axis], length, step, *volume.shape[axis + 1 :])
            volume = volume.reshape(split).sum(axis + 1)
    return volume


def _nearest(labels: Volume, affine: NDArray[np.float64], shape: Triple) -> NDArray[np.int32]:
    """Take labels onto a grid along the same axes."""
    turned = labels.to_ras()
    index_map = np.linalg.solve(turned.affine, affine)
    places = [
        np.floor(index_map[i, i] * np.arange(length) + index_map[i, 3] + 0.5).astype(int)
        for i, length in enumerate(shape)
    ]
    x, y, z = (
        np.clip(place, 0, length - 1)
        for place, length in zip(places, turned.voxels.shape, strict=True)
    )
    found: NDArray[np.int32] = turned.voxels[np.ix_(x, y, z)]
    return found
