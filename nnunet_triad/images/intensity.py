"""Which number type holds a volume's intensities."""

import numpy as np

UINT16_MAX = 65535


def choose_storage_dtype(values: np.ndarray) -> tuple[np.dtype, str]:
    """Choose uint16 where it can hold a source's values, else float32, and say why.

    Source: Triad, section 4.1 (most volumes as uint16, the rest as float32).
    The rule looks at the values and not at the file's type: whole numbers in 0..65535 are kept as
    uint16, and what interpolation puts between them is rounded to the nearest whole number.

    Args:
        values: the source's finite intensities, after the file's own scaling.

    Returns:
        The type and the reason.
    """
    is_integer = np.issubdtype(values.dtype, np.integer)
    limits = np.iinfo(values.dtype) if is_integer else np.finfo(values.dtype)
    if limits.min < 0 and values.min() < 0:  # types that cannot hold such values are not searched
        return np.dtype(np.float32), "negative values"
    if limits.max > UINT16_MAX and values.max() > UINT16_MAX:
        return np.dtype(np.float32), f"values above {UINT16_MAX}"
    is_whole = is_integer or np.array_equal(values, np.rint(values))
    if not is_whole:
        return np.dtype(np.float32), "values that are not whole numbers"
    return np.dtype(np.uint16), f"whole numbers in 0..{UINT16_MAX}"


def round_to_storage_dtype(values: np.ndarray, dtype: np.dtype) -> None:
    """Make interpolated float32 values, in place, such that `dtype` holds them without a loss."""
    if dtype == np.uint16:
        np.rint(values, out=values)
        np.minimum(values, np.float32(UINT16_MAX), out=values)
        np.maximum(values, np.float32(0), out=values)
