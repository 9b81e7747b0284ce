"""What reading a damaged image raises."""

import zlib

from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

# Found by reading spoilt files: nibabel passes on what its parts raise, which is no one family.
UNREADABLE_NIFTI: tuple[type[Exception], ...] = (
    ImageFileError,
    HeaderDataError,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
    zlib.error,
)


def reason_of(error: Exception) -> str:
    """Return the first line of an error's message, or its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__
