"""A similarity that no field is optimised for, to judge one by."""

import numpy as np

_NUM_BINS = 32


def mutual_information(one: np.ndarray, other: np.ndarray, mask: np.ndarray) -> float:
    """Return the normalised mutual information of two images, 1 (independent) to 2 (equal).

    Source: (H(A) + H(B)) / H(A, B), Studholme et al., Pattern Recognition 32, 1999; 32 bins.

    Args:
        one: (x, y, z) in [0, 1].
        other: the same shape.
        mask: (x, y, z) bool, where it counts; 1 where it is empty, or both images are flat in it.
    """
    bins = [
        np.minimum(image[mask] * _NUM_BINS, _NUM_BINS - 1).astype(int) for image in (one, other)
    ]
    counts = np.bincount(bins[0] * _NUM_BINS + bins[1], minlength=_NUM_BINS**2)
    counts = counts.reshape(_NUM_BINS, _NUM_BINS)
    joint = _entropy(counts)
    return (_entropy(counts.sum(0)) + _entropy(counts.sum(1))) / joint if joint > 0 else 1.0


def _entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(shares * np.log(shares)).sum())
