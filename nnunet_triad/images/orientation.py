"""Orientation and spacing of a voxel grid."""

import nibabel as nib
import numpy as np


def to_ras(volume: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flip and permute axes so that x runs to the right, y to anterior and z to superior.

    Source: Triad, section 4.1 (first axis left to right, second posterior to anterior, third
    inferior to superior). An oblique grid is not rotated: each axis takes the anatomical
    direction that it is nearest to, and the rotation stays in the affine.

    Args:
        volume: (x, y, z).
        affine: (4, 4), voxel to world (RAS) in mm, invertible.

    Returns:
        The volume (a view) and its affine.
    """
    orientation = nib.orientations.io_orientation(affine)
    turned = nib.orientations.apply_orientation(volume, orientation)
    return turned, affine @ nib.orientations.inv_ornt_aff(orientation, volume.shape)


def spacing_of(affine: np.ndarray) -> np.ndarray:
    """Return the distance between neighbouring voxels along each axis: (3,), mm."""
    return np.linalg.norm(affine[:3, :3], axis=0)
