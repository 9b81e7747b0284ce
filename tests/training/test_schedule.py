import pytest

from nnunet_triad.training.schedule import learning_rate_at


def rate_at(step):
    return learning_rate_at(step, peak=1e-4, warmup_steps=1_000, steps=200_000)


def test_learning_rate_rises_linearly_to_the_peak():
    assert [rate_at(step) for step in (0, 499, 999)] == pytest.approx([1e-7, 5e-5, 1e-4])


def test_learning_rate_falls_along_half_a_cosine_to_zero():
    assert rate_at(1_000) == 1e-4
    assert rate_at((1_000 + 200_000) // 2) == pytest.approx(5e-5)
    assert rate_at(199_999) < 1e-13
    assert rate_at(200_000) == 0


def test_learning_rate_without_a_warm_up_starts_at_the_peak():
    assert learning_rate_at(0, peak=0.5, warmup_steps=0, steps=10) == 0.5
