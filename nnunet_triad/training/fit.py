"""Whether a run fits into the memory of its device, before anything is allocated there."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping

import psutil
import torch

from nnunet_triad.errors import UserError
from nnunet_triad.training.memory import GIB, available_memory
from nnunet_triad.training.memory_estimate import MemoryEstimate, can_fake_gpu

Count = Callable[[], MemoryEstimate]


def try_count(count: Count, device: torch.device) -> MemoryEstimate | None:
    """Return an estimate; None where it cannot be made of this network on this device."""
    if device.type == "mps" or (device.type == "cuda" and not can_fake_gpu()):
        return None
    try:
        return count()
    except (RuntimeError, NotImplementedError):  # an operation without a rule for fake tensors
        return None


def must_recompute(count: Count, device: torch.device, *, at_most: int) -> bool:
    """Tell whether a run must compute its activations again in the backward pass to fit.

    Args:
        count: of the run that keeps them.
        device: where it is to run.
        at_most: from `most_memory`; what is small is not counted.
    """
    free = available_memory(device)
    if free is None or at_most < free:
        return False
    estimate = try_count(count, device)
    if estimate is None or estimate.range[1] <= free:
        return False
    print(
        f"note: activations are computed again in the backward pass, as keeping them would take "
        f"{estimate} of the {free / GIB:.1f} GiB that {device} has free",
        file=sys.stderr,
    )
    return True


def check_fits(count: Count, device: torch.device, *, smaller: Mapping[str, Count]) -> str:
    """Return the estimate of a run in words.

    Args:
        count: of the run.
        device: where it is to run.
        smaller: what to try where it does not fit -> the estimate of that.

    Raises:
        UserError: it needs more than there is.
    """
    estimate, free = try_count(count, device), available_memory(device)
    if estimate is None:
        return "estimate: not possible for this network and device"
    if free is None or estimate.range[0] <= free:
        left = "" if free is None else f", of {free / GIB:.1f} GiB free"
        return f"estimate: {estimate} on {device}{left}, by tensors without values"
    others = {name: try_count(other, device) for name, other in smaller.items()}
    advice = ", ".join(f"{name} ({other})" for name, other in others.items() if other is not None)
    raise UserError(
        f"memory: expected a run that fits into the {free / GIB:.1f} GiB that {device} has free, "
        f"got one of {estimate}; try {advice or 'a smaller one'}, or a machine with more"
    )


@contextlib.contextmanager
def no_more_than_free(device: torch.device) -> Iterator[None]:
    """Let allocations on a CPU fail where memory ends, instead of the system end the process."""
    free = available_memory(device)
    if device.type != "cpu" or free is None or sys.platform != "linux":
        yield
        return
    import resource  # not on Windows

    before = resource.getrlimit(resource.RLIMIT_AS)
    most = psutil.Process().memory_info().vms + free
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
