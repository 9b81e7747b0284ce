"""Label maps: whole numbers, whatever type a file stores them in."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from nnunet_triad.errors import UserError
from nnunet_triad.images.reader import Nan, read_volume
from nnunet_triad.images.volume import Volume
from nnunet_triad.images.writer import write_volume

_TOLERANCE = 1e-3  # of the value; scaled integers leave rounding errors


def read_labels(path: Path, *, min_length: int = 1) -> Volume:
    """Read a label map, stored as whole numbers of any type, as int32.

    Args:
        path: its file.
        min_length: voxels that each axis has at least.

    Raises:
        UserError: as `read_volume`, or values are no whole numbers, NaN and infinity among them.
    """
    volume = read_volume(path, nan=Nan.REFUSE, dtype=None, min_length=min_length)
    labels = volume.voxels
    bounds = np.iinfo(np.int32)
    if labels.min() < bounds.min or labels.max() > bounds.max:
        raise UserError(
            f"{path}: expected labels from {bounds.min} to {bounds.max}, got "
            f"{labels.min():.10g} to {labels.max():.10g}; renumber them"
        )
    if labels.dtype.kind == "f":
        labels = np.rint(volume.voxels)
        gaps = np.abs(labels - volume.voxels)
        if gaps.max() > _TOLERANCE:
            raise UserError(
                f"{path}: expected labels, whole numbers, got "
                f"{volume.voxels.flat[gaps.argmax()]:g}; give the label map itself, resampled with "
                "nearest neighbour"
            )
    return replace(volume, voxels=labels.astype(np.int32))


def write_labels(path: Path, labels: np.ndarray, affine: np.ndarray) -> Path:
    """Write a label map as uint8 where that holds it, else as int32; see `write_volume`."""
    is_small = labels.min() >= 0 and labels.max() <= np.iinfo(np.uint8).max
    return write_volume(path, labels.astype(np.uint8 if is_small else np.int32), affine)
