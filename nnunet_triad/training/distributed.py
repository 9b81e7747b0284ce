"""One process or many: the few operations in which they differ.

`torchrun --nproc_per_node N` starts N processes that share each batch; without it there is one.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from nnunet_triad.training.device import check_device


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
def join_process_group(device: str) -> Iterator[ProcessGroup]:
    """Join the processes that torchrun started, or stand alone.

    Raises:
        UserError: PyTorch does not see such a device on this machine.
    """
    check_device(device)
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ProcessGroup(device=torch.device(device))
        return
    local_rank = int(os.environ["LOCAL_RANK"])
    is_cuda = device == "cuda"
    if is_cuda:
        torch.cuda.set_device(local_rank)
    torch.distributed.init_process_group("nccl" if is_cuda else "gloo")
    try:
        name = f"cuda:{local_rank}" if is_cuda else device
        yield ProcessGroup(device=torch.device(name), rank=torch.distributed.get_rank(), size=size)
    finally:
        torch.distributed.destroy_process_group()


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
