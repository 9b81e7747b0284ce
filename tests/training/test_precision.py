"""The forward pass in fewer bits."""

import pytest
import torch
from torch import Tensor, nn

from nnunet_triad.training.precision import autocast, make_scaler

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_matrix_product_has_the_dtype_of_the_precision(precision: str, dtype: torch.dtype):
    with autocast(CPU, precision):
        assert torch.mm(torch.ones(2, 3), torch.ones(3, 2)).dtype == dtype


@pytest.mark.parametrize(("size", "stride"), [((8, 8, 2), 2), ((2, 2, 1), 1), ((4, 4, 1), 2)])
@pytest.mark.parametrize("layer", [nn.Conv3d, nn.ConvTranspose3d])
def test_small_convolution_in_bf16_is_right_on_a_cpu(layer: type, size: tuple, stride: int):
    """oneDNN's own leaves values unwritten, so freed memory is filled with what would show."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        convolution = layer(32, 32, 3, stride, padding=1)
        image = torch.randn(2, 32, *size)
    exact, rounded = (_gradients(convolution, image, precision) for precision in ("fp32", "bf16"))
    for expected, found in zip(exact, rounded, strict=True):
        assert (found - expected).norm() <= 2**-7 * expected.norm()


def _gradients(convolution: nn.Module, image: Tensor, precision: str) -> list[Tensor]:
    """The output, and its sum of squares' gradient by the weights."""
    garbage = [torch.full((2**size,), float("nan")) for size in range(4, 20)]
    del garbage
    with autocast(CPU, precision):
        output = convolution(image)
    (gradient,) = torch.autograd.grad(output.float().square().sum(), convolution.weight)
    return [output.float(), gradient]


@pytest.mark.parametrize(("edge", "dtype"), [(3, torch.float32), (4, torch.bfloat16)])
def test_convolution_from_four_voxels_on_has_the_precision(edge: int, dtype: torch.dtype):
    with autocast(CPU, "bf16"):
        assert nn.Conv3d(1, 1, 3)(torch.ones(1, 1, 8, 8, edge)).dtype == dtype


@pytest.mark.parametrize(("precision", "is_scaled"), [("fp32", 0), ("bf16", 0), ("fp16", 1)])
def test_only_fp16_scales_the_loss(precision: str, is_scaled: int):
    scaler = make_scaler(CPU, precision)

    assert scaler.is_enabled() == bool(is_scaled)
    assert bool(scaler.state_dict()) == bool(is_scaled)
    assert (scaler.scale(torch.tensor(1.0)).item() > 1) == bool(is_scaled)
