"""Whether a run fits: by its estimate, and by what its device has."""

import pytest
import torch

from nnunet_triad.errors import UserError
from nnunet_triad.training import fit
from nnunet_triad.training.fit import check_fits, must_recompute, no_more_than_free
from nnunet_triad.training.memory import explain_out_of_memory
from nnunet_triad.training.memory_estimate import MemoryEstimate

CPU = torch.device("cpu")
CUDA = torch.device("cuda", 0)


def needing(gibibytes: float, device: str = "cuda") -> MemoryEstimate:
    size = round(gibibytes * 2**30)
    return MemoryEstimate(
        parameters=0, gradients=0, optimizer=0, activations=size, transient=0, device=device
    )


@pytest.fixture
def free_gpu_memory(monkeypatch: pytest.MonkeyPatch):
    def have(gibibytes: float) -> None:
        free = round(gibibytes * 2**30)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2 * free))

    return have


@pytest.mark.parametrize(("gibibytes", "is_needed"), [(24, True), (80, False)])
def test_activations_are_recomputed_where_keeping_them_does_not_fit(
    free_gpu_memory, capsys, gibibytes, is_needed
):
    free_gpu_memory(gibibytes)
    assert must_recompute(lambda: needing(20), CUDA, at_most=2**40) is is_needed
    # (20 GiB + 1 GB) x 1.20 to x 1.34
    note = "would take 25.1 to 28.0 GiB of the 24.0 GiB that cuda:0 has free"
    assert (note in capsys.readouterr().err) is is_needed


def test_small_runs_are_not_counted(free_gpu_memory):
    free_gpu_memory(1)
    assert not must_recompute(pytest.fail, CUDA, at_most=2**29)


def test_network_that_cannot_be_counted_keeps_its_activations(free_gpu_memory):
    def fail() -> MemoryEstimate:
        raise RuntimeError("depends on values")

    free_gpu_memory(1)
    assert not must_recompute(fail, CUDA, at_most=2**40)
    assert "not possible" in check_fits(fail, CUDA, smaller={})


def test_run_that_does_not_fit_is_refused_with_what_would(free_gpu_memory):
    free_gpu_memory(10)
    assert check_fits(lambda: needing(7), CUDA, smaller={}).startswith("estimate: 9.5 to 10.6 GiB")
    message = (
        r"memory: expected a run that fits into the 10\.0 GiB that cuda:0 has free, got one of "
        r"25\.1 to 28\.0 GiB; try --less \(9\.5 to 10\.6 GiB\), or a machine with more$"
    )
    with pytest.raises(UserError, match=message):
        check_fits(lambda: needing(20), CUDA, smaller={"--less": lambda: needing(7)})


def test_allocation_beyond_what_is_free_fails_in_one_line(monkeypatch):
    monkeypatch.setattr(fit, "available_memory", lambda device: 2**28)
    with (
        pytest.raises(UserError, match=r"memory: expected enough to go on.*; try less"),
        explain_out_of_memory("try less"),
        no_more_than_free(CPU),
    ):
        torch.empty(2**30)
    assert torch.ones(2**28).sum() == 2**28  # 1 GiB, as before
