"""The layout of BraTS 2021 as published: four sequences without skull, labels 0, 1, 2 and 4."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from nnunet_triad.errors import UserError
from nnunet_triad.images import write_volume
from nnunet_triad.phantom.acquisition import Acquisition
from nnunet_triad.phantom.population import Population
from nnunet_triad.phantom.writers.brain_extraction import channels_of, relabelled
from nnunet_triad.phantom.writers.folder import open_folder, track

# Sequence -> last word of the file's name.
MODALITIES = {"FLAIR": "flair", "T1w": "t1", "T1ce": "t1ce", "T2w": "t2"}
LABELS = {"necrotic_core": 1, "oedema": 2, "enhancing_rim": 4}
# Every published volume: 240 x 240 x 155 voxels of 1 mm.
_EXTENT_MM = (240.0, 240.0, 155.0)


def write_brats21(folder: Path, population: Population, *, show_progress: bool = False) -> Path:
    """Write FOLDER/BraTS2021_NNNNN/BraTS2021_NNNNN_{flair,t1,t1ce,t2,seg}.nii.gz.

    With a spacing of 1 mm the grid is that of the publication: 240 x 240 x 155, axes running to the
    left, the back and the top. A coarser spacing covers the same space with fewer voxels.

    Args:
        folder: new, empty, or begun by the same call.
        population: brains.
        show_progress: a bar on the terminal.

    Raises:
        UserError: other anatomies than the brain.
    """
    if population.anatomies != ("brain",):
        raise UserError(f"anatomy: expected brain, got {', '.join(population.anatomies)}")
    with open_folder(folder, population, layout="brats21") as folder:
        total = population.num_subjects
        for number in track(range(total), total, "BraTS21", is_shown=show_progress):
            case = f"BraTS2021_{number:05d}"
            volumes = channels_of(population, number, tuple(MODALITIES), is_stripped=True)
            for volume, modality in zip(volumes, MODALITIES.values(), strict=True):
                image = np.rint(volume.image).astype(np.int16)
                _write(folder / case / f"{case}_{modality}.nii.gz", image, volume)
            _write(folder / case / f"{case}_seg.nii.gz", relabelled(volumes[0], LABELS), volumes[0])
    return folder


def _write(path: Path, array: npt.NDArray[np.generic], volume: Acquisition) -> None:
    spacing_mm = volume.spacing_mm[0]
    shape = tuple(round(extent / spacing_mm) for extent in _EXTENT_MM)
    levels = np.flatnonzero((volume.labels > 0).any(axis=(0, 1)))
    center_z = round((levels[0] + levels[-1]) / 2)
    x, y, _ = array.shape
    placed = _place(array, shape, center=(x // 2, y // 2, center_z))
    affine = np.diag([-spacing_mm, -spacing_mm, spacing_mm, 1.0])
    affine[1, 3] = spacing_mm * (shape[1] - 1)
    write_volume(path, np.ascontiguousarray(placed[::-1, ::-1]), affine)


def _place(
    array: npt.NDArray[np.generic], shape: tuple[int, ...], *, center: tuple[int, int, int]
) -> npt.NDArray[np.generic]:
    """Crop and pad with zeros so that voxel `center` comes to the middle of `shape`."""
    result = np.zeros(shape, array.dtype)
    source, target = [], []
    for middle, old, new in zip(center, array.shape, shape, strict=True):
        start = middle - new // 2  # of the result, in the array's voxels
        low, high = max(0, start), min(old, start + new)
        source.append(slice(low, high))
        target.append(slice(low - start, high - start))
    result[tuple(target)] = array[tuple(source)]
    return result
