"""One process or two: what they share, and what is said when one of them is missing."""

import multiprocessing
import os
import socket
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from nnunet_triad.errors import UserError
from nnunet_triad.training.distributed import (
    average,
    distribute,
    gather_with_gradient,
    gpu_of,
    is_any,
    is_same,
    join_process_group,
    wait_for_all,
)
from nnunet_triad.training.launcher import Place

PATIENCE = timedelta(seconds=20)


def test_one_process_is_a_group_of_its_own():
    with join_process_group("cpu") as group:
        assert (group.rank, group.size, group.is_main) == (0, 1, True)
        values = torch.tensor([1.0, 2.0], requires_grad=True)
        assert gather_with_gradient(values) is values
        assert torch.equal(average(values), values)
        assert not average(values).requires_grad
        assert is_any(True, group.device) and not is_any(False, group.device)
        assert is_same(3, group.device)
        wait_for_all()


@pytest.mark.parametrize("device", ["tpu", "mps"])
def test_device_that_is_not_there_is_a_clear_error(device: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    with (
        pytest.raises(UserError, match=f"device: expected one that .*cpu.* got {device}; choose"),
        join_process_group(device),
    ):
        pass


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def step_of_slurm(rank: int, port: int, *, size: int = 2) -> dict[str, str]:
    """The variables of a task that srun started on this machine."""
    return {
        **{"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": str(size), "SLURM_PROCID": str(rank)},
        **{"SLURM_LOCALID": str(rank), "SLURM_STEP_NODELIST": "localhost"},
        "MASTER_PORT": str(port),
    }


def run_both(work: Callable[..., str], folder: Path) -> list[str]:
    """Run `work` in two tasks of Slurm; return what each returned, or its UserError."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "torch._dynamo"])
    port = free_port()
    tasks = [
        context.Process(target=_run, args=(work, step_of_slurm(rank, port), folder / f"{rank}"))
        for rank in (0, 1)
    ]
    for task in tasks:
        task.start()
    for task in tasks:
        task.join(60)
    return [path.read_text() for path in sorted(folder.iterdir())]


def _run(work: Callable[..., str], variables: dict[str, str], path: Path) -> None:
    os.environ.update(variables)
    torch.set_num_threads(1)
    try:
        with join_process_group("cpu", patience=PATIENCE) as group:
            path.write_text(work(group), encoding="utf-8")
    except UserError as error:
        path.write_text(str(error), encoding="utf-8")


def _average(group) -> str:
    return f"{group.rank} {average(torch.tensor(float(group.rank))).item()}"


def test_tasks_of_slurm_join_one_group(tmp_path: Path):
    assert run_both(_average, tmp_path) == ["0 0.5", "1 0.5"]


def _train(group) -> str:
    """A network with a part of its own for each step would not be static; this one is."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        distributed = distribute(network, group)
    assert isinstance(distributed, DistributedDataParallel)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    rows = torch.arange(24.0).reshape(8, 3).sin()
    for step in range(3):
        optimizer.zero_grad()
        share = rows.roll(step, 0)[group.rank :: group.size]
        distributed(share).square().mean().backward()
        optimizer.step()
    return " ".join(f"{value:.6f}" for value in network[0].weight.flatten().tolist())


def test_two_processes_train_as_one(tmp_path: Path):
    first, second = run_both(_train, tmp_path)
    assert first == second
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    rows = torch.arange(24.0).reshape(8, 3).sin()
    for step in range(3):
        optimizer.zero_grad()
        network(rows.roll(step, 0)).square().mean().backward()
        optimizer.step()
    expected = network[0].weight.flatten().tolist()
    assert [float(value) for value in first.split()] == pytest.approx(expected, abs=2e-6)


def _die(group) -> str:
    if group.rank == 1:
        os._exit(9)
    return _average(group)


def test_process_that_is_gone_is_one_line_of_the_others(tmp_path: Path):
    (told,) = run_both(_die, tmp_path)
    assert told.startswith("processes: expected all 2 to the end, got rank 0 without another one (")
    assert told.endswith("run the same command again: the last checkpoint is whole")


@pytest.mark.parametrize("rank", [0, 1])
def test_peer_that_does_not_come_is_one_line(rank: int, monkeypatch: pytest.MonkeyPatch):
    for name, value in step_of_slurm(rank, free_port()).items():
        monkeypatch.setenv(name, value)
    message = f"^processes: expected all 2 at localhost:.*, got rank {rank} alone .*reaches that"
    with (
        pytest.raises(UserError, match=message),
        join_process_group("cpu", patience=timedelta(seconds=1)),
    ):
        pass


def test_port_of_another_program_is_one_line(monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        for name, value in step_of_slurm(0, other.getsockname()[1]).items():
            monkeypatch.setenv(name, value)
        with (
            pytest.raises(UserError, match=r"^MASTER_PORT: expected a free port for 2 processes"),
            join_process_group("cpu", patience=PATIENCE),
        ):
            pass


def place(local_rank: int, *, is_slurm: bool) -> Place:
    return Place(
        rank=5, size=8, local_rank=local_rank, address="node1", port=29500, is_slurm=is_slurm
    )


@pytest.mark.parametrize(
    ("local_rank", "num_gpus", "is_slurm", "expected"),
    [(3, 4, False, 3), (3, 4, True, 3), (0, 1, False, 0), (3, 1, True, 0)],
)
def test_each_process_of_a_machine_gets_its_own_gpu(local_rank, num_gpus, is_slurm, expected):
    assert gpu_of(place(local_rank, is_slurm=is_slurm), num_gpus=num_gpus) == expected


@pytest.mark.parametrize("is_slurm", [False, True])
def test_more_processes_than_gpus_are_one_line(is_slurm: bool):
    variable = "SLURM_LOCALID" if is_slurm else "LOCAL_RANK"
    message = rf"^{variable}: expected less than 2, the GPUs that PyTorch sees on .*, got 2; start"
    with pytest.raises(UserError, match=message):
        gpu_of(place(2, is_slurm=is_slurm), num_gpus=2)
