"""A voxel grid in space, and a volume on it. World coordinates are NIfTI's: mm, RAS+."""

from dataclasses import dataclass, replace
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from nnunet_triad.images.orientation import spacing_of, to_ras

SAME_GRID_MM = 1e-3  # headers keep float32 and rounded text


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A voxel grid in space.

    Attributes:
        shape: voxels along x, y and z.
        affine: (4, 4), voxel to world (RAS), mm.
    """

    shape: tuple[int, int, int]
    affine: npt.NDArray[np.float64]

    @property
    def spacing_mm(self) -> npt.NDArray[np.float64]:
        """Distance between neighbouring voxels along each axis: (3,)."""
        return spacing_of(self.affine)

    @property
    def orientation(self) -> str:
        """The directions that the axes run to, as "RAS"."""
        return "".join(nib.orientations.aff2axcodes(self.affine))

    def difference(self, other: "Grid", *, tolerance_mm: float = SAME_GRID_MM) -> str:
        """Say how another grid differs; nothing where each corner lies within the tolerance."""
        if self.shape != other.shape:
            own, others = ("x".join(map(str, grid.shape)) for grid in (self, other))
            return f"size {others} instead of {own}"
        corners = np.array(np.meshgrid(*[(0, size - 1) for size in self.shape])).reshape(3, -1)
        gaps = (self.affine - other.affine)[:3] @ np.vstack([corners, np.ones(corners.shape[1])])
        largest = float(np.linalg.norm(gaps, axis=0).max())
        return "" if largest <= tolerance_mm else f"corners up to {largest:.3g} mm apart"

    def is_same(self, other: "Grid", *, tolerance_mm: float = SAME_GRID_MM) -> bool:
        """Tell whether all corners lie within a tolerance of the other's."""
        return not self.difference(other, tolerance_mm=tolerance_mm)

    def __str__(self) -> str:
        spacing = ", ".join(f"{length:.3g}" for length in self.spacing_mm)
        return f"{' x '.join(map(str, self.shape))} voxels of ({spacing}) mm"


@dataclass(frozen=True, kw_only=True)
class Volume:
    """Voxels on a grid.

    Attributes:
        voxels: (x, y, z): intensities, or whole numbers for labels.
        affine: (4, 4), voxel to world (RAS), mm.
        name: of the file that it was read from, for messages.
        num_filled: voxels that were no finite number there, and got another value.
        header: of that file, where it is NIfTI.
    """

    voxels: npt.NDArray[Any]
    affine: npt.NDArray[np.float64]
    name: str = ""
    num_filled: int = 0
    header: nib.Nifti1Header | None = None

    @property
    def grid(self) -> Grid:
        """The grid that the voxels lie on."""
        x, y, z = self.voxels.shape
        return Grid(shape=(x, y, z), affine=self.affine)

    def to_ras(self) -> "Volume":
        """Return the same volume with its axes towards right, anterior, superior."""
        voxels, affine = to_ras(self.voxels, self.affine)
        return replace(self, voxels=voxels, affine=affine, header=None)
