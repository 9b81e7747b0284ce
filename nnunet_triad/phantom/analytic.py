"""Two simple anatomies from formulas: a pelvis with prostate zones and bladder, and breasts.

They stand in for other organs where a program must be exercised, not for patients.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import ndimage

FloatMap = dict[str, npt.NDArray[np.float32]]
_Point = tuple[float, float, float]


@dataclass(kw_only=True)
class Painting:
    """Tissues painted one over another on a grid; partial volume at their borders.

    Attributes:
        shape: voxels.
        spacing_mm: of the isotropic grid; the volume's centre is at the origin.
        fractions: (x, y, z) float32 a tissue.
    """

    shape: tuple[int, int, int]
    spacing_mm: float
    fractions: FloatMap = field(default_factory=dict)

    @property
    def origin_mm(self) -> npt.NDArray[np.floating]:
        """Centre of voxel 0."""
        return -self.spacing_mm * (np.array(self.shape) - 1) / 2

    @property
    def axes_mm(self) -> list[npt.NDArray[np.floating]]:
        """Coordinates x (x, 1, 1), y (y, 1) and z (z,)."""
        origin = self.origin_mm
        x, y, z = (
            start + self.spacing_mm * np.arange(n)
            for start, n in zip(origin, self.shape, strict=True)
        )
        return [x[:, None, None], y[:, None], z]

    def soft(self, distance_mm: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Return the fraction of each voxel in which a signed distance is negative."""
        inside = np.clip(0.5 - distance_mm / self.spacing_mm, 0, 1)
        return np.broadcast_to(inside, self.shape).astype(np.float32)

    def ellipsoid_mm(self, centre: _Point, radii: _Point) -> npt.NDArray[np.floating]:
        """Return the signed distance to an ellipsoid, exact on its surface, near it elsewhere."""
        x, y, z = ((axis - c) / r for axis, c, r in zip(self.axes_mm, centre, radii, strict=True))
        return (np.sqrt(x**2 + y**2 + z**2) - 1) * float(np.prod(radii)) ** (1 / 3)

    def paint(self, tissue: str, inside: npt.NDArray[np.float32]) -> None:
        """Put a tissue over all that is there."""
        for name in self.fractions:
            self.fractions[name] = self.fractions[name] * (1 - inside)
        self.fractions[tissue] = self.fractions.get(tissue, np.float32(0)) + inside

    def texture(self, scale_mm: float, seed: int) -> npt.NDArray[np.floating]:
        """Return smooth noise of mean 0 and standard deviation 1, the same at every spacing."""
        # Drawn on a grid of its own, so that the spacing of the painting does not change it.
        coarse_mm = scale_mm / 2
        extent = np.array(self.shape) * self.spacing_mm
        shape = tuple(int(n) for n in np.ceil(extent / coarse_mm) + 4)
        noise = np.random.default_rng(seed).standard_normal(shape)
        noise = ndimage.gaussian_filter(noise, 1.0)
        grid = np.meshgrid(
            *[
                (axis.ravel() / coarse_mm + n / 2)
                for axis, n in zip(self.axes_mm, shape, strict=True)
            ],
            indexing="ij",
        )
        values = ndimage.map_coordinates(noise, grid, order=3, mode="nearest")
        return (values - noise.mean()) / noise.std()


def make_pelvis(spacing_mm: float) -> Painting:
    """Return a male pelvis, 200 x 160 x 120 mm: bladder, prostate with two zones, rectum."""
    painting = _blank((200, 160, 120), spacing_mm)
    soft, ellipsoid = painting.soft, painting.ellipsoid_mm
    painting.paint("fat", soft(ellipsoid((0, 0, 0), (96, 74, 400))))
    painting.paint("muscle", soft(ellipsoid((0, -62, 0), (60, 22, 400))))  # gluteal
    for side in (-1, 1):
        painting.paint("muscle", soft(ellipsoid((side * 48, 4, -5), (14, 38, 52))))  # obturator
        painting.paint("bone", soft(ellipsoid((side * 72, 6, 5), (20, 22, 40))))  # acetabulum
        painting.paint("fat", soft(ellipsoid((side * 72, 6, 5), (15, 17, 35))))  # its marrow
    painting.paint("bone", soft(ellipsoid((0, 46, -22), (26, 8, 18))))  # symphysis
    painting.paint("organ_wall", soft(ellipsoid((0, 12, 34), (35, 27, 26))))
    painting.paint("urine", soft(ellipsoid((0, 12, 34), (31, 23, 22))))
    painting.paint("organ_wall", soft(ellipsoid((0, -36, 0), (15, 13, 400))))
    painting.paint("fat", soft(ellipsoid((0, -36, 0), (10, 8, 400))))  # the rectum's content
    painting.paint("muscle", soft(ellipsoid((0, -2, -16), (27, 22, 24))))  # capsule
    painting.paint("peripheral_zone", soft(ellipsoid((0, -2, -16), (25, 20, 22))))
    painting.paint("transition_zone", soft(ellipsoid((0, 4, -11), (17, 13, 15))))
    return painting


def make_breast(spacing_mm: float) -> Painting:
    """Return both breasts on the chest wall, 300 x 140 x 140 mm, lying face down as for MRI."""
    painting = _blank((300, 140, 140), spacing_mm)
    _, y, _ = painting.axes_mm
    soft, ellipsoid = painting.soft, painting.ellipsoid_mm
    wall_mm = y + 32 + (painting.axes_mm[0] / 100) ** 2 * 8
    texture = painting.texture(11.0, seed=152)
    for side in (-1, 1):
        skin = soft(ellipsoid((side * 70, -34, 0), (62, 92, 60)))
        painting.paint("muscle", skin)
        painting.paint("breast_fat", soft(ellipsoid((side * 70, -34, 0), (60, 90, 58))))
        # Lobes: strands of texture, dense towards the nipple.
        gland_mm = np.maximum(ellipsoid((side * 70, -2, 0), (42, 46, 40)), -4.5 * (texture + 0.15))
        painting.paint("fibroglandular", soft(gland_mm))
    painting.paint("muscle", soft(wall_mm))
    ribs_mm = np.abs(wall_mm + 14) - 5
    painting.paint("bone", soft(np.broadcast_to(ribs_mm, painting.shape)))
    return painting


def _blank(extent_mm: _Point, spacing_mm: float) -> Painting:
    x, y, z = (max(1, round(extent / spacing_mm)) for extent in extent_mm)
    return Painting(shape=(x, y, z), spacing_mm=spacing_mm)
