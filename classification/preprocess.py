"""From an image of any orientation, spacing and size to the network's cube, and back.

Every cube is a sampling of the image at positions along its axes: stretched over the whole image,
padded to keep the proportions, or around a point. So one function makes them all, and the affine
follows.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from classification.settings import PreprocessSettings
from nnunet_triad.errors import UserError
from nnunet_triad.images import Nan, Volume, read_volume, spacing_of, to_ras
from nnunet_triad.images.orientation import from_ras
from nnunet_triad.images.resampling import apply_along_axes, interpolation_matrix


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Where a line of voxels of the cube lies on an axis of the RAS volume: first + i * step."""

    first: float  # voxels
    step: float  # voxels
    length: int  # voxels of the volume along this axis

    def positions(self, size: int) -> NDArray:
        """Return the positions of `size` voxels."""
        return self.first + self.step * np.arange(size)


def read_image(path: Path) -> Volume:
    """Read an image that something can be told from.

    NaN and infinity (SPM writes NaN outside the brain) become the smallest finite value; the number
    of such voxels is kept, so that it can be said.

    Raises:
        UserError: as `read_volume`, or all voxels are alike.
    """
    image = read_volume(path, nan=Nan.LOWEST)
    low = image.voxels.min()
    if low == image.voxels.max():
        raise UserError(
            f"{path}: expected an image with contrast, got {low:g} everywhere; leave it out"
        )
    return image


def preprocess(image: Volume, settings: PreprocessSettings) -> tuple[NDArray, NDArray]:
    """Turn an image to RAS, resample it to the cube, and normalise its intensities.

    Source: section 4.3 of the paper ("reshape them into a smaller dimension").
    Differs: where voxels get coarser, a Gaussian filter precedes the interpolation, which would
    else skip voxels (MONAI's `Resize(anti_aliasing=True)` has the same filter).

    Returns:
        The cube (size, size, size) float32, and its affine, voxel to world.
    """
    volume, affine = to_ras(image.voxels, image.affine)
    axes = whole_axes(volume.shape, spacing_of(affine), settings)
    normalised = normalise(volume.astype(np.float32, copy=False), settings)
    cube = sample(smooth(normalised, axes), axes, shape=(settings.size,) * 3)
    return cube, affine @ index_map(axes)


def normalise(volume: NDArray, settings: PreprocessSettings) -> NDArray:
    """Return z-scores over the volume, or the window's values scaled to -1 .. 1."""
    if settings.intensity == "window":
        assert settings.window is not None
        low, high = settings.window
        return np.asarray((np.clip(volume, low, high) - low) * (2 / (high - low)) - 1, np.float32)
    mean = volume.mean(dtype=np.float64)
    std = max(volume.std(dtype=np.float64), 1e-8)
    return np.asarray((volume - mean) / std, dtype=np.float32)


def whole_axes(
    shape: tuple[int, ...], spacing_mm: NDArray, settings: PreprocessSettings
) -> tuple[Axis, Axis, Axis]:
    """Return the cube's lines over a whole image: stretched, or with equal steps in mm."""
    size = settings.size
    if settings.fit == "stretch":  # voxels have an extent, and the extent of each axis is kept
        x, y, z = (
            Axis(first=0.5 * length / size - 0.5, step=length / size, length=length)
            for length in shape
        )
        return x, y, z
    extent_mm = max(length * step for length, step in zip(shape, spacing_mm, strict=True))
    centre = (np.asarray(shape) - 1) / 2
    return centred_axes(shape, spacing_mm, centre, extent_mm=float(extent_mm), size=size)


def isotropic_axes(
    shape: tuple[int, ...], spacing_mm: NDArray, target_mm: float
) -> tuple[tuple[Axis, Axis, Axis], tuple[int, int, int]]:
    """Return the lines that resample a whole image to one spacing, and their lengths."""
    steps = [target_mm / spacing for spacing in spacing_mm]
    x, y, z = (
        Axis(first=0.5 * step - 0.5, step=step, length=length)
        for length, step in zip(shape, steps, strict=True)
    )
    lengths = [max(1, round(axis.length / axis.step)) for axis in (x, y, z)]
    return (x, y, z), (lengths[0], lengths[1], lengths[2])


def centred_axes(
    shape: tuple[int, ...],
    spacing_mm: NDArray,
    centre: NDArray,
    *,
    extent_mm: float,
    size: int,
) -> tuple[Axis, Axis, Axis]:
    """Return the lines of a cube of edge `extent_mm` around a point.

    Args:
        shape: of the volume.
        spacing_mm: (3,), of the volume.
        centre: (3,), voxels of the volume.
        extent_mm: from the outer face to the outer face.
        size: voxels of the cube along each axis.
    """
    x, y, z = (
        Axis(
            first=float(middle - (size - 1) / 2 * extent_mm / size / spacing),
            step=float(extent_mm / size / spacing),
            length=length,
        )
        for length, spacing, middle in zip(shape, spacing_mm, centre, strict=True)
    )
    return x, y, z


def smooth(volume: NDArray, axes: tuple[Axis, Axis, Axis]) -> NDArray:
    """Filter along the axes that get coarser: a Gaussian of (step - 1) / 2 voxels."""
    sigmas = [max(0.0, (axis.step - 1) / 2) for axis in axes]
    return ndimage.gaussian_filter(volume, sigmas, mode="nearest") if any(sigmas) else volume


def sample(
    volume: NDArray,
    axes: tuple[Axis, Axis, Axis],
    *,
    shape: tuple[int, int, int],
    outside: float | None = None,
) -> NDArray:
    """Interpolate linearly.

    Args:
        volume: (x, y, z).
        axes: where the samples lie.
        shape: number of samples along each axis.
        outside: value beyond the volume; None: the volume's smallest one.

    Returns:
        `shape`, float32.
    """
    level = np.float32(volume.min() if outside is None else outside)
    x, y, z = (_line_matrix(axis, size) for axis, size in zip(axes, shape, strict=True))
    return apply_along_axes(volume - level, (x, y, z)) + level


def index_map(axes: tuple[Axis, Axis, Axis]) -> NDArray[np.float64]:
    """Return the (4, 4) map from a voxel of the cube to one of the RAS volume."""
    result = np.diag([*(axis.step for axis in axes), 1.0])
    result[:3, 3] = [axis.first for axis in axes]
    return result


def to_image_space(cube: NDArray, image: Volume, settings: PreprocessSettings) -> NDArray:
    """Resample a map over the network's cube to the voxels of the image it came from.

    Args:
        cube: (size, size, size).
        image: as `preprocess` got it.
        settings: as `preprocess` got them.

    Returns:
        The shape of the image, float32; zero where the cube does not reach.
    """
    volume, affine = to_ras(image.voxels, image.affine)
    axes = whole_axes(volume.shape, spacing_of(affine), settings)
    back = tuple(_inverse_matrix(axis, settings.size) for axis in axes)
    return from_ras(apply_along_axes(cube, back), image.affine)


def _line_matrix(axis: Axis, size: int) -> sparse.csr_array:
    positions = axis.positions(size)
    matrix = interpolation_matrix(positions, axis.length)
    # Half a voxel around the outer centres belongs to the volume; beyond, nothing is known.
    is_inside = (positions >= -0.5) & (positions <= axis.length - 0.5)
    return sparse.csr_array(sparse.diags_array(is_inside.astype(float)) @ matrix)


def _inverse_matrix(axis: Axis, size: int) -> sparse.csr_array:
    turned = Axis(first=-axis.first / axis.step, step=1 / axis.step, length=size)
    return _line_matrix(turned, axis.length)
