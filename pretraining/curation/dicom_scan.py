"""Which files of a tree are DICOM, and to which series each belongs. Only headers are read."""

import hashlib
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import pydicom
from isal import igzip, igzip_lib
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import MediaStorageDirectoryStorage

_SUFFIXES = (".dcm", ".dicom", ".ima")
COMPRESSED_SUFFIXES = tuple(f"{suffix}.gz" for suffix in _SUFFIXES)
DICOM_SUFFIXES = (*_SUFFIXES, *COMPRESSED_SUFFIXES)
_PREAMBLE = 128
_META = 1024  # bytes behind it in which the transfer syntax stands
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_MAX_INFLATED = 1 << 29
_TAGS = ["SeriesInstanceUID", "StudyInstanceUID", "PatientID", "Modality", "SOPClassUID"]
# What pydicom raises for damaged headers is not one family of errors.
# The error of isal's C module is no exception for its type stubs.
UNREADABLE: tuple[type[Exception], ...] = (
    InvalidDicomError,
    BytesLengthException,
    struct.error,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    IndexError,
    NotImplementedError,
    OverflowError,
    RecursionError,
    MemoryError,
    RuntimeError,
    zlib.error,
    igzip_lib.IsalError,  # type: ignore[assignment]
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Instance:
    """One DICOM file; the UIDs are hashes, since they may lead to a person."""

    path: Path
    num_bytes: int
    patient: str
    study: str
    series: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Unusable:
    """A file that calls itself DICOM but cannot be used."""

    path: Path
    reason: str


def scan_files(paths: Iterable[Path], *, salt: str) -> list[Instance | Unusable]:
    """Look at the headers of files; what is not DICOM is left out.

    Args:
        paths: files of any kind.
        salt: see `pseudonym`.
    """
    seen = [scan_file(path, salt=salt) for path in paths]
    return [one for one in seen if one is not None]


def scan_file(path: Path, *, salt: str) -> Instance | Unusable | None:
    """Return what a file is; None when it is not DICOM, or a DICOMDIR.

    A DICOMDIR is not needed: the files' own headers say the same, and are never out of date.
    """
    try:
        num_bytes = path.stat().st_size
        is_dicom = _has_preamble(path)
        if is_dicom and _inflates_too_far(path):
            return Unusable(path=path, reason="deflated, and larger than 512 MiB when inflated")
        if not is_dicom and not path.name.lower().endswith(DICOM_SUFFIXES):
            return None
        if num_bytes == 0:
            return Unusable(path=path, reason="empty file (0 bytes)")
        with open_file(path) as file:
            header = pydicom.dcmread(
                file, stop_before_pixels=True, specific_tags=_TAGS, force=not is_dicom
            )
        kind = header.file_meta.get("MediaStorageSOPClassUID")  # decoded only now
    except UNREADABLE as error:
        return Unusable(path=path, reason=f"damaged header ({type(error).__name__})")
    if kind == MediaStorageDirectoryStorage:
        return None
    return _instance(path, num_bytes, header, salt=salt)


def pseudonym(prefix: str, value: str, *, salt: str) -> str:
    """Return a name that stands for an identifier and does not tell it.

    Args:
        prefix: such as "sub-".
        value: the identifier.
        salt: without a secret one, who knows an identifier can find its name.
    """
    digest = hashlib.sha256(f"{salt}\0{value}".encode(errors="replace"))
    return prefix + digest.hexdigest()[:16]


def open_file(path: Path) -> BinaryIO:
    """Open a DICOM file, also one that somebody compressed (`.dcm.gz`)."""
    if path.name.lower().endswith(COMPRESSED_SUFFIXES):
        return cast(BinaryIO, igzip.open(path))
    return path.open("rb")


def _has_preamble(path: Path) -> bool:
    with open_file(path) as file:
        return file.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM"


def _inflates_too_far(path: Path) -> bool:
    """Tell whether a deflated file is a bomb: pydicom inflates all of it to read its header."""
    with open_file(path) as file:
        start = file.read(_PREAMBLE + _META)
        if _DEFLATED not in start or len(start) < _PREAMBLE + 16:
            return False
        (length,) = struct.unpack_from("<I", start, _PREAMBLE + 12)  # of the meta group
        file.seek(_PREAMBLE + 16 + length)
        stream, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while not stream.eof and (block := stream.unconsumed_tail or file.read(1 << 16)):
            size += len(stream.decompress(block, 1 << 20))
            if size > _MAX_INFLATED:
                return True
    return False


def _instance(
    path: Path, num_bytes: int, header: pydicom.Dataset, *, salt: str
) -> Instance | Unusable:
    try:
        series, study = (
            str(header.get(name) or "") for name in ("SeriesInstanceUID", "StudyInstanceUID")
        )
        patient = str(header.get("PatientID") or "") or study
    except UNREADABLE as error:
        return Unusable(path=path, reason=f"damaged header ({type(error).__name__})")
    if not series:
        reason = "no SeriesInstanceUID" if header else "not DICOM, in spite of its name"
        return Unusable(path=path, reason=reason)
    return Instance(
        path=path,
        num_bytes=num_bytes,
        patient=pseudonym("sub-", patient, salt=salt),
        study=pseudonym("ses-", study or series, salt=salt),
        series=pseudonym("ser-", series, salt=salt),
    )
