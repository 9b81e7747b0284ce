"""Pickles of numpy arrays, read without running code from them.

TransMorph publishes its IXI and OASIS data as pickled tuples of arrays. A pickle may name any
function to be called. This reader knows the handful of names with which numpy pickles an array,
gives each a stand-in of its own, and refuses every other name before it is looked up: neither
numpy's nor anybody else's code is called by the file.
"""

import math
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_triad.errors import UserError

_PLAIN_DTYPE = re.compile(r"[<>=|]?[biuf][1248]")
_MAX_BYTES = 4 * 2**30  # of one array; IXI's are 27 MB


class _Dtype:
    """Stands for numpy.dtype; numbers only."""

    def __init__(self, code: str, *flags: object) -> None:
        if not (isinstance(code, str) and _PLAIN_DTYPE.fullmatch(code)):
            raise pickle.UnpicklingError(f"dtype {code!r:.40}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Take the byte order, the only thing that a plain dtype's state says."""
        order = state[1]
        if order not in ("<", ">", "=", "|"):
            raise pickle.UnpicklingError(f"byte order {order!r:.20}")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """Stands for an array that is being rebuilt."""

    values: np.ndarray | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Build the array from (version, shape, dtype, is_fortran, bytes)."""
        _, shape, dtype, is_fortran, raw = state
        self.values = _build(raw, dtype, shape, "F" if is_fortran else "C")


class _NdarrayType:
    """Stands for the name numpy.ndarray, which is only ever an argument."""


def _build(raw: object, dtype: object, shape: object, order: object) -> np.ndarray:
    is_shape = isinstance(shape, tuple) and all(
        isinstance(size, int) and size >= 0 for size in shape
    )
    if not (isinstance(dtype, _Dtype) and is_shape and isinstance(raw, bytes | bytearray)):
        raise pickle.UnpicklingError("an array that is not made of numbers")
    assert isinstance(shape, tuple)
    size = math.prod(shape) * dtype.dtype.itemsize
    if size != len(raw) or size > _MAX_BYTES or order not in ("C", "F"):
        raise pickle.UnpicklingError(f"an array of {len(raw)} bytes instead of {size}")
    return np.frombuffer(raw, dtype.dtype).reshape(shape, order=order)


def _reconstruct(*arguments: object) -> _Array:
    return _Array()


def _frombuffer(raw: object, dtype: object, shape: object, order: object) -> _Array:
    array = _Array()
    array.values = _build(raw, dtype, shape, order)
    return array


def _encode(text: object, encoding: object = None) -> bytes:
    """Stand for _codecs.encode, with which protocol 2 writes bytes."""
    if encoding != "latin1" or not isinstance(text, str):
        raise pickle.UnpicklingError(f"encoding {encoding!r:.20}")
    return text.encode("latin1")


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _NdarrayType,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("numeric", "_frombuffer", _frombuffer),
        )
    },
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in of a known name; nothing is imported."""
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"a call of {module}.{name}")
        return _STAND_INS[module, name]

    def persistent_load(self, pid: Any) -> Any:
        """Refuse objects from outside the file."""
        raise pickle.UnpicklingError("an object from outside the file")


def read_array_pickle(path: Path, *, num_arrays: int) -> tuple[np.ndarray, ...]:
    """Read a pickled tuple or list of arrays of numbers, without running code from the file.

    Args:
        path: the .pkl file.
        num_arrays: how many it must hold.

    Returns:
        The arrays.

    Raises:
        UserError: it is missing, damaged, holds anything else, or would run code.
    """
    try:
        with Path(path).open("rb") as file:
            content = _ArrayUnpickler(file).load()
    except FileNotFoundError:
        raise UserError(f"{path}: expected a pickle of arrays, got no file") from None
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path}: expected a pickle of numpy arrays alone, got {error}, which is refused; "
            "get the file from its publisher again, or convert it to NIfTI yourself"
        ) from None
    except (EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, MemoryError,
            OverflowError, UnicodeDecodeError, ImportError) as error:  # fmt: skip
        raise UserError(
            f"{path}: expected a whole pickle of numpy arrays, got one that cannot be read "
            f"({type(error).__name__}); copy it again"
        ) from None
    arrays = [getattr(item, "values", None) for item in content] if _is_list(content) else []
    found = [array for array in arrays if isinstance(array, np.ndarray)]
    if len(found) != num_arrays or len(arrays) != num_arrays:
        raise UserError(
            f"{path}: expected a tuple of {num_arrays} arrays, got {type(content).__name__} "
            f"with {len(found)}"
        )
    return tuple(found)


def _is_list(content: object) -> bool:
    return isinstance(content, tuple | list)
