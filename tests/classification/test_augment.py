"""Augmentation: the same values as MONAI's transforms, nothing where nothing is to change."""

import numpy as np
import pytest
import torch
from monai.transforms import AffineGrid, Resample
from scipy.ndimage import gaussian_filter

from classification.affine_sampling import sample_affine
from classification.augment import build_augmentation, monai_augmentation, seed_of

SIZE = 32


def smooth_image(shape, seed=0):
    """Noise like that of an image: of standard deviation 1, neighbours alike."""
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = gaussian_filter(noise, (0, 1.0, 1.0, 1.0))
    return torch.from_numpy((smooth / smooth.std()).astype(np.float32))


@pytest.mark.parametrize("shape", [(1, 24, 40, 17), (2, 32, 32, 32), (3, 2, 9, 64)])
def test_affine_sampling_equals_monai(shape):
    image = smooth_image(shape)
    parameters = {
        "rotate_params": (0.1, -0.17, 0.05),
        "translate_params": (2.4, -3.1, 1.7),
        "scale_params": (0.9, 1.1, 1.05),
    }
    grid, matrix = AffineGrid(**parameters)(spatial_size=shape[1:])
    expected = Resample(mode="bilinear", padding_mode="border")(image, grid)
    result = torch.full(shape, torch.nan)
    sample_affine(image, matrix.double().numpy(), result)
    torch.testing.assert_close(result, torch.as_tensor(expected), atol=5e-4, rtol=0)


def test_affine_sampling_keeps_the_image_and_goes_on_outside():
    image = smooth_image((1, 12, 20, 16))
    result = torch.empty_like(image)
    sample_affine(image, np.eye(4), result)
    torch.testing.assert_close(result, image, atol=2e-4, rtol=0)
    shift = np.eye(4)
    shift[:3, 3] = (5, 0, -3)
    sample_affine(image, shift, result)
    torch.testing.assert_close(result[:, :7, :, 3:], image[:, 5:, :, :-3], atol=2e-4, rtol=0)
    border = image[:, -1:, :, :-3].expand(-1, 5, -1, -1)
    torch.testing.assert_close(result[:, 7:, :, 3:], border, atol=2e-4, rtol=0)


@pytest.mark.parametrize("options", [{"flip_axes": "xz"}, {}])
def test_augmentation_equals_that_of_monai(make_settings, options):
    settings = make_settings(**options)
    assert settings.preprocess.size == SIZE
    ours, theirs = build_augmentation(settings), monai_augmentation(settings)
    theirs.transforms[-1].prob = 0.0  # noise is compared by its distribution
    image = smooth_image((2, SIZE, SIZE, SIZE))
    seen = set()
    for place in range(24):
        key = (5, 1, place)
        result = torch.full_like(image, torch.nan)
        ours(image, key, result)
        expected = torch.as_tensor(theirs.set_random_state(seed=seed_of(key))(image))
        change = ours.draw(key, image)
        noise = 0 if change.noise is None else change.noise
        torch.testing.assert_close(result, expected + noise, atol=5e-4, rtol=0)
        seen.update(change.flipped_axes)
        seen.add(("affine", change.matrix is not None))
        seen.add(("scaled", change.factor != 1, "shifted", change.offset != 0))
        seen.add(("noisy", change.noise is not None))
    assert {("affine", True), ("affine", False), ("noisy", True), ("noisy", False)} <= seen
    assert len([one for one in seen if isinstance(one, tuple) and one[0] == "scaled"]) == 4
    assert {0, 2} <= seen if options else not {0, 1, 2} & seen


def test_noise_is_gaussian_as_often_and_as_strong_as_that_of_monai(make_settings):
    image = torch.zeros(1, 16, 16, 16)
    ours, theirs = build_augmentation(make_settings()), monai_augmentation(make_settings())
    stds, num_different = [], 0
    for place in range(200):
        change = ours.draw((1, 2, place), image)
        noise = theirs.set_random_state(seed=seed_of((1, 2, place))).transforms[-1]
        noise.randomize(image)
        assert (change.noise is not None) == noise._do_transform
        if change.noise is not None:
            assert change.noise.std().item() == pytest.approx(noise.noise.std(), rel=0.05)
            fourth_moment = (change.noise / change.noise.std()).pow(4).mean().item()
            assert fourth_moment == pytest.approx(3, abs=0.5)
            stds.append(change.noise.std().item())
            num_different += not np.allclose(change.noise, noise.noise)
    assert 40 < len(stds) == num_different < 80
    assert max(stds) < 0.105 and min(stds) < 0.02 and np.mean(stds) == pytest.approx(0.05, abs=0.01)


def test_augmentation_leaves_the_image_as_it_was(make_settings):
    image = smooth_image((1, SIZE, SIZE, SIZE))
    before = image.clone()
    build_augmentation(make_settings(flip_axes="xyz"))(image, (0, 0, 1), torch.empty_like(image))
    assert torch.equal(image, before)


def test_augmentation_can_be_off(make_settings):
    image = smooth_image((2, SIZE, SIZE, SIZE))
    assert build_augmentation(make_settings(augmentation="none")) is None
    flips = build_augmentation(make_settings(augmentation="none", flip_axes="y"))
    out = torch.empty_like(image)
    outcomes = set()
    for place in range(20):
        flips(image, (0, 0, place), out)
        outcomes.add(out[0, 0, 0, 0].item())
    assert outcomes == {image[0, 0, 0, 0].item(), image[0, 0, -1, 0].item()}
