"""Skull and scalp around a brain that has been stripped of them."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

# Outer radius of each shell, in mm from the surface of the brain: fluid, skull, fat, skin. Mean
# thicknesses of an adult's head at the vertex, without the air sinuses and the face.
_SHELLS_MM = (("csf", 2.5), ("bone", 8.5), ("fat", 12.5), ("muscle", 14.5))
_SMOOTHING_MM = 3.0


def add_shells(maps: dict[str, npt.NDArray[np.float32]], spacing_mm: float) -> None:
    """Add fluid, bone, fat and skin around the brain, in place.

    Args:
        maps: (x, y, z) fraction of each of csf, grey_matter and white_matter, adding up to at
            most 1; bone, fat and muscle (BrainWeb's "muscle/skin") are added.
        spacing_mm: of the isotropic grid.
    """
    brain = np.sum(list(maps.values()), axis=0)
    distance_mm = ndimage.distance_transform_edt(brain < 0.5, sampling=spacing_mm)
    # Sulci and the edges of voxels do not show in the skull.
    distance_mm = ndimage.gaussian_filter(distance_mm, _SMOOTHING_MM / spacing_mm)
    free = np.clip(1 - brain, 0, None)
    inner = np.zeros_like(brain)
    for tissue, radius_mm in _SHELLS_MM:
        within = np.clip((radius_mm - distance_mm) / spacing_mm + 0.5, 0, 1)
        shell = (free * (within - inner)).astype(np.float32)
        maps[tissue] = maps[tissue] + shell if tissue in maps else shell
        inner = within
