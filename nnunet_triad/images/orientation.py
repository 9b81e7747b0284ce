"""Orientation and spacing of a voxel grid."""

import nibabel as nib
import numpy as np

_MIN_DETERMINANT = 1e-3  # of the unit axes; 1 for a rotation, 0 for axes in one plane


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


def from_ras(turned: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Give a volume that `to_ras` turned the axes back that it had under `affine`: a view."""
    own = nib.orientations.io_orientation(affine)
    ras = nib.orientations.axcodes2ornt("RAS")
    return nib.orientations.apply_orientation(turned, nib.orientations.ornt_transform(ras, own))


def axes_of(affine: np.ndarray) -> str:
    """Return the patient axis that each array axis runs along, such as xyz or zyx.

    x is right-left, y is anterior-posterior, z is inferior-superior, either way round. An oblique
    axis counts as the one that it is nearest to.

    Args:
        affine: (4, 4) or (3, 3), voxel to world (RAS or LPS) in mm, invertible.
    """
    whole = np.eye(4)
    whole[:3, :3] = affine[:3, :3]
    axes = nib.orientations.io_orientation(whole)[:, 0]
    return "".join("xyz"[int(axis)] for axis in axes)


def degrees_off(affine: np.ndarray) -> float:
    """Return the largest angle between an array axis and the patient axis that it is nearest to.

    Args:
        affine: (4, 4) or (3, 3), voxel to world in mm, invertible.
    """
    directions = affine[:3, :3] / spacing_of(affine)
    cosines = np.abs(directions).max(axis=0).clip(0, 1)
    return float(np.degrees(np.arccos(cosines)).max())


def order_of_axes(seen: str, here: str) -> tuple[int, int, int]:
    """Return the order in which an array's axes become those of another one.

    Args:
        seen: axes of the array that is wanted, such as xyz.
        here: axes of the array that there is, such as zyx.

    Returns:
        Axis j of the wanted array is axis `order[j]` of the one here.
    """
    i, j, k = (here.index(axis) for axis in seen)
    return i, j, k


def spacing_of(affine: np.ndarray) -> np.ndarray:
    """Return the distance between neighbouring voxels along each axis: (3,), mm."""
    return np.linalg.norm(affine[:3, :3], axis=0)


def is_singular(affine: np.ndarray) -> bool:
    """Tell whether an affine has no three directions, or holds what is no finite number."""
    if not np.isfinite(affine).all() or not spacing_of(affine).all():
        return True
    return bool(abs(np.linalg.det(affine[:3, :3] / spacing_of(affine))) < _MIN_DETERMINANT)
