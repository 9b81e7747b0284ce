"""Small files that claim, or become, enormous ones."""

import gzip
import os
import struct
import tracemalloc
import zipfile
import zlib

import nibabel as nib
import numpy as np
import pytest
import torch

from nnunet_triad.architectures import build_encoder, encoder_spec
from nnunet_triad.errors import UserError
from nnunet_triad.images import Nan, read_volume
from nnunet_triad.weights.checkpoint import read_checkpoint
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


def test_an_image_that_would_fill_the_memory_is_one_line(tmp_path):
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((4000, 4000, 4000))
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(header.binaryblock + bytes(4096)))
    with pytest.raises(UserError, match=r"a.nii.gz: .* got 6.4e\+10 voxels, more than 42949"):
        read_volume(path, nan=Nan.KEEP)


def folded(path):
    """Write four bytes that stand for a kernel of a hundred terabytes."""
    state = dict(build_encoder(encoder_spec("unet")).state_dict())
    name = "stages.0.0.convs.0.conv.weight"
    state[name] = torch.ones(1).expand(1 << 40, *state[name].shape[1:])
    torch.save({"state_dict": state}, path)


def inflating(path):
    """Write a checkpoint whose pickle is followed by zeros that are compressed away."""
    torch.save({"a": torch.ones(4)}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {one.filename: archive.read(one) for one in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content + bytes(32 << 20) * name.endswith("data.pkl"))


def sparse(path):
    """Write a header of safetensors before a terabyte of nothing."""
    header = b'{"a": {"dtype": "U8", "shape": [%d], "data_offsets": [0, %d]}}' % (1 << 40, 1 << 40)
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    os.truncate(path, 8 + len(header) + (1 << 40))


WEIGHTS = {
    folded: "expected tensors that the file holds",
    inflating: "expected an archive that holds what it is long",
    sparse: "expected weights of at most 128 GiB, got 1024",
}


@pytest.mark.parametrize("write", WEIGHTS)
def test_weights_that_claim_terabytes_are_one_line(tmp_path, write):
    path = tmp_path / "weights"
    write(path)
    with pytest.raises(UserError, match=f"^{path}: {WEIGHTS[write]}"):
        read_checkpoint(path)
