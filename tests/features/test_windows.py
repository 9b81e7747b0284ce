"""Windows and their weights beside MONAI's sliding window."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference

from nnunet_triad.features.windows import tile


def nonlinear(windows: torch.Tensor) -> torch.Tensor:
    """What depends on the window that it sees, as behind an instance norm."""
    mean = windows.mean((2, 3, 4), keepdim=True)
    return torch.cat([(windows - mean) ** 2, torch.relu(windows)], dim=1)


def blend(image: torch.Tensor, tiling, *, sigma: float) -> np.ndarray:
    blended = np.zeros((2, *image.shape[2:]))
    x, y, z = tiling.weights((1, 1, 1), sigma=sigma)
    for i, j, k in tiling:
        places = (slice(None), *tiling.slices((i, j, k)))
        weight = x[i][:, None, None] * y[j][:, None] * z[k]
        blended[places] += nonlinear(image[0][places][None])[0].numpy() * weight
    return blended


def test_blend_is_monai_s_gaussian_sliding_window():
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 1, 24, 16, 20)))
    tiling = tile((24, 16, 20), window=(8, 16, 8), stride=(4, 4, 4), overlap=0.5)
    assert tiling.starts == ((0, 4, 8, 12, 16), (0,), (0, 4, 8, 12))
    expected = sliding_window_inference(
        image, (8, 16, 8), 4, nonlinear, overlap=0.5, mode="gaussian", sigma_scale=0.25
    )
    # 0.25: at 0.125 MONAI raises the weights of corners to a thousandth of the centre's
    np.testing.assert_allclose(blend(image, tiling, sigma=0.25), expected[0], atol=1e-7)


@pytest.mark.parametrize("step", [1, 2, 4])
@pytest.mark.parametrize(("window", "overlap"), [((8, 8, 8), 0.5), ((12, 5, 64), 0.3)])
def test_shares_of_all_windows_sum_to_one_at_every_level(step, window, overlap):
    tiling = tile((40, 24, 28), window=window, stride=(4, 4, 4), overlap=overlap)
    total = np.zeros((40 // step, 24 // step, 28 // step))
    x, y, z = tiling.weights((step,) * 3)
    for i, j, k in tiling:
        a, b, c = (slice(s.start // step, s.stop // step) for s in tiling.slices((i, j, k)))
        total[a, b, c] += x[i][:, None, None] * y[j][:, None] * z[k]
    np.testing.assert_allclose(total, 1)


@pytest.mark.parametrize("length", [32, 36, 44, 100, 256])
@pytest.mark.parametrize("overlap", [0, 0.25, 0.5, 0.8])
def test_windows_cover_the_image_and_overlap_as_much_as_asked(length, overlap):
    tiling = tile((length, 8, 8), window=(29, 8, 8), stride=(4, 8, 8), overlap=overlap)
    starts, size = tiling.starts[0], tiling.size[0]
    assert size == 32  # rounded up to the stride
    assert starts[0] == 0
    assert starts[-1] + size == length
    assert all(start % 4 == 0 for start in starts)
    # where no multiple of the stride is as short, the next one
    furthest = max(4, size * (1 - overlap))
    assert all(0 < second - first <= furthest for first, second in pairwise(starts))


def test_image_that_fits_into_a_window_is_seen_whole_with_weight_one():
    tiling = tile((32, 48, 16), window=(128, 48, 17), stride=(16, 16, 16))
    assert list(tiling) == [(0, 0, 0)]
    assert tiling.size == (32, 48, 16)
    for weight in tiling.weights((16, 16, 16)):
        np.testing.assert_array_equal(weight, np.ones_like(weight))
