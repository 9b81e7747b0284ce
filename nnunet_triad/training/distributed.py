"""One process or many: the few operations in which they differ.

`torchrun --nproc_per_node N` or `srun --ntasks N` start N processes that share each batch.
"""

import contextlib
import inspect
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nnunet_triad.errors import UserError, require
from nnunet_triad.training.device import check_device
from nnunet_triad.training.launcher import Place, find_place

# Of the start, and of each exchange: the longest that one process lets the others wait is for a
# checkpoint and pictures, or for the compiler.
PATIENCE = timedelta(minutes=10)


@dataclass(frozen=True, kw_only=True)
class ProcessGroup:
    """This process among those that train together."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """True for the one process that writes files and shows progress."""
        return self.rank == 0


@contextlib.contextmanager
def join_process_group(device: str, *, patience: timedelta = PATIENCE) -> Iterator[ProcessGroup]:
    """Join the processes that torchrun or Slurm's srun started, or stand alone.

    Args:
        device: cpu, cuda or mps; of several GPUs each process gets its own.
        patience: how long the others are waited for.

    Raises:
        UserError: PyTorch does not see such a device on this machine, or not enough of them; the
            others do not come, or one of them is gone.
    """
    check_device(device)
    place = find_place(os.environ)
    if place is None:
        yield ProcessGroup(device=torch.device(device))
        return
    rule = f"cpu or cuda for {place.size} processes"
    require("device", device, rule, device in ("cpu", "cuda"))
    own = torch.device(device)
    if device == "cuda":
        own = torch.device("cuda", gpu_of(place, num_gpus=torch.cuda.device_count()))
        torch.cuda.set_device(own)
    _connect(place, own, patience)
    try:
        with _explain_lost_peer(place):
            yield ProcessGroup(device=own, rank=place.rank, size=place.size)
    finally:
        torch.distributed.destroy_process_group()


def gpu_of(place: Place, *, num_gpus: int) -> int:
    """Return the number of a process's GPU among those that PyTorch sees here.

    Slurm's --gpus-per-task shows each task one GPU, which then is number 0 in all of them.

    Raises:
        UserError: there are more processes on this machine than GPUs.
    """
    if place.is_slurm and num_gpus == 1:
        return 0
    if place.local_rank >= num_gpus:
        variable = "SLURM_LOCALID" if place.is_slurm else "LOCAL_RANK"
        raise UserError(
            f"{variable}: expected less than {num_gpus}, the GPUs that PyTorch sees on "
            f"{socket.gethostname()}, got {place.local_rank}; start one process a GPU"
        )
    return place.local_rank


def distribute(model: nn.Module, group: ProcessGroup) -> nn.Module:
    """Return a model whose gradients are averaged over the processes; of one process, itself.

    Each step must use the same parameters in the same order, which DistributedDataParallel looks
    at once only. Running statistics would be those of rank 0; no encoder here has any.
    """
    if group.size == 1:
        return model
    names = inspect.signature(DistributedDataParallel).parameters
    sync = (
        "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"
    )  # <2.13
    options: dict[str, Any] = {sync: False}
    return DistributedDataParallel(
        model, gradient_as_bucket_view=True, static_graph=True, **options
    )


def _connect(place: Place, device: torch.device, patience: timedelta) -> None:
    is_cuda = device.type == "cuda"
    options: dict[str, Any] = {
        "backend": "nccl" if is_cuda else "gloo",
        "timeout": patience,
        "device_id": device if is_cuda else None,  # NCCL then connects now, and knows whom
    }
    if place.is_slurm:
        address = f"tcp://{place.address}:{place.port}"
        options |= {"init_method": address, "rank": place.rank, "world_size": place.size}
    try:
        torch.distributed.init_process_group(**options)
    except RuntimeError as error:  # of which class depends on who waits for whom
        where = f"{place.address}:{place.port}"
        if "EADDRINUSE" in str(error):
            raise UserError(
                f"MASTER_PORT: expected a free port for {place.size} processes, got {where}, which "
                "another program has; export another MASTER_PORT"
            ) from error
        raise UserError(
            f"processes: expected all {place.size} at {where}, got rank {place.rank} alone "
            f"({_reason(error)}); see what the others say, and whether {socket.gethostname()} "
            "reaches that address"
        ) from error


@contextlib.contextmanager
def _explain_lost_peer(place: Place) -> Iterator[None]:
    """Turn what PyTorch says when another process is gone into one line."""
    try:
        yield
    except RuntimeError as error:
        is_lost = isinstance(error, torch.distributed.DistError) or "gloo/transport" in str(error)
        if not is_lost:
            raise
        raise UserError(
            f"processes: expected all {place.size} to the end, got rank {place.rank} without "
            f"another one ({_reason(error)}); see what that one says, then run the same command "
            "again: the last checkpoint is whole"
        ) from error


def _reason(error: Exception) -> str:
    """The first sentence of PyTorch's text, without the place in its sources."""
    text = (str(error) or type(error).__name__).splitlines()[0]
    return text.rpartition("] ")[2].partition(". ")[0].rstrip(".")


def gather_with_gradient(rows: Tensor) -> Tensor:
    """Return the rows of all processes, in the order of their ranks.

    The gradient of a loss over the gathered rows reaches every process's own rows, summed over
    the processes; DistributedDataParallel's average then gives the gradient of one global loss.

    Args:
        rows: (b, d), the same shape in each process.

    Returns:
        (processes x b, d).
    """
    if not torch.distributed.is_initialized():
        return rows
    return _GatherRows.apply(rows)


class _GatherRows(torch.autograd.Function):
    """PyTorch's own differentiable all_gather is deprecated, and its successor not yet public."""

    @staticmethod
    def forward(context: Any, rows: Tensor) -> Tensor:
        """Return (processes x b, d)."""
        parts = [torch.empty_like(rows) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        """Return this process's rows of the gradients' sum over the processes."""
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(gradient)
        return gradient.chunk(torch.distributed.get_world_size())[torch.distributed.get_rank()]


def average(values: Tensor) -> Tensor:
    """Return the mean of `values` over all processes, without a gradient."""
    values = values.detach().clone()
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(values)
        values /= torch.distributed.get_world_size()
    return values


def is_any(flag: bool, device: torch.device) -> bool:
    """Tell whether `flag` is set in any process, so that all of them stop at the same step."""
    if not torch.distributed.is_initialized():
        return flag
    votes = torch.tensor(float(flag), device=device)
    torch.distributed.all_reduce(votes)
    return bool(votes.item() > 0)


def wait_for_all() -> None:
    """Return once every process has come here."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def is_same(number: int, device: torch.device) -> bool:
    """Tell whether all processes hold the same number."""
    if not torch.distributed.is_initialized():
        return True
    extremes = torch.tensor([number, -number], device=device)
    torch.distributed.all_reduce(extremes, torch.distributed.ReduceOp.MAX)
    return bool((extremes[0] == -extremes[1]).item())
