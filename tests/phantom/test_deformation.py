import dataclasses

import numpy as np
import pytest

from nnunet_triad.phantom.deformation import (
    Deformation,
    identity_deformation,
    jacobian_determinant,
    random_deformation,
)
from nnunet_triad.phantom.grid import FloatArray, axis_coordinates_mm, make_affine

SHAPE, AFFINE = (30, 40, 26), make_affine(4.0, (-60, -80, -50))


def draw(seed: int, **options: float) -> Deformation:
    return random_deformation(np.random.default_rng(seed), SHAPE, AFFINE, **options)


def points() -> FloatArray:
    return np.stack(np.meshgrid(*axis_coordinates_mm(SHAPE, AFFINE), indexing="ij"))


def test_identity_has_no_displacement() -> None:
    displacement = identity_deformation(SHAPE, AFFINE).displacement_mm(SHAPE, AFFINE)
    assert displacement.shape == (3, *SHAPE)
    assert not displacement.any()


def test_affine_alone_gives_the_matrix_exactly() -> None:
    deformation = draw(0, strength_mm=0.0)
    matrix = deformation.matrix
    moved = np.einsum("ij,jxyz->ixyz", matrix[:3, :3], points()) + matrix[:3, 3, None, None, None]
    np.testing.assert_allclose(
        deformation.displacement_mm(SHAPE, AFFINE), moved - points(), atol=1e-4
    )


def test_translation_moves_along_its_own_axis() -> None:
    matrix = np.eye(4)
    matrix[:3, 3] = (1, 2, 3)
    deformation = dataclasses.replace(identity_deformation(SHAPE, AFFINE), matrix=matrix)
    displacement = deformation.displacement_mm(SHAPE, AFFINE)
    np.testing.assert_allclose(displacement.mean(axis=(1, 2, 3)), (1, 2, 3), atol=1e-5)


def test_constant_velocity_integrates_to_itself() -> None:
    identity = identity_deformation(SHAPE, AFFINE)
    velocity = np.ones_like(identity.velocity_mm) * np.array([3, -2, 1])[:, None, None, None]
    flow = dataclasses.replace(identity, velocity_mm=velocity.astype(np.float32))
    np.testing.assert_allclose(flow.integrated(1.0), velocity, rtol=1e-5)


def test_linear_velocity_integrates_to_the_exponential() -> None:
    # dx/dt = a x gives x e^a, away from the border, where the field stops growing.
    identity = identity_deformation(SHAPE, AFFINE)
    shape, affine = identity.velocity_mm.shape[1:], identity.control_affine
    x = np.stack(np.meshgrid(*axis_coordinates_mm(shape, affine), indexing="ij"))
    flow = dataclasses.replace(identity, velocity_mm=(-0.3 * x).astype(np.float32))
    expected = (np.exp(-0.3) - 1) * x
    np.testing.assert_allclose(flow.integrated(1.0), expected, atol=0.1)


@pytest.mark.parametrize("seed", range(8))
def test_random_deformations_do_not_fold(seed: int) -> None:
    displacement = draw(seed).displacement_mm(SHAPE, AFFINE)
    assert jacobian_determinant(displacement, AFFINE).min() > 0.1
    assert np.linalg.norm(displacement, axis=0).mean() > 2  # and they do something


def test_inverse_undoes_the_deformation() -> None:
    deformation = draw(3)
    there = deformation.displacement_mm(SHAPE, AFFINE)
    back = deformation.inverse_displacement_mm(SHAPE, AFFINE)
    # Follow the map, then its inverse, sampled where the first one ends.
    from scipy import ndimage

    voxels = (points() + there - AFFINE[:3, 3, None, None, None]) / 4.0
    onward = np.stack([ndimage.map_coordinates(p, voxels, order=1, mode="nearest") for p in back])
    inside = np.s_[:, 6:-6, 6:-6, 6:-6]
    error = np.linalg.norm((there + onward)[inside], axis=0)
    assert np.linalg.norm(there[inside], axis=0).mean() > 3
    assert error.mean() < 0.15
    assert error.max() < 1.0


def test_jacobian_of_a_scaling_is_its_volume_factor() -> None:
    affine = make_affine((1, 2, 3), (5, 6, 7))
    axes = np.meshgrid(*axis_coordinates_mm((6, 7, 8), affine), indexing="ij")
    displacement = np.stack([0.1 * axes[0], 0.2 * axes[1], -0.3 * axes[2]])
    np.testing.assert_allclose(jacobian_determinant(displacement, affine), 1.1 * 1.2 * 0.7)


def test_jacobian_sees_a_fold() -> None:
    affine = make_affine(1.0, 0.0)
    x = np.arange(6.0)[:, None, None] * np.ones((6, 5, 4))
    displacement = np.stack([-1.5 * x, 0 * x, 0 * x])  # x -> -0.5 x
    assert jacobian_determinant(displacement, affine).max() < 0
