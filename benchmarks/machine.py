"""The machine that a figure was taken on, in words."""

import importlib.metadata
import os
import platform
from pathlib import Path

PACKAGES = ("triad-nnunet", "torch", "monai", "nnunetv2", "numpy", "blosc2")


def describe_machine() -> dict[str, str]:
    """Return what a reader needs to know to compare a figure: processor, memory, versions."""
    return {
        "processor": processor_name(),
        "cores": str(
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        ),
        "memory": f"{_memory_gib():.0f} GiB",
        "GPU": _gpu_name(),
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "threads": os.environ.get("OMP_NUM_THREADS", "as many as cores"),
    }


def processor_name() -> str:
    """Return the processor's model as the system names it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def load() -> float:
    """Return how many processes wanted to run in the last minute, on average."""
    return os.getloadavg()[0]


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _gpu_name() -> str:
    import torch  # seconds: not for --list

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
