"""A worker that is really killed: one line, exit code 2, and the last checkpoint goes on."""

import contextlib
import os
import signal
import subprocess
import time

import psutil
import pytest
import torch

from classification import cache
from nnunet_triad.cli import run_app
from nnunet_triad.errors import UserError
from nnunet_triad.training.loader import batches, make_loader
from tests.faults.kills import SCENARIOS, Scenario, results, start


def die_at_two(key):
    """Read a batch; a worker that reads the third one is killed."""
    if key == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return key


def test_a_killed_reader_of_batches_is_one_line(capsys):
    loader = make_loader(die_at_two, range(9), workers=1, device=torch.device("cpu"))
    with pytest.raises(SystemExit) as stop:
        run_app(lambda: list(batches(loader)))
    assert stop.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith("error: workers: expected processes that read data to the end, got one")
    assert line.count("\n") == 1


def test_a_killed_worker_of_the_cache_is_one_line(monkeypatch):
    monkeypatch.setattr(cache, "_preprocess_file", die_at_two)
    with pytest.raises(UserError, match="workers: expected processes that read data to the end"):
        list(cache._results([1, 2, 3], workers=2))


# As tests.faults.kills, with two workers, and longer, so that they are met.
PROGRAMS = {
    "classify": ("--workers", "2", "--epochs", "40"),
    "register": ("--workers", "2", "--epochs", "200"),
    "pretrain": ("--workers", "2", "--steps", "400", "--checkpoint-every", "1"),
}


def kill_a_worker(process: subprocess.Popen, *, ready, seconds: float = 600) -> None:
    """Kill a worker of a command as soon as `ready` says so."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children():
                if ready() and "spawn_main" in " ".join(child.cmdline()):
                    child.kill()
                    return
        time.sleep(0.02)
    raise AssertionError("no worker was met")


@pytest.mark.long
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_killed_reader_is_one_line_and_the_checkpoint_is_whole(tmp_path, name):
    scenario = SCENARIOS[name]
    scenario.prepare(tmp_path / "data")
    folder = tmp_path / "run"
    folder.mkdir()
    longer = Scenario(
        prepare=scenario.prepare,
        program=(*scenario.program, *PROGRAMS[name]),
        results=("out/checkpoint.pt",),
    )
    process = start(longer, folder)
    kill_a_worker(process, ready=(folder / "out" / "checkpoint.pt").exists)
    assert process.wait(600) == 2
    last = (folder / "killed.txt").read_text().replace("\r", "\n").rstrip().split("\n")[-1]
    assert last.startswith("error: workers: expected processes that read data to the end"), last
    assert "Traceback" not in (folder / "killed.txt").read_text()
    before = results(longer, folder)
    again = start(longer, folder, "again.txt")  # goes on
    deadline = time.monotonic() + 600
    while results(longer, folder) == before and time.monotonic() < deadline:
        assert again.poll() is None, (folder / "again.txt").read_text()
        time.sleep(0.1)
    again.kill()
    again.wait()
    assert results(longer, folder) != before, (folder / "again.txt").read_text()
