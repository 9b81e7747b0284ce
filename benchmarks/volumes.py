"""The volumes that the benchmarks of curation and reading work on."""

from pathlib import Path

import nibabel as nib
import numpy as np

from nnunet_triad.images.resampling import apply_along_axes, plan_resampling
from nnunet_triad.phantom import icbm_t1

SOURCE_SHAPE = (246, 291, 126)
STORED_SHAPE = (256, 256, 128)
_NOISE = 0.015  # of the brightest tissue, as a scanner's at 3 T


def resample_and_resize(
    volume: np.ndarray,
    affine: np.ndarray,
    *,
    target_spacing_mm: tuple[float, float, float],
    target_shape: tuple[int, int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Return a volume (x, y, z) and its affine as curation has them; see `plan_resampling`."""
    matrices, new_affine = plan_resampling(
        volume.shape, affine, target_spacing_mm=target_spacing_mm, target_shape=target_shape
    )
    return apply_along_axes(volume, matrices), new_affine


def source_image() -> nib.Nifti1Image:
    """Return a brain T1 of 246 x 291 x 126 voxels as int16, with Rician noise."""
    volume = icbm_t1()
    grid, affine = resample_and_resize(
        volume.image, volume.affine, target_spacing_mm=(1.0, 1.0, 1.0), target_shape=SOURCE_SHAPE
    )
    random = np.random.default_rng(0)
    signal = grid / grid.max() * 1000
    real, imaginary = random.normal(0, _NOISE * 1000, (2, *SOURCE_SHAPE))
    noisy = np.hypot(signal + real, imaginary)
    return nib.Nifti1Image(np.rint(noisy).astype(np.int16), affine)


def stored_volume() -> np.ndarray:
    """Return the same brain as it is stored: 256 x 256 x 128, uint16."""
    image = source_image()
    volume, _ = resample_and_resize(
        np.asarray(image.dataobj),
        image.affine,
        target_spacing_mm=(1.0, 1.0, 1.0),
        target_shape=STORED_SHAPE,
    )
    return np.rint(volume).astype(np.uint16)


def write_source(folder: Path) -> Path:
    """Write `source_image` as .nii.gz and return its path."""
    path = folder / "sub-001" / "anat" / "sub-001_T1w.nii.gz"
    path.parent.mkdir(parents=True)
    nib.save(source_image(), path)
    return path
