"""Memory: what a process takes, and what is said when there is not enough."""

from pathlib import Path

import pytest
import torch

from nnunet_triad.errors import UserError
from nnunet_triad.training.memory import explain_out_of_memory, num_parameters, peak_memory


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells what is resident")
def test_peak_memory_of_the_cpu_is_the_systems_high_water_mark_in_bytes():
    found = peak_memory(torch.device("cpu"))

    lines = Path("/proc/self/status").read_text().splitlines()
    high_water_kib = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    assert found == pytest.approx(high_water_kib * 1024, rel=0.05)


def test_num_parameters_counts_values():
    assert num_parameters(torch.nn.Conv3d(2, 5, 3)) == 2 * 5 * 27 + 5


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_missing_memory_becomes_one_line(error: RuntimeError):
    with (
        pytest.raises(UserError, match=r"memory: expected enough .*; try less$") as found,
        explain_out_of_memory("try less"),
    ):
        raise error
    assert "\n" not in str(found.value)


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shape"), explain_out_of_memory("try less"):
        raise RuntimeError("shape")
