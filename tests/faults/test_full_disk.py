"""A full disk is one line that names what could not be written, however a library says it."""

import errno
import os
import pickle
import re
import resource
from functools import partial

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from safetensors import SafetensorError

from classification.cache import _write_chunked
from nnunet_triad.cli import run_app
from nnunet_triad.files import DiskFullError, copy_atomically, is_disk_full, write_atomically
from nnunet_triad.training.state_file import save_state
from nnunet_triad.training.training_log import TrainingLog
from nnunet_triad.weights.tensor_file import write_tensors

WORDS = {
    "the system": OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/some/source"),
    "a quota": OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
    # as safetensors 0.5 puts it
    "safetensors": SafetensorError("Error while serializing: IoError(Os { code: 28, kind: "
    'StorageFull, message: "No space left on device" })'),
    "Rust": SafetensorError("Error while serializing: I/O error: No space (os error 28)"),
}  # fmt: skip


@pytest.fixture
def little_room():
    """Let no file become larger than half a MiB: a full disk that needs no disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def fail_on(path, error):
    with write_atomically(path) as temporary:
        temporary.write_bytes(bytes(3 << 19))
        raise error


@pytest.mark.parametrize("who", WORDS)
def test_the_target_is_named(tmp_path, capsys, who):
    path = tmp_path / "model.safetensors"
    with pytest.raises(SystemExit) as stop:
        run_app(lambda: fail_on(path, WORDS[who]))
    assert stop.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith(f"error: {path}: the disk is full (No space left on device after 1.5 Mi")
    assert line.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_error_behind_another_one_counts():
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise RuntimeError("PytorchStreamWriter failed writing file data/0") from error
    except RuntimeError as error:
        assert is_disk_full(error)
    assert not is_disk_full(RuntimeError("shape mismatch"))
    assert not is_disk_full(OSError(errno.ENOENT, "No such file"))


def test_a_killed_worker_is_one_line_wherever_it_is_raised(capsys):
    def die():
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")

    with pytest.raises(SystemExit) as stop:
        run_app(die)
    assert stop.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith("error: workers: expected processes that read data to the end, got one")
    assert line.count("\n") == 1


def line_of(capsys, call):
    """Run a call that must end in one line and exit code 2."""
    with pytest.raises(SystemExit) as stop:
        run_app(call)
    assert stop.value.code == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1, line
    return line


def log_pictures(folder):
    figure = Figure(figsize=(6, 6))
    figure.subplots().imshow(np.random.default_rng(0).random((300, 300)))
    with TrainingLog(folder, ("step", "loss"), first_step=0, steps=200, is_quiet=True) as log:
        for step in range(1, 200):
            log.write(step, {"loss": 1.0})
            log.write_picture("a", figure, step)


def test_tensorboards_folder_is_named_and_its_thread_is_quiet(tmp_path, capsys, little_room):
    line = line_of(capsys, partial(log_pictures, tmp_path))
    assert line.startswith(f"error: {tmp_path / 'tensorboard'}: the disk is full")


def noise():
    return np.random.default_rng(0).integers(0, 60_000, (64, 64, 96)).astype(np.uint16)


def write_by_name(path):
    """Let PyTorch open the file, as nnU-Net does: its writer has words of its own."""
    with write_atomically(path, num_bytes=3 << 18) as temporary:
        torch.save(torch.ones(3 << 16), str(temporary))


WRITERS = {
    "PyTorch's own writer": write_by_name,
    "a checkpoint": lambda path: save_state(path, {"a": [torch.ones(3 << 16)]}, step=3),
    "weights": lambda path: write_tensors(path, {"a": torch.ones(3 << 16)}, key="k", text="t"),
    "a chunked volume": lambda path: _write_chunked(path, noise()),
    "a copy": lambda path: copy_atomically(path.with_name("source"), path),
}


@pytest.mark.parametrize("what", WRITERS)
def test_what_a_file_needs_is_said_where_it_is_known(tmp_path, capsys, request, what):
    (tmp_path / "source").write_bytes(bytes(3 << 18))
    request.getfixturevalue("little_room")
    path = tmp_path / "target"
    line = line_of(capsys, partial(WRITERS[what], path))
    assert line.startswith(f"error: {path}: ")
    assert re.search(r" MiB of 0\.7\d* MiB", line)
    assert not path.exists()


def test_the_error_comes_out_of_a_worker_process_as_it_went_in(tmp_path):
    error = DiskFullError(tmp_path, 1 << 20, 3 << 20)
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert "after 1 MiB of 3 MiB" in str(again)
