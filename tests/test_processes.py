"""Workers do not outlive what started them."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from nnunet_triad.processes import worker_pool

HOLD = """
import os, time
from nnunet_triad.processes import worker_pool
if __name__ == "__main__":
    with worker_pool(2) as pool:
        assert list(pool.map(abs, [1, -2])) == [1, 2]
        print(*pool._processes, flush=True)
        time.sleep(600)
"""
START = """
import time, torch
from nnunet_triad.training.loader import make_loader
if __name__ == "__main__":
    batches = iter(make_loader(abs, range(9), workers=2, device=torch.device("cpu")))
    print(*(worker.pid for worker in batches._workers), flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize(
    "script", [pytest.param(HOLD, id="at work"), pytest.param(START, id="still importing")]
)
def test_workers_of_a_killed_process_end(tmp_path: Path, script: str):
    (tmp_path / "hold.py").write_text(script)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "hold.py"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    pids = list(map(int, process.stdout.readline().split()))
    assert pids
    workers = [psutil.Process(pid) for pid in pids]
    process.kill()
    process.wait()
    _, left = psutil.wait_procs(workers, timeout=60)
    assert not left


def test_a_pool_works_and_ends():
    start = time.monotonic()
    with worker_pool(1) as pool:
        assert list(pool.map(abs, [-1, 2])) == [1, 2]
    assert time.monotonic() - start < 60
