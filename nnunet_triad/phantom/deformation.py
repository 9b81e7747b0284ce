"""Random anatomical variation: an affine and a smooth diffeomorphism, both invertible.

A stationary velocity field is integrated by scaling and squaring (Arsigny et al., MICCAI 2006) on a
coarse grid and interpolated by cubic splines. What is returned is what deforms the anatomy: the
splines of the integrated field, not an approximation of another field.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial.transform import Rotation

from nnunet_triad.phantom.grid import (
    FloatArray,
    apply_separably,
    axis_coordinates_mm,
    coarser_grid,
    spline_matrix,
)

STORED_STEP_MM = 1 / 1024  # of a displacement in a file, which then compresses
_CONTROL_SPACING_MM = 8.0
_SMOOTHNESS_MM = 16.0
_NUM_SQUARINGS = 6


@dataclass(frozen=True, kw_only=True)
class Deformation:
    """The map phi(p) = exp(v)(A p) from a subject's space to the template's, both in mm.

    Attributes:
        matrix: (4, 4), the affine A.
        velocity_mm: (3, x, y, z), v on the control grid; component i moves along axis i.
        control_affine: (4, 4) of the control grid, which lies in the template's space.
    """

    matrix: FloatArray
    velocity_mm: npt.NDArray[np.float32]
    control_affine: FloatArray

    def displacement_mm(
        self, shape: tuple[int, ...], affine: FloatArray
    ) -> npt.NDArray[np.float32]:
        """Return phi(p) - p for each voxel p of a grid in the subject's space.

        A template, sampled at p + displacement(p), gives the subject: a pull displacement.

        Returns:
            (3, x, y, z) float32, mm.
        """
        control = self.integrated(1.0)
        control_shape = control.shape[1:]
        centres = axis_coordinates_mm(control_shape, self.control_affine)
        moved = self.matrix[:3, :3] @ _points(control_shape, centres) + self.matrix[:3, 3:]
        # exp(v) at the affinely moved control points: then one spline covers both parts.
        return _upsample(
            self._sample(control, moved).reshape(3, *control_shape), centres, shape, affine
        ) + _affine_displacement(self.matrix, shape, affine)

    def inverse_displacement_mm(
        self, shape: tuple[int, ...], affine: FloatArray
    ) -> npt.NDArray[np.float32]:
        """Return phi^-1(q) - q for each voxel q of a grid in the template's space, mm."""
        control = self.integrated(-1.0)
        centres = axis_coordinates_mm(control.shape[1:], self.control_affine)
        backward = _upsample(control, centres, shape, affine)
        inverse = np.linalg.inv(self.matrix)
        rotated = np.einsum("ij,jxyz->ixyz", inverse[:3, :3].astype(np.float32), backward)
        return rotated + _affine_displacement(inverse, shape, affine)

    def integrated(self, sign: float) -> npt.NDArray[np.float32]:
        """Return exp(sign v)(p) - p on the control grid, mm, by scaling and squaring."""
        flow = (sign * self.velocity_mm / 2**_NUM_SQUARINGS).astype(np.float32)
        shape = flow.shape[1:]
        points = _points(shape, axis_coordinates_mm(shape, self.control_affine))
        for _ in range(_NUM_SQUARINGS):
            flow = flow + self._sample(flow, points + flow.reshape(3, -1)).reshape(flow.shape)
        return flow

    def _sample(self, field: npt.NDArray[np.float32], points_mm: FloatArray) -> FloatArray:
        """Sample (3, x, y, z) linearly at (3, n) points; the border's value outside."""
        spacing = np.diag(self.control_affine)[:3, None]
        voxels = (points_mm - self.control_affine[:3, 3:]) / spacing
        return np.stack(
            [ndimage.map_coordinates(part, voxels, order=1, mode="nearest") for part in field]
        )


def random_deformation(
    generator: np.random.Generator,
    shape: tuple[int, ...],
    affine: FloatArray,
    *,
    strength_mm: float = 4.0,
) -> Deformation:
    """Draw a deformation for a template's grid.

    Rotations to 8 degrees, translations to 6 mm, scalings to 8 %, shears to 3 %, about the centre;
    and a velocity whose length is `strength_mm` in the root mean square.
    """
    centre = affine[:3, 3] + np.diag(affine)[:3] * (np.array(shape) - 1) / 2
    control_shape, control_affine = coarser_grid(shape, affine, _CONTROL_SPACING_MM)
    noise = generator.standard_normal((3, *control_shape))
    sigma = _SMOOTHNESS_MM / _CONTROL_SPACING_MM
    smooth = np.stack([ndimage.gaussian_filter(part, sigma, mode="reflect") for part in noise])
    length = np.sqrt((smooth**2).sum(axis=0).mean())
    return Deformation(
        matrix=_random_affine(generator, centre),
        velocity_mm=(smooth * strength_mm / length).astype(np.float32),
        control_affine=control_affine,
    )


def identity_deformation(shape: tuple[int, ...], affine: FloatArray) -> Deformation:
    """Return the map that changes nothing."""
    control_shape, control_affine = coarser_grid(shape, affine, _CONTROL_SPACING_MM)
    return Deformation(
        matrix=np.eye(4),
        velocity_mm=np.zeros((3, *control_shape), np.float32),
        control_affine=control_affine,
    )


def jacobian_determinant(
    displacement_mm: npt.NDArray[np.floating], affine: FloatArray
) -> npt.NDArray[np.floating]:
    """Return the determinant of the derivative of p -> p + displacement(p), (x, y, z).

    One-sided differences at the border, central ones inside; 1 everywhere for the identity.
    """
    spacing_mm = np.diag(affine)[:3].tolist()
    derivative = np.stack(
        [np.stack(np.gradient(part, *spacing_mm)) for part in displacement_mm]
    )  # (component, axis, x, y, z)
    for axis in range(3):
        derivative[axis, axis] += 1
    (a, b, c), (d, e, f), (g, h, i) = derivative
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def _random_affine(generator: np.random.Generator, centre_mm: FloatArray) -> FloatArray:
    angles = generator.uniform(-8, 8, size=3)
    linear = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    linear = linear @ np.diag(generator.uniform(0.92, 1.08, size=3))
    shear = np.eye(3)
    shear[np.triu_indices(3, 1)] = generator.uniform(-0.03, 0.03, size=3)
    linear = linear @ shear
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = centre_mm - linear @ centre_mm + generator.uniform(-6, 6, size=3)
    return matrix


def _points(shape: tuple[int, ...], centres: list[FloatArray]) -> FloatArray:
    return np.stack(np.meshgrid(*centres, indexing="ij")).reshape(3, -1)


def _upsample(
    control: npt.NDArray[np.floating],
    centres: list[FloatArray],
    shape: tuple[int, ...],
    affine: FloatArray,
) -> npt.NDArray[np.float32]:
    fine = axis_coordinates_mm(shape, affine)
    matrices = [spline_matrix(old, new) for old, new in zip(centres, fine, strict=True)]
    return apply_separably(control.astype(np.float32), matrices)


def _affine_displacement(
    matrix: FloatArray, shape: tuple[int, ...], affine: FloatArray
) -> npt.NDArray[np.float32]:
    axes = [a.astype(np.float32) for a in axis_coordinates_mm(shape, affine)]
    x, y, z = axes[0][:, None, None], axes[1][:, None], axes[2]
    rows = (matrix[:3] - np.eye(4)[:3]).astype(np.float32)
    return np.stack([a * x + b * y + c * z + d for a, b, c, d in rows])
