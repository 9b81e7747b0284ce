"""How much memory a run has taken."""

import resource
import sys

import torch

GIB = 2**30


def peak_memory(device: torch.device) -> int:
    """Return the most bytes held so far: of the accelerator, or of this process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def num_parameters(module: torch.nn.Module) -> int:
    """Return the number of values in a module's parameters."""
    return sum(parameter.numel() for parameter in module.parameters())
