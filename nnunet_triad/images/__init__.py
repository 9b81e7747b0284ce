"""Volumes and their grids: reading, writing, orientation, spacing, size and intensity.

No other part of the project reads or writes image files.
"""

from nnunet_triad.images.labels import read_labels, write_labels
from nnunet_triad.images.orientation import spacing_of, to_ras
from nnunet_triad.images.reader import (
    Nan,
    UnreadableImageError,
    image_files,
    open_image,
    read_volume,
)
from nnunet_triad.images.volume import Grid, Volume
from nnunet_triad.images.writer import write_volume

__all__ = [
    "Grid",
    "Nan",
    "UnreadableImageError",
    "Volume",
    "image_files",
    "open_image",
    "read_labels",
    "read_volume",
    "spacing_of",
    "to_ras",
    "write_labels",
    "write_volume",
]
