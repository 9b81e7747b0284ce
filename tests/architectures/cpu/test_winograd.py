"""Half the multiplications, the same convolution."""

import pytest
import torch
from torch.nn import functional

from nnunet_triad.architectures.cpu.winograd import conv3d_winograd


@pytest.mark.parametrize("x", [1, 2, 3, 4, 5, 9])
def test_convolution_and_its_gradients_are_exact_for_any_number_of_planes(x: int) -> None:
    torch.manual_seed(x)
    image = torch.randn(2, 3, x, 4, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 3, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    found = conv3d_winograd(image, weight)
    expected = functional.conv3d(image, weight, padding=1)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(conv3d_winograd, (image, weight))


def test_rounding_error_is_of_the_size_of_the_direct_sum_s() -> None:
    torch.manual_seed(0)
    image, weight = torch.randn(1, 48, 16, 16, 16), torch.randn(48, 48, 3, 3, 3) / 36
    arguments = [tensor.requires_grad_() for tensor in (image, weight)]
    exact_arguments = [tensor.detach().double().requires_grad_() for tensor in arguments]
    exact = functional.conv3d(*exact_arguments, padding=1)
    cotangent = torch.randn_like(exact)
    exact_gradients = torch.autograd.grad(exact, exact_arguments, cotangent)

    def errors(output: torch.Tensor) -> list[float]:
        gradients = torch.autograd.grad(output, arguments, cotangent.float())
        pairs = zip((output, *gradients), (exact, *exact_gradients), strict=True)
        return [(found - right).square().mean().sqrt().item() for found, right in pairs]

    direct = errors(functional.conv3d(*arguments, padding=1))
    ours = errors(conv3d_winograd(*arguments))
    for our_error, direct_error in zip(ours, direct, strict=True):
        assert our_error < 8 * direct_error


def test_gradient_that_is_not_asked_for_is_not_computed() -> None:
    image, weight = torch.randn(1, 2, 4, 4, 4), torch.randn(2, 2, 3, 3, 3, requires_grad=True)
    conv3d_winograd(image, weight).sum().backward()
    assert weight.grad is not None
    assert image.grad is None


def test_second_derivative_is_refused_instead_of_being_wrong() -> None:
    image, weight = torch.randn(1, 2, 4, 4, 4), torch.randn(2, 2, 3, 3, 3, requires_grad=True)
    loss = conv3d_winograd(image, weight).square().sum()
    (gradient,) = torch.autograd.grad(loss, weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
