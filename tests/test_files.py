"""Atomic writes."""

import errno
import fcntl
import gzip
import json
import math
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from nnunet_triad.errors import UserError
from nnunet_triad.files import (
    check_outputs,
    content_digest,
    only_process,
    remove_leftovers,
    sha256,
    write_atomically,
    write_json,
)


def test_failed_write_keeps_the_old_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="boom"), write_atomically(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("boom")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]  # noqa: PTH208


def test_written_file_is_readable_like_any_other(tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    write_json(tmp_path / "folder" / "a.json", {"a": 1})
    mode = stat.S_IMODE((tmp_path / "folder" / "a.json").stat().st_mode)
    assert mode == stat.S_IMODE(plain.stat().st_mode)


def test_sha256_is_that_of_the_standard(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert sha256(tmp_path / "abc").startswith("ba7816bf8f01cfea414140de5dae2223b00361a396177a9c")


@pytest.mark.parametrize("name", ["a.nii", "folder/../a.nii", "soft.nii", "hard.nii"])
def test_output_that_is_an_input_is_refused_by_any_path_or_link(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    source = tmp_path / "a.nii"
    source.touch()
    (tmp_path / "soft.nii").symlink_to(source)
    (tmp_path / "hard.nii").hardlink_to(source)
    for output, given in ((Path(name), source), (source, Path(name))):
        with pytest.raises(UserError, match="expected an output that is none of the inputs"):
            check_outputs([None, output], [None, tmp_path / "missing", given])


def test_two_outputs_of_one_name_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"a\.nii: expected a file of its own for each output"):
        check_outputs([tmp_path / "a.nii", tmp_path / "b" / ".." / "a.nii"], [])


def test_outputs_of_an_earlier_call_may_be_replaced(tmp_path):
    paths = [tmp_path / name for name in ("input", "output")]
    for path in paths:
        path.touch()
    check_outputs([paths[1], tmp_path / "new"], [paths[0]])


HOLD = """
import sys, time
from pathlib import Path
from nnunet_triad.files import only_process
with only_process(Path(sys.argv[1]), refusal="busy"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_lock_of_another_process_is_respected_until_it_dies(tmp_path):
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match="busy"), only_process(path, refusal="busy"):
            pass
        other.send_signal(signal.SIGKILL)
    with only_process(path, refusal="busy"):
        pass


def test_lock_is_given_back_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), only_process(tmp_path / "lock", refusal="busy"):
        raise ZeroDivisionError
    with only_process(tmp_path / "lock", refusal="busy"):
        pass


def test_file_system_without_locks_does_not_stop_the_work(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr("filelock.FileLock.acquire", fail)

    with only_process(tmp_path / "lock", refusal="busy"):
        pass


def test_leftovers_of_killed_writes_are_removed_and_nothing_else(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:  # as if the process were killed before the rename
        patch.setattr(Path, "replace", lambda *_: None)
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        for name in ("a.json", "b.nii.gz", "b.csv"):
            with write_atomically(tmp_path / name):
                pass
    assert len(list(tmp_path.iterdir())) == 3
    others = [".lock", ".notes.txt", ".a.json", ".a.b.cde", "a.json.abcd1234.json", ".12345678"]
    for name in others:
        (tmp_path / name).touch()

    remove_leftovers(tmp_path, of="b.csv")
    assert len(list(tmp_path.iterdir())) == 2 + len(others)

    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(others)


def test_json_has_null_where_a_number_is_not_finite(tmp_path):
    write_json(tmp_path / "a.json", {"dice": [0.5, math.nan], "limit": -math.inf})
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"dice": [0.5, None], "limit": None}


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_content_digest_follows_the_bytes_and_not_the_time(tmp_path, name):
    def write(content: bytes, time_s: int) -> str:
        file = gzip.GzipFile if name.endswith(".gz") else open
        with file(tmp_path / name, "wb") as opened:
            opened.write(content)
        os.utime(tmp_path / name, (time_s, time_s))
        return content_digest(tmp_path / name)

    assert write(b"some voxels", 1) == write(b"some voxels", 2)
    assert write(b"some voxels", 1) != write(b"same voxels", 1)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_keeps_nobody_out(tmp_path, monkeypatch, number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    with only_process(tmp_path / "lock", refusal="busy"):
        pass


def test_one_process_may_share_its_lock(tmp_path):
    def hold():
        return only_process(tmp_path / "lock", refusal="busy", is_shared_within=True)

    with hold(), hold():
        pass
