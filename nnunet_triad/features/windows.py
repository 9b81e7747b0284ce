"""Windows over a large image, and their weights: pure functions.

Windows begin at multiples of the encoder's stride, so that their features lie on the grid that
features of the whole image would have. Where windows overlap, a feature is the mean of theirs,
weighted by a Gaussian around each window's centre whose standard deviation is an eighth of the
window, as nnU-Net's and MONAI's sliding windows. Beside one window alone its weight is 1: an image
that fits into a window gets the features of the whole image.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_triad.architectures.spec import Triple

SIGMA = 0.125  # of a window's edge: nnU-Net's


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """Windows of one size over an image.

    Attributes:
        size: of a window, voxels.
        starts: along each axis, voxels.
    """

    size: Triple
    starts: tuple[tuple[int, ...], ...]

    def __iter__(self) -> Iterator[Triple]:
        """Yield the number of each window along each axis."""
        x, y, z = (range(len(starts)) for starts in self.starts)
        yield from itertools.product(x, y, z)

    def slices(self, window: Triple) -> tuple[slice, slice, slice]:
        """Return the voxels of a window."""
        x, y, z = (
            slice(starts[number], starts[number] + size)
            for starts, number, size in zip(self.starts, window, self.size, strict=True)
        )
        return x, y, z

    def weights(
        self, step: Sequence[int], *, sigma: float = SIGMA
    ) -> tuple[NDArray[np.float64], ...]:
        """Return the share of each window in the features of a level.

        The share of window (i, j, k) in its feature at (x, y, z) is the product of w[0][i, x],
        w[1][j, y] and w[2][k, z]; over the windows that cover a place it sums to one.

        Args:
            step: voxels from one feature to the next along each axis.
            sigma: of the Gaussian, in windows.

        Returns:
            For each axis (windows, features of a window).
        """
        return tuple(
            _shares(np.array(starts) // s, size // s, sigma)
            for starts, size, s in zip(self.starts, self.size, step, strict=True)
        )


def tile(shape: tuple[int, ...], *, window: Triple, stride: Triple, overlap: float = 0.5) -> Tiling:
    """Return windows that cover an image, as evenly as the stride allows.

    Args:
        shape: of the image, x y z, multiples of the stride.
        window: wanted size; rounded up to multiples of the stride, and no larger than the image.
        stride: between the voxels and the coarsest features.
        overlap: share of a window that its neighbour covers as well, at least.
    """
    size = [
        min(length, -(-wanted // step) * step)
        for length, wanted, step in zip(shape, window, stride, strict=True)
    ]
    starts = tuple(
        _starts(length, edge, step, overlap)
        for length, edge, step in zip(shape, size, stride, strict=True)
    )
    return Tiling(size=(size[0], size[1], size[2]), starts=starts)


def _starts(length: int, size: int, step: int, overlap: float) -> tuple[int, ...]:
    furthest = max(1, int(size * (1 - overlap)) // step)  # in steps
    room = (length - size) // step
    number = -(-room // furthest) + 1
    return tuple(round(i * room / max(number - 1, 1)) * step for i in range(number))


def _shares(starts: NDArray[np.intp], size: int, sigma: float) -> NDArray[np.float64]:
    places = (np.arange(size) + 0.5) / size - 0.5
    profile = np.exp(-(places**2) / (2 * sigma**2))
    total = np.zeros(starts[-1] + size)
    for start in starts:
        total[start : start + size] += profile
    return np.stack([profile / total[start : start + size] for start in starts])
