"""Small files that claim, or become, enormous ones."""

import struct
import tracemalloc
import zlib

import pytest

from pretraining.curation.dicom_scan import Instance, Unusable, scan_file

UID = b"1.2.3.4\0"
DEFLATED = b"1.2.840.10008.1.2.1.99"


def element(group, number, vr, value):
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


def deflated(path, num_bytes):
    """Write an explicit little endian, deflated file whose pixels are zeros."""
    meta = element(2, 0x10, b"UI", DEFLATED)
    head = element(8, 0x60, b"CS", b"MR") + element(0x20, 0xD, b"UI", UID)
    head += element(0x20, 0xE, b"UI", UID)
    pixels = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, num_bytes)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    with path.open("wb") as file:
        file.write(bytes(128) + b"DICM" + element(2, 0, b"UL", struct.pack("<I", len(meta))) + meta)
        file.write(packer.compress(head + pixels))
        for _ in range(num_bytes >> 20):
            file.write(packer.compress(bytes(1 << 20)))
        file.write(packer.flush())
    return path


def test_a_deflated_bomb_is_set_aside_without_being_held(tmp_path):
    path = deflated(tmp_path / "a.dcm", 600 << 20)
    assert path.stat().st_size < 1 << 20
    tracemalloc.start()
    found = scan_file(path, salt="")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(found, Unusable)
    assert found.reason == "deflated, and larger than 512 MiB when inflated"
    assert peak < 8 << 20


@pytest.mark.parametrize("num_bytes", [1 << 20, 8 << 20])
def test_an_honest_deflated_file_is_read(tmp_path, num_bytes):
    found = scan_file(deflated(tmp_path / "a.dcm", num_bytes), salt="")
    assert isinstance(found, Instance)
