"""A voxel grid in space, and a volume on it. World coordinates are NIfTI's: mm, RAS+."""

from dataclasses import dataclass, replace
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from nnunet_triad.errors import UserError
from nnunet_triad.images.orientation import spacing_of, to_ras

SAME_GRID_MM = 1e-3  # headers keep float32 and rounded text
_ROUNDING_VOXELS = 0.01  # that headers of one image and its labels differ by


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
        if largest <= tolerance_mm:
            return ""
        return f"corners up to {largest:.3g} mm apart ({self._what_differs(other)})"

    def _what_differs(self, other: "Grid") -> str:
        """Name the first of axes, spacing, directions and origin that differs most plainly."""
        parts = {
            "axes towards": (self.orientation, other.orientation),
            "spacing": (_numbers(self.spacing_mm), _numbers(other.spacing_mm)),
            "directions": (_numbers(_directions(self)), _numbers(_directions(other))),
            "origin": (_numbers(self.affine[:3, 3]), _numbers(other.affine[:3, 3])),
        }
        for name, (own, others) in parts.items():
            if own != others:
                return f"{name} {others} instead of {own}"
        return "the last digits of the affine"

    def check_covers(self, other: "Grid", *, name: str, of: str, advice: str) -> None:
        """Check that what lies on another grid lies on this one, but for the rounding of headers.

        Args:
            other: its grid.
            name: of what lies there.
            of: name of what lies on this grid.
            advice: what to do if it does not.

        Raises:
            UserError: a corner is further away than 0.01 voxels.
        """
        difference = self.difference(other, tolerance_mm=self.rounding_mm)
        if difference:
            raise UserError(f"{name}: expected the grid of {of}, got {difference}; {advice}")

    @property
    def rounding_mm(self) -> float:
        """How far corners may be apart because headers keep float32 and rounded text."""
        return _ROUNDING_VOXELS * float(self.spacing_mm.min())

    def is_same(self, other: "Grid", *, tolerance_mm: float = SAME_GRID_MM) -> bool:
        """Tell whether all corners lie within a tolerance of the other's."""
        return not self.difference(other, tolerance_mm=tolerance_mm)

    def __str__(self) -> str:
        spacing = ", ".join(f"{length:.3g}" for length in self.spacing_mm)
        return f"{' x '.join(map(str, self.shape))} voxels of ({spacing}) mm"


def _directions(grid: Grid) -> npt.NDArray[np.float64]:
    return (grid.affine[:3, :3] / grid.spacing_mm).T.ravel()


def _numbers(values: npt.NDArray[np.floating]) -> str:
    # + 0.0: no negative zero
    return "(" + ", ".join(f"{value + 0.0:.4g}" for value in np.round(values, 4)) + ")"


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
