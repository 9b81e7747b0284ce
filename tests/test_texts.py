"""Texts are read from regular files of a bounded size; whatever else is there is one line."""

import os
import socket

import pytest

from nnunet_triad.texts import TextError, read_json, read_short_text


def fifo(path):
    os.mkfifo(path)


def listening(path):
    socket.socket(socket.AF_UNIX).bind(str(path))


def sparse(path):
    path.touch()
    os.truncate(path, 1 << 40)


BAD = {
    "a pipe": (fifo, "expected a regular file"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "expected a regular file"),
    "a socket": (listening, "expected a regular file"),
    "a folder": (lambda path: path.mkdir(), "expected a file, got a folder"),
    "a terabyte": (sparse, r"expected at most 64 MiB of text, got 1\.05e\+06"),
    "other bytes": (lambda path: path.write_bytes(b'"\xff"'), "expected text in UTF-8"),
    "no JSON": (lambda path: path.write_text("{"), "expected JSON, got something else"),
    "depth": (lambda path: path.write_text("[" * 100_000), "nested without end"),
    "digits": (lambda path: path.write_text("9" * 100_000), "expected JSON"),
}


@pytest.mark.timeout(10)
@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_bounded_text_is_one_line(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    path = tmp_path.joinpath("a.json").relative_to(tmp_path)
    make, message = BAD[kind]
    make(path)
    with pytest.raises(TextError, match=f"^a.json: .*{message}") as caught:
        read_json(path)
    assert str(caught.value).count("\n") == 0


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    (tmp_path / "a.json").write_text('{"a": "\u00e9"}', encoding="utf-8-sig")
    assert read_json(tmp_path / "a.json") == {"a": "\u00e9"}


def test_a_missing_file_stays_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_short_text(tmp_path / "a.txt")
