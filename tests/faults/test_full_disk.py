"""A full disk is one line that names what could not be written, however a library says it."""

import errno
import os

import pytest
from safetensors import SafetensorError

from nnunet_triad.cli import run_app
from nnunet_triad.files import is_disk_full, write_atomically

WORDS = {
    "the system": OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/some/source"),
    "a quota": OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
    # as safetensors 0.5 puts it
    "safetensors": SafetensorError("Error while serializing: IoError(Os { code: 28, kind: "
    'StorageFull, message: "No space left on device" })'),
    "Rust": SafetensorError("Error while serializing: I/O error: No space (os error 28)"),
}  # fmt: skip


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
