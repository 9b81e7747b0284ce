"""NumPy's files, as some collections publish them: read whole, and nothing is unpickled."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_triad.errors import UserError

_DAMAGED = (
    *(OSError, ValueError, EOFError, KeyError, TypeError, MemoryError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error),
)


def read_npy(path: Path, *, num_axes: int) -> NDArray[Any]:
    """Read an array of numbers from NAME.npy.

    Raises:
        UserError: it is damaged, holds objects, or has another number of axes.
    """
    wanted = f"a NumPy array of {num_axes} axes"
    try:
        array = np.load(path, allow_pickle=False)
        if isinstance(array, np.ndarray) and array.ndim == num_axes and _is_number(array):
            return array
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "an archive"
    except PermissionError:
        raise
    except _DAMAGED as error:
        found = f"one that cannot be read ({_reason(error)})"
    raise UserError(f"{path}: expected {wanted}, got {found}; download or unpack it again")


def read_npz(path: Path, names: Sequence[str]) -> list[NDArray[Any]]:
    """Read arrays of numbers from NAME.npz.

    Raises:
        UserError: it is damaged, holds objects, or lacks one of the names.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = [np.asarray(content[name]) for name in names]
        if all(map(_is_number, arrays)):
            return arrays
        found = ", ".join(str(array.dtype) for array in arrays)
    except PermissionError:
        raise
    except (*_DAMAGED, AttributeError) as error:  # an array has no __enter__
        found = f"a file that cannot be read ({_reason(error)})"
    raise UserError(
        f"{path}: expected NumPy's archive with {', '.join(names)}, got {found}; download it again"
    )


def _reason(error: Exception) -> str:
    """NumPy takes whatever it does not know for a pickle, and says how to run its code."""
    if "pickle" in str(error):
        return "no numbers, or no file of NumPy's"
    return str(error) or type(error).__name__


def _is_number(array: NDArray[Any]) -> bool:
    return array.dtype.kind in "biuf"
