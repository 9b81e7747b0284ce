"""A switch of the C library's allocator, for work that gets and frees large arrays all the time."""

import contextlib
import ctypes
import functools


@functools.cache
def keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next array, up to 1 GiB.

    Getting it from the system anew, page by page, costs a seventh of a volume's time in curation,
    and more than reading it where a batch is filled from a cache. Only glibc has this switch.
    """
    trim_threshold, map_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(trim_threshold, 1 << 30)
        mallopt(map_threshold, 32 << 20)  # its highest value
