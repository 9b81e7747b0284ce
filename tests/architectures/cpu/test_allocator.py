"""The allocator's switches: the second array of a size costs no pages any more."""

import platform
import subprocess
import sys

import pytest

_PROGRAM = """
import resource, sys
import numpy as np
from nnunet_triad.architectures.cpu import allocator

if sys.argv[2] != "nothing":
    getattr(allocator, sys.argv[2])()
for _ in range(3):
    start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        first = np.ones(int(sys.argv[1]), dtype=np.uint8)
        second = np.ones(int(sys.argv[1]), dtype=np.uint8)
        del first, second
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - start)
"""


def _faults(num_bytes, switch):
    """Return the page faults of eight arrays, once all is set up."""
    command = [sys.executable, "-c", _PROGRAM, str(num_bytes), switch]
    # Large pages would hide what is counted.
    environment = {"NUMPY_MADVISE_HUGEPAGE": "0", "PYTHONPATH": ":".join(filter(None, sys.path))}
    return int(subprocess.run(command, check=True, capture_output=True, env=environment).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the switches")
@pytest.mark.parametrize(
    ("mebibytes", "switch", "is_kept"),
    [
        (60, "nothing", False),
        (60, "keep_freed_memory", False),
        (60, "keep_all_freed_memory", True),
        (20, "keep_freed_memory", True),
    ],
)
def test_freed_arrays_are_kept(mebibytes, switch, is_kept):
    num_pages = 8 * mebibytes * 2**20 // 4096
    faults = _faults(mebibytes * 2**20, switch)
    assert faults < 0.02 * num_pages if is_kept else faults > 0.5 * num_pages
