"""How much memory a run has taken, and what to say when there is not enough."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

from nnunet_triad.errors import UserError
from nnunet_triad.training.launcher import num_local
from nnunet_triad.training.stop_signal import KILLED_WORKER

GIB = 2**30
PREDICTION_ADVICE = "try --device cpu, or a machine with more memory"


def peak_memory(device: torch.device) -> int:
    """Return the most bytes held so far: of the accelerator, or of this process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    status = Path("/proc/self/status")
    if status.exists():  # Linux; its ru_maxrss would count the process that started this one too
        lines = status.read_text(encoding="utf-8").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def available_memory(device: torch.device) -> int | None:
    """Return the bytes that this process can still get on a device; None: nobody says.

    On a CPU that is the least of what the machine has free, of what the limits of its container or
    job (cgroup v2) and of the process (`ulimit -v`) leave, shared by the processes that torchrun or
    Slurm's srun started on this machine.

    Raises:
        UserError: LOCAL_WORLD_SIZE is no number.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free
    if device.type != "cpu":
        return None
    left = [psutil.virtual_memory().available, *_left_by_groups(), *_left_by_process()]
    return max(min(left), 0) // num_local(os.environ)


def _left_by_process() -> Iterator[int]:
    """Yield what the limit of this process leaves, nothing where there is none."""
    if sys.platform == "win32":
        return
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        yield limit - psutil.Process().memory_info().vms


def _left_by_groups(
    file: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> Iterator[int]:
    """Yield what each control group of this process leaves, up to the root."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    names = [Path(line.removeprefix("0::/")) for line in lines if line.startswith("0::/")]
    for name in names:
        for folder in (root / name, *(root / parent for parent in name.parents)):
            try:
                limit, used = (
                    (folder / f"memory.{one}").read_text(encoding="utf-8").strip()
                    for one in ("max", "current")
                )
            except OSError:  # the root has no limit, and a container may show none
                continue
            if limit != "max":
                yield int(limit) - int(used)


def num_parameters(module: torch.nn.Module) -> int:
    """Return the number of values in a module's parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


@contextlib.contextmanager
def explain_out_of_memory(advice: str) -> Iterator[None]:
    """Turn the errors of missing memory into one line; as a decorator, too.

    Args:
        advice: what to do, for the end of the line.

    Raises:
        UserError: PyTorch or NumPy could not allocate memory, on whichever device, or a process
            that reads data was killed.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise UserError(_message(error, advice)) from error
    except RuntimeError as error:  # these two have no class of their own, only PyTorch's text
        if "DataLoader worker" in str(error):
            raise UserError(KILLED_WORKER) from error
        if "can't allocate memory" in str(error):
            raise UserError(_message(error, advice)) from error
        raise


def _message(error: Exception, advice: str) -> str:
    text = str(error).strip() or "none left"  # Python's own MemoryError says nothing
    return f"memory: expected enough to go on, got {text.splitlines()[0].rstrip('.')!r}; {advice}"
