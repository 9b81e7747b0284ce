"""Displacement fields as NIfTI files that say in which convention they are.

Written are ITK's conventions: (x, y, z, 1, 3) with intent code 1007 (vector), each vector in mm and
LPS, on the grid of the fixed image; a point of the fixed image plus its vector is the point of the
moving image. SimpleITK, ANTs and Slicer apply such a file to a moving image as it is.

Read are those, and what its header tells to be in mm and RAS: intent code 1006 (displacement
vector), as ITK reads it, and NiftyReg's deformation and displacement fields. All else is refused:
FSL's fields (2006 to 2018) count from the corner of an image that mirrors with its determinant,
VoxelMorph's and MRtrix' four dimensions hold voxels or positions, SPM's "Mapping" positions.
"""

from pathlib import Path

import numpy as np

from nnunet_triad.errors import UserError
from nnunet_triad.files import write_json
from nnunet_triad.images.orientation import is_singular
from nnunet_triad.images.reader import ImageFile, open_image
from nnunet_triad.images.writer import write_volume

_TO_LPS = np.array([-1, -1, 1], dtype=np.float32)
_INTENT_DISPLACEMENT = 1006  # RAS
_INTENT_VECTOR = 1007  # LPS, unless a program's name stands beside it
_FSL_INTENTS = range(2006, 2019)
_NIFTYREG = "NREG_TRANS"  # name of the intent; its first parameter tells the kind
_NIFTYREG_POSITIONS, _NIFTYREG_DISPLACEMENTS = 0, 1  # others are splines and velocities
_MM_OR_UNKNOWN = ("mm", "unknown")
_ADVICE = "convert it with the program that made it to an ITK (ANTs) displacement field"


def write_displacement(
    path: Path, displacement_mm: np.ndarray, affine: np.ndarray, *, step_mm: float = 0
) -> None:
    """Write a field.

    Args:
        path: .nii or .nii.gz.
        displacement_mm: (x, y, z, 3), mm, RAS.
        affine: (4, 4) of the fixed grid.
        step_mm: lengths are rounded to multiples of it, which compress; 0: not at all.
    """
    vectors = (displacement_mm * _TO_LPS).astype(np.float32)[:, :, :, None, :]
    if step_mm:
        vectors = np.rint(vectors / np.float32(step_mm)) * np.float32(step_mm)
    write_volume(path, vectors, affine, intent=_INTENT_VECTOR)


def describe_displacement(path: Path, *, grid_of: str, points_into: str) -> None:
    """Write JSON that says in words what the field beside it holds.

    Args:
        path: the JSON.
        grid_of: image whose grid and points the field starts from.
        points_into: image that its vectors lead to.
    """
    content = {
        "type": "displacement field",
        "intent_code": _INTENT_VECTOR,
        "shape": "x, y, z, 1, 3",
        "vectors": "LPS: towards left, posterior, superior",
        "units": "mm",
        "grid": grid_of,
        "meaning": f"point of {grid_of} + vector = point of {points_into}",
        "read_by": "SimpleITK, ANTs, Slicer; triad-register warp",
    }
    write_json(path, content)


def read_displacement(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a field whose header says in which convention it is; NaN stays.

    Returns:
        (x, y, z, 3) float32, mm, RAS, and the affine.

    Raises:
        UserError: it is missing, cannot be read, or is no displacement field of a known convention.
    """
    with open_image(path) as file:
        if (len(file.shape), file.shape[3:]) != (5, (1, 3)):
            raise _refused(path, " x ".join(map(str, file.shape)))
        if is_singular(file.affine):
            raise _refused(path, f"an affine without three directions, {file.affine.tolist()}")
        is_ras, is_absolute = _convention(path, file)
        vectors = file.read().astype(np.float32)[:, :, :, 0]
    if is_absolute:
        vectors = vectors - _positions(vectors.shape[:3], file.affine)
    return vectors if is_ras else vectors * _TO_LPS, file.affine


def _convention(path: Path, file: ImageFile) -> tuple[bool, bool]:
    """Return whether vectors are RAS (else LPS), and whether they are positions."""
    if file.header is None:
        raise _refused(path, "a file that is no NIfTI")
    code, _, name = file.header.get_intent("code")
    unit = file.header.get_xyzt_units()[0]
    if unit not in _MM_OR_UNKNOWN:
        raise _refused(path, f"one in units of {unit}")
    if code == _INTENT_DISPLACEMENT:
        return True, False
    if code == _INTENT_VECTOR and name == _NIFTYREG:
        kind = float(file.header["intent_p1"])
        if kind in (_NIFTYREG_POSITIONS, _NIFTYREG_DISPLACEMENTS):
            return True, kind == _NIFTYREG_POSITIONS
        raise _refused(path, "a spline or velocity of NiftyReg")
    if code == _INTENT_VECTOR and not name:
        return False, False
    whose = " of FSL" if code in _FSL_INTENTS else ""
    raise _refused(path, f"one{whose} with intent code {code}" + f" {name!r}" * bool(name))


def _positions(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Return the world coordinates of each voxel: (x, y, z, 3), mm, RAS."""
    index = np.moveaxis(np.indices(shape, dtype=np.float64), 0, -1)
    return (index @ affine[:3, :3].T + affine[:3, 3]).astype(np.float32)


def _refused(path: Path, got: str) -> UserError:
    return UserError(
        f"{path}: expected a displacement field (x, y, z, 1, 3) of intent code 1007 (vectors in "
        f"mm, LPS) or 1006 (RAS), got {got}; give the file of --displacement, or {_ADVICE}"
    )
