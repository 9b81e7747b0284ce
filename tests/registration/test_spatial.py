import pytest
import torch
from monai.networks.blocks import Warp
from torch.nn import functional

from registration.spatial import (
    compose,
    folding_percent,
    integrate_velocity,
    inverse_error,
    invert_displacement,
    jacobian_determinant,
    sd_log_jacobian,
    upsample_displacement,
    warp,
)

SIZES = (14, 10, 17)


pytestmark = pytest.mark.usefixtures("seeded")


def smooth_field(sizes=SIZES, amplitude=1.0):
    coarse = torch.randn(1, 3, 3, 3, 4, dtype=torch.float64)
    field = functional.interpolate(coarse, size=sizes, mode="trilinear", align_corners=True)
    return amplitude * functional.avg_pool3d(field, 3, 1, 1)


def test_warp_with_zero_displacement_is_the_identity():
    image = torch.rand(2, 3, *SIZES)
    torch.testing.assert_close(warp(image, torch.zeros(2, 3, *SIZES)), image, atol=1e-6, rtol=0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_warp_pulls_whole_voxels_along_each_axis_with_zeros_outside(axis):
    image = torch.rand(1, 1, *SIZES) + 1
    displacement = torch.zeros(1, 3, *SIZES)
    displacement[:, axis] = 2
    warped = warp(image, displacement)
    length = SIZES[axis] - 2
    torch.testing.assert_close(
        warped.narrow(axis + 2, 0, length), image.narrow(axis + 2, 2, length), atol=1e-5, rtol=0
    )
    assert warped.narrow(axis + 2, length, 2).abs().max() < 1e-5


def test_warp_equals_a_naive_double_loop():
    image = torch.rand(1, 1, 5, 6, 4, dtype=torch.float64)
    displacement = 2 * torch.randn(1, 3, 5, 6, 4, dtype=torch.float64)
    warped = warp(image, displacement)
    for place in torch.cartesian_prod(*map(torch.arange, (5, 6, 4))).tolist():
        target = torch.tensor(place) + displacement[(0, slice(None), *place)]
        expected = 0.0
        low = target.floor().long()
        for corner in torch.cartesian_prod(*[torch.tensor([0, 1])] * 3):
            voxel = low + corner
            weight = (1 - (target - voxel).abs()).prod()
            inside = all(0 <= v < n for v, n in zip(voxel.tolist(), (5, 6, 4), strict=True))
            expected += weight * image[(0, 0, *voxel.tolist())] if inside else 0.0
        assert warped[(0, 0, *place)].item() == pytest.approx(float(expected), abs=1e-9)


def test_warp_equals_monais():
    image, displacement = torch.rand(1, 2, *SIZES), 3 * torch.randn(1, 3, *SIZES)
    expected = Warp(padding_mode="zeros")(image, displacement.clone())
    torch.testing.assert_close(warp(image, displacement), expected, atol=1e-4, rtol=0)


def test_warp_stays_float32_under_autocast():
    image, displacement = torch.rand(1, 1, *SIZES), torch.randn(1, 3, *SIZES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        warped = warp(image, displacement)
    assert warped.dtype == torch.float32
    torch.testing.assert_close(warped, warp(image, displacement))


def test_warp_of_one_slice_is_finite():
    image = torch.rand(1, 1, 6, 5, 1)
    torch.testing.assert_close(warp(image, torch.zeros(1, 3, 6, 5, 1)), image)


def test_warp_refuses_a_displacement_for_another_grid():
    with pytest.raises(ValueError, match="displacement: expected the image's grid"):
        warp(torch.rand(1, 1, 4, 5, 6), torch.zeros(1, 3, 4, 5, 7))
    with pytest.raises(ValueError, match="displacement: expected \\(b, 3, x, y, z\\)"):
        warp(torch.rand(1, 1, 4, 5, 6), torch.zeros(1, 2, 4, 5, 6))


def test_compose_of_translations_adds_them():
    one = torch.tensor([1.0, -0.5, 2.0]).view(1, 3, 1, 1, 1).expand(1, 3, *SIZES)
    other = torch.tensor([0.25, 3.0, -1.0]).view(1, 3, 1, 1, 1).expand(1, 3, *SIZES)
    torch.testing.assert_close(compose(one, other), one + other)


def test_integration_of_a_constant_velocity_is_that_displacement():
    velocity = torch.tensor([1.5, -0.5, 0.25]).view(1, 3, 1, 1, 1).expand(1, 3, *SIZES)
    torch.testing.assert_close(integrate_velocity(velocity), velocity)


def test_integration_of_a_linear_velocity_is_the_exponential():
    rate = 0.1
    places = torch.arange(21.0, dtype=torch.float64) - 10
    velocity = torch.zeros(1, 3, 21, 6, 7, dtype=torch.float64)
    velocity[:, 0] = rate * places.view(1, 21, 1, 1)
    displacement = integrate_velocity(velocity)[0, 0, :, 3, 3]
    expected = places * (torch.tensor(rate, dtype=torch.float64).exp() - 1)
    torch.testing.assert_close(displacement[2:-2], expected[2:-2], rtol=1e-3, atol=1e-4)


def test_integration_of_the_negative_velocity_is_the_inverse_and_does_not_fold():
    velocity = smooth_field((24, 20, 28), amplitude=3.0)
    there, back = integrate_velocity(velocity), integrate_velocity(-velocity)
    error = compose(there, back)[:, :, 4:-4, 4:-4, 4:-4].norm(dim=1)
    assert there.norm(dim=1).mean() > 1
    assert error.mean() < 0.05
    assert folding_percent(there) == 0


def test_inverse_by_fixed_point_comes_back():
    displacement = smooth_field((24, 20, 28), amplitude=0.7)
    error = inverse_error(displacement, invert_displacement(displacement))[:, 4:-4, 4:-4, 4:-4]
    assert error.mean() < 0.01
    assert error.max() < 0.2  # at the kinks of linear interpolation


def test_jacobian_of_a_linear_map_is_its_determinant():
    matrix = torch.tensor([[1.2, 0.1, 0.0], [-0.2, 0.8, 0.3], [0.0, 0.1, 1.1]])
    places = torch.stack(torch.meshgrid(*map(torch.arange, SIZES), indexing="ij")).float()
    displacement = (torch.einsum("ij,jxyz->ixyz", matrix, places) - places)[None]
    found = jacobian_determinant(displacement)
    assert found.shape == (1, *(size - 2 for size in SIZES))
    torch.testing.assert_close(
        found, torch.full_like(found, matrix.det().item()), atol=1e-4, rtol=0
    )


def test_folding_counts_the_voxels_that_turn_inside_out():
    displacement = torch.zeros(1, 3, 12, 6, 6)
    displacement[:, 0, 6:] = -3.0 * torch.arange(6.0).view(1, 6, 1, 1)
    assert folding_percent(torch.zeros(1, 3, 6, 6, 6)) == 0
    # du/dx at x = 6 is -1.5, and -3 at 7 to 10: five of ten inner planes.
    assert folding_percent(displacement) == pytest.approx(50.0)


def test_sd_log_jacobian_of_a_scaling_is_zero_and_of_a_change_is_not():
    places = torch.arange(12.0).view(1, 1, 12, 1, 1).expand(1, 1, 12, 8, 9)
    displacement = torch.cat([0.1 * places, *[torch.zeros(1, 1, 12, 8, 9)] * 2], dim=1)
    assert sd_log_jacobian(displacement) == pytest.approx(0, abs=1e-5)
    assert sd_log_jacobian(displacement * places) > 0.01


def test_upsampled_displacement_moves_as_far():
    coarse = torch.ones(1, 3, 5, 4, 6)
    fine = upsample_displacement(coarse, (10, 8, 12))
    torch.testing.assert_close(fine, torch.full((1, 3, 10, 8, 12), 2.0))
