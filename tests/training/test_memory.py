"""Memory: what a process takes, and what is said when there is not enough."""

import subprocess
import sys

import pytest
import torch

from nnunet_triad.errors import UserError
from nnunet_triad.training.memory import explain_out_of_memory, num_parameters


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system counts differently")
def test_peak_memory_of_the_cpu_is_that_of_this_process_alone():
    script = (
        "import torch; from nnunet_triad.training.memory import peak_memory as peak;"
        "before = peak(torch.device('cpu')); block = torch.ones(2**26);"
        "print(before, peak(torch.device('cpu')))"
    )
    large_parent = torch.ones(2**28)  # 1 GiB, which must not count for the child

    printed = subprocess.check_output([sys.executable, "-c", script], text=True)

    before, after = (int(number) for number in printed.split())
    assert after - before == pytest.approx(2**28, rel=0.1)
    assert after < large_parent.nbytes


def test_num_parameters_counts_values():
    assert num_parameters(torch.nn.Conv3d(2, 5, 3)) == 2 * 5 * 27 + 5


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
        MemoryError("Unable to allocate 7.45 GiB for an array with shape (1000, 1000, 1000)"),
    ],
)
def test_missing_memory_becomes_one_line(error: Exception):
    with (
        pytest.raises(UserError, match=r"memory: expected enough .*; try less$") as found,
        explain_out_of_memory("try less"),
    ):
        raise error
    assert "\n" not in str(found.value)


def test_killed_worker_becomes_one_line():
    with (
        pytest.raises(UserError, match=r"workers: .* got one that was killed.*fewer --workers"),
        explain_out_of_memory("try less"),
    ):
        raise RuntimeError("DataLoader worker (pid(s) 1234) exited unexpectedly")


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shape"), explain_out_of_memory("try less"):
        raise RuntimeError("shape")
