import pytest
import torch
from monai.losses import DiceLoss, DiffusionLoss, LocalNormalizedCrossCorrelationLoss
from torch.nn import functional

from registration.losses.dice import warped_dice_loss
from registration.losses.gradient import gradient_loss
from registration.losses.lncc import box_sum, lncc_loss
from registration.spatial import warp

SIZES = (2, 1, 31, 12, 26)  # crosses a slab; one axis hardly larger than the window


pytestmark = pytest.mark.usefixtures("seeded")


def straightforward_lncc(one, other, window=9):
    """The published formula with one convolution a sum, float64."""
    kernel = torch.ones(1, 1, *(window,) * 3, dtype=torch.float64)

    def total(image):
        return functional.conv3d(image, kernel, padding=window // 2)

    one, other = one.double(), other.double()
    size = window**3
    sum_one, sum_other = total(one), total(other)
    cross = total(one * other) - sum_one * sum_other / size
    variance_one = (total(one * one) - sum_one**2 / size).clamp(min=0)
    variance_other = (total(other * other) - sum_other**2 / size).clamp(min=0)
    return -(cross**2 / (variance_one * variance_other + 1e-5)).mean()


def brain_like(sizes):
    """Smooth structures in a flat background, with a flat bright region."""
    image = functional.avg_pool3d(torch.rand(sizes), 5, 1, 2)
    image[:, :, :8] = 0.0
    image[:, :, :, :, -11:] = 1.0
    return image


@pytest.mark.parametrize("window", [3, 5, 9])
def test_lncc_equals_the_straightforward_formula_and_its_gradients(window):
    images = [torch.rand(SIZES, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    expected = straightforward_lncc(*images, window=window)
    wanted = torch.autograd.grad(expected, images)
    found = lncc_loss(*images, window=window)
    assert found.item() == pytest.approx(expected.item(), rel=1e-9)
    for ours, theirs in zip(torch.autograd.grad(found, images), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lncc_on_flat_regions_holds_up_against_float64(dtype):
    fixed = brain_like(SIZES).to(dtype)
    warped = brain_like(SIZES).to(dtype).requires_grad_()
    reference = warped.detach().double().requires_grad_()
    expected = straightforward_lncc(reference, fixed)
    expected.backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = lncc_loss(warped, fixed)
    found.backward()
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected.item(), abs=1e-4)
    error = (warped.grad.double() - reference.grad).norm() / reference.grad.norm()
    assert error < (1e-3 if dtype == torch.float32 else 1e-2)


def test_lncc_in_half_precision_convolutions_would_not_hold_up():
    """Why the sums are taken in float32: with bf16 sums the published formula is far off."""
    one, other = brain_like(SIZES), brain_like(SIZES)
    monai = LocalNormalizedCrossCorrelationLoss(kernel_size=9)
    exact = straightforward_lncc(one, other).item()
    assert abs(monai(one.bfloat16(), other.bfloat16()).item() - exact) > 0.05
    assert abs(lncc_loss(one, other).item() - exact) < 1e-4


@pytest.mark.parametrize("value", [0.0, 1.0, 0.3])
def test_lncc_of_constant_images_is_zero_without_gradient(value):
    warped = torch.full(SIZES, value, requires_grad=True)
    loss = lncc_loss(warped, torch.full(SIZES, 0.7))
    loss.backward()
    inner = warped.grad[:, :, 9:-9, 4:-4, 9:-9]
    assert loss.isfinite()
    assert warped.grad.isfinite().all()
    assert inner.abs().max() < 1e-6


def test_lncc_is_minus_one_for_linearly_related_images_and_bounded():
    image = torch.rand(SIZES)
    related = lncc_loss(image, 3 * image)
    assert related.item() == pytest.approx(-1, abs=1e-3)
    assert -1 <= lncc_loss(image, torch.rand(SIZES)).item() <= 0
    assert lncc_loss(image, -image).item() == pytest.approx(-1, abs=1e-3)  # the square


def test_lncc_gradient_passes_gradcheck():
    images = torch.rand(2, 1, 1, 5, 6, 4, dtype=torch.float64)
    one, other = (image.requires_grad_() for image in images)
    assert torch.autograd.gradcheck(lambda a, b: lncc_loss(a, b, window=3), (one, other))


def test_lncc_refuses_other_shapes_and_even_windows():
    image = torch.rand(1, 1, 8, 9, 10)
    with pytest.raises(ValueError, match="fixed: expected the shape of warped"):
        lncc_loss(image, image[..., 1:])
    with pytest.raises(ValueError, match="window: expected an odd number"):
        lncc_loss(image, image, window=8)


def test_box_sum_equals_convolution():
    volumes = torch.rand(3, 11, 6, 9, dtype=torch.float64)
    for window in (1, 3, 7, 9):
        kernel = torch.ones(1, 1, *(window,) * 3, dtype=torch.float64)
        expected = functional.conv3d(volumes[:, None], kernel, padding=window // 2)[:, 0]
        torch.testing.assert_close(box_sum(volumes, window), expected)


def test_gradient_loss_equals_a_naive_loop():
    field = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    expected = sum((field.diff(dim=axis) ** 2).mean() for axis in (2, 3, 4)) / 3
    (wanted,) = torch.autograd.grad(expected, field)
    loss = gradient_loss(field)
    (found,) = torch.autograd.grad(loss, field)
    assert loss.item() == pytest.approx(expected.item())
    torch.testing.assert_close(found, wanted)


def test_gradient_loss_of_a_linear_field_is_its_squared_slope():
    slopes = torch.tensor([0.5, -0.25, 1.0])
    places = torch.arange(7.0).view(1, 1, 7, 1, 1).expand(1, 3, 7, 5, 6)
    field = places * slopes.view(1, 3, 1, 1, 1)
    # Three channels share the mean; only one of the three axes changes.
    assert gradient_loss(field).item() == pytest.approx((slopes**2).mean().item() / 3)


def test_gradient_loss_equals_a_third_of_monais_diffusion_loss_on_a_linear_field():
    """MONAI takes central differences on inner voxels, and the sum over the axes."""
    field = torch.einsum("ci,ixyz->cxyz", torch.randn(3, 3), _places((6, 7, 8)))[None]
    expected = DiffusionLoss()(field).item() / 3
    assert gradient_loss(field).item() == pytest.approx(expected, rel=1e-4)


def test_gradient_loss_of_one_slice_is_finite():
    assert gradient_loss(torch.randn(1, 3, 5, 6, 1)).isfinite()


def test_dice_loss_equals_monais_with_squared_denominators():
    moving = torch.randint(0, 4, (2, 1, 8, 9, 10))
    fixed = torch.randint(0, 4, (2, 1, 8, 9, 10))
    displacement = torch.randn(2, 3, 8, 9, 10, requires_grad=True)
    loss = warped_dice_loss(moving, fixed, displacement, classes=range(4))
    one_hot = torch.cat([(moving == label).float() for label in range(4)], dim=1)
    truth = torch.cat([(fixed == label).float() for label in range(4)], dim=1)
    monai = DiceLoss(squared_pred=True, smooth_nr=0, smooth_dr=1e-5)
    expected = monai(warp(one_hot, displacement), truth)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    (found,) = torch.autograd.grad(loss, displacement)
    (wanted,) = torch.autograd.grad(expected, displacement)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-8)


def _places(sizes):
    return torch.stack(torch.meshgrid(*map(torch.arange, sizes), indexing="ij")).float()
