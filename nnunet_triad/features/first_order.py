"""What needs no network: sizes, and statistics of the intensities, of an image and its regions."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nnunet_triad.images import Volume

_PERCENTILES = (1, 10, 25, 50, 75, 90, 99)
_STATISTICS = (
    "mean",
    "sd",
    *(f"p{percentile:02d}" for percentile in _PERCENTILES),
    "skewness",
    "kurtosis",
)
EXTENTS = ("extent_x_mm", "extent_y_mm", "extent_z_mm")
VOLUME = "volume_mm3"


def first_order_names(num_channels: int) -> list[str]:
    """Return the names of what `first_order` returns."""
    intensities = [f"intensity{c}_{name}" for c in range(num_channels) for name in _STATISTICS]
    return ["voxels", VOLUME, *EXTENTS, *intensities]


def first_order(volumes: Sequence[Volume], region: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Describe a region by numbers that follow from the image file alone.

    Args:
        volumes: the channels, on one grid; intensities as the file has them.
        region: (x, y, z) of that grid; at least one voxel.

    Returns:
        Voxels, volume in mm^3, extent of the image along right, anterior and superior in mm, and
        of each channel mean, standard deviation, percentiles, skewness and excess kurtosis inside
        the region, as `first_order_names` calls them.
    """
    grid = volumes[0].to_ras().grid
    number = np.count_nonzero(region)
    voxel_mm3 = abs(np.linalg.det(grid.affine[:3, :3]))
    extents = grid.spacing_mm * grid.shape
    intensities = [_describe(volume.voxels[region]) for volume in volumes]
    return np.concatenate([[number, number * voxel_mm3], extents, *intensities])


def _describe(values: NDArray[np.floating]) -> NDArray[np.float64]:
    values = values.astype(np.float64)
    mean, deviation = values.mean(), values.std()
    centred = (values - mean) / (deviation or 1.0)
    skewness = np.mean(centred**3)
    kurtosis = np.mean(centred**4) - 3 if deviation else 0.0
    percentiles = np.percentile(values, _PERCENTILES)
    return np.array([mean, deviation, *percentiles, skewness, kurtosis])
