"""Worker processes that end with the process that started them."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor


@contextlib.contextmanager
def worker_pool(num_processes: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of processes; they end with the block, or when this process is killed.

    They are spawned: this process may hold threads and CUDA, which a fork cannot copy.
    """
    with ProcessPoolExecutor(
        num_processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=end_with_parent,
    ) as pool:
        yield pool


def end_with_parent() -> None:
    """Let this spawned process end when its parent is gone.

    It would wait for the next task for ever. PyTorch's own watch begins after the imports: when the
    parent was killed before, it takes whoever adopted the worker for the parent.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
