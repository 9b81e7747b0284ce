"""The forward pass in fewer bits."""

import pytest
import torch

from nnunet_triad.training.precision import autocast, make_scaler

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_matrix_product_has_the_dtype_of_the_precision(precision: str, dtype: torch.dtype):
    with autocast(CPU, precision):
        assert torch.mm(torch.ones(2, 3), torch.ones(3, 2)).dtype == dtype


@pytest.mark.parametrize(("precision", "is_scaled"), [("fp32", 0), ("bf16", 0), ("fp16", 1)])
def test_only_fp16_scales_the_loss(precision: str, is_scaled: int):
    scaler = make_scaler(CPU, precision)

    assert scaler.is_enabled() == bool(is_scaled)
    assert bool(scaler.state_dict()) == bool(is_scaled)
    assert (scaler.scale(torch.tensor(1.0)).item() > 1) == bool(is_scaled)
