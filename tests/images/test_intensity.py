import numpy as np
import pytest

from nnunet_triad.images.intensity import (
    UNKNOWN,
    Intensity,
    choose_storage_dtype,
    round_to_storage_dtype,
)


@pytest.mark.parametrize("text", ["window 5 5", "percentiles", "window 3 -3", "window 1", ""])
def test_scale_without_a_range_is_not_known(text):
    assert Intensity.parse(text) == UNKNOWN


@pytest.mark.parametrize(
    ("values", "dtype", "reason"),
    [
        (np.array([0, 65535], np.int32), np.uint16, "whole numbers in 0..65535"),
        (np.array([0.0, 4095.0]), np.uint16, "whole numbers in 0..65535"),
        (np.array([0.5, 4095.0]), np.float32, "values that are not whole numbers"),
        (np.array([0, 65536]), np.float32, "values above 65535"),
        (np.array([-1, 3], np.int16), np.float32, "negative values"),
        (np.array([0, 65535], np.uint16), np.uint16, "whole numbers in 0..65535"),
    ],
)
def test_choose_storage_dtype_follows_the_values(values, dtype, reason):
    assert choose_storage_dtype(values) == (np.dtype(dtype), reason)


def test_round_to_storage_dtype_rounds_to_nearest_and_does_not_wrap():
    values = np.array([-0.2, 0.4, 0.6, 65535.004], np.float32)
    round_to_storage_dtype(values, np.dtype(np.uint16))
    np.testing.assert_array_equal(values, [0, 0, 1, 65535])
    np.testing.assert_array_equal(values.astype(np.uint16), [0, 0, 1, 65535])


def test_round_to_storage_dtype_leaves_float32_alone():
    values = np.array([-0.25, 1e6], np.float32)
    round_to_storage_dtype(values, np.dtype(np.float32))
    np.testing.assert_array_equal(values, np.array([-0.25, 1e6], np.float32))
