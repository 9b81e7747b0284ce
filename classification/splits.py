"""Which subjects are trained on, validated and tested, where nobody has said so."""

from collections.abc import Mapping, Sequence

import numpy as np

SPLITS = ("train", "val", "test")
SHARES = (0.7, 0.15)  # of train and val, where nobody has said otherwise
SEED = 0  # of that division; a run's own seed would give each run another test set


def split_subjects(
    label_of: Mapping[str, int], shares: Sequence[float], *, seed: int
) -> dict[str, str]:
    """Divide subjects into train, val and test, each class in the same shares.

    A class of three subjects or more is in each of them.

    Args:
        label_of: subject -> class.
        shares: of train and val; test gets the rest.
        seed: of the order.

    Returns:
        Subject -> split.
    """
    generator = np.random.default_rng(seed)
    result: dict[str, str] = {}
    for label in sorted(set(label_of.values())):
        subjects = sorted(name for name, value in label_of.items() if value == label)
        order = generator.permutation(len(subjects))
        ends = np.rint(np.cumsum(shares) * len(subjects)).astype(int)
        if len(subjects) >= len(SPLITS):
            ends = np.clip(ends, [1, 2], [len(subjects) - 2, len(subjects) - 1])
            ends[1] = max(ends[1], ends[0] + 1)
        for place, number in enumerate(order):
            split = "train" if place < ends[0] else "val" if place < ends[1] else "test"
            result[subjects[number]] = split
    return result
