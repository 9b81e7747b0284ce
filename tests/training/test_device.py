"""What a GPU is set to, by stand-ins for what PyTorch says of it; a CPU stays as it is."""

import pytest
import torch

from classification.settings import TrainSettings
from nnunet_triad.training.device import default_precision, use_fast_kernels
from pretraining.settings import PretrainSettings
from registration.settings import RegistrationSettings

PROGRAMS = (PretrainSettings, RegistrationSettings, TrainSettings)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch):
    def make(*, has_bf16: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)

    return make


@pytest.mark.parametrize(
    ("has_bf16", "expected"), [(True, ["bf16"] * 3), (False, ["fp16", "fp32", "fp32"])]
)
def test_gpu_gets_the_fastest_precision_that_it_and_the_program_have(card, has_bf16, expected):
    card(has_bf16=has_bf16)
    assert [settings(device="cuda").precision for settings in PROGRAMS] == expected
    assert {settings(device="cuda", precision="fp32").precision for settings in PROGRAMS} == {
        "fp32"
    }


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_other_devices_compute_in_fp32(card, device):
    card(has_bf16=True)
    assert default_precision(device, ("fp32", "bf16")) == "fp32"
    assert {settings(device=device).precision for settings in PROGRAMS} == {"fp32"}


@pytest.mark.parametrize(("precision", "expected"), [("bf16", "high"), ("fp32", "highest")])
def test_tf32_is_for_what_stays_fp32_beside_reduced_precision(monkeypatch, precision, expected):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    before = torch.get_float32_matmul_precision()
    try:
        use_fast_kernels(torch.device("cuda"), precision, has_fixed_shapes=True)
        assert torch.get_float32_matmul_precision() == expected
        assert torch.backends.cudnn.benchmark
        use_fast_kernels(torch.device("cuda"), precision, has_fixed_shapes=False)
        assert not torch.backends.cudnn.benchmark
    finally:
        torch.set_float32_matmul_precision(before)


def test_cpu_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(torch, "set_float32_matmul_precision", pytest.fail)
    use_fast_kernels(torch.device("cpu"), "bf16", has_fixed_shapes=True)
    assert not torch.backends.cudnn.benchmark
