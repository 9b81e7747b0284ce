"""Memory: what a process takes, and what is said when there is not enough."""

import resource
import subprocess
import sys

import psutil
import pytest
import torch

from nnunet_triad.errors import UserError
from nnunet_triad.training.memory import (
    _left_by_groups,
    available_memory,
    explain_out_of_memory,
    num_parameters,
)


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


def test_free_memory_of_a_gpu_is_what_its_driver_says(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (7, 80))
    assert available_memory(torch.device("cuda")) == 7


@pytest.mark.skipif(sys.platform != "linux", reason="no such limits elsewhere")
def test_free_memory_is_what_the_process_may_still_take(monkeypatch):
    cpu = torch.device("cpu")
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, before[1]))
    try:
        assert available_memory(cpu) == pytest.approx(2**30, rel=0.05)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
        assert available_memory(cpu) == pytest.approx(2**28, rel=0.05)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "")
        assert available_memory(cpu) == pytest.approx(2**30, rel=0.05)
        monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", "2(x3)")
        assert available_memory(cpu) == pytest.approx(2**29, rel=0.05)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "four")
        with pytest.raises(UserError, match="LOCAL_WORLD_SIZE: expected a whole number"):
            available_memory(cpu)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_free_memory_is_what_every_control_group_leaves(tmp_path):
    for name, limit, used in (("job", "9000", "1000"), ("job/step", "max", "500")):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "memory.max").write_text(f"{limit}\n", encoding="utf-8")
        (folder / "memory.current").write_text(f"{used}\n", encoding="utf-8")
    file = tmp_path / "cgroup"
    file.write_text("0::/job/step\n", encoding="utf-8")
    assert list(_left_by_groups(file, tmp_path)) == [8000]
