"""Workers do not outlive what started them."""

import subprocess
import sys
import time
from pathlib import Path

import psutil

from nnunet_triad.processes import worker_pool

HOLD = """
import os, time
from nnunet_triad.processes import worker_pool
if __name__ == "__main__":
    with worker_pool(2) as pool:
        print(*pool.map(abs, [1, -2]), *pool._processes, flush=True)
        time.sleep(600)
"""


def test_workers_of_a_killed_process_end(tmp_path: Path):
    (tmp_path / "hold.py").write_text(HOLD)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "hold.py"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    one, two, *pids = map(int, process.stdout.readline().split())
    assert (one, two) == (1, 2)
    assert pids
    workers = [psutil.Process(pid) for pid in pids]
    process.kill()
    process.wait()
    _, left = psutil.wait_procs(workers, timeout=20)
    assert not left


def test_a_pool_works_and_ends():
    start = time.monotonic()
    with worker_pool(1) as pool:
        assert list(pool.map(abs, [-1, 2])) == [1, 2]
    assert time.monotonic() - start < 60
