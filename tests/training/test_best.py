import math

import pytest

from nnunet_triad.training.best import is_better


@pytest.mark.parametrize(
    ("scores", "best", "expected"),
    [
        ((0.5,), (), True),
        ((0.6,), (0.5,), True),
        ((0.5,), (0.5,), False),
        ((0.5, -1.0), (0.5, -2.0), True),
        ((0.4, 9.0), (0.5, -2.0), False),
        ((math.nan,), (), True),  # something is kept, whatever it is
        ((-9.0,), (math.nan,), True),
        ((math.nan,), (-9.0,), False),
        ((math.nan,), (math.nan,), False),
        ((0.5, -1.0), (0.5, math.nan), True),
    ],
)
def test_higher_is_better_and_nan_is_below_all(scores, best, expected):
    assert is_better(scores, best) is expected
