import itertools
import math

import pytest
import torch

from pretraining.objectives.parts.log_ratio_loss import log_ratio_loss


def naive_loss(visual, text, eps=1e-4):
    """The formula as written: a loop over every triplet."""
    terms = []
    for a, i, j in itertools.permutations(range(len(visual)), 3):
        texts = [(text[a] - text[other]).norm() for other in (i, j)]
        if min(texts) < eps:
            continue
        visuals = [(visual[a] - visual[other]).norm().clamp(min=eps) for other in (i, j)]
        terms.append((torch.log(visuals[0] / visuals[1]) - torch.log(texts[0] / texts[1])) ** 2)
    return torch.stack(terms).mean()


def random_pair(num_samples, *, visual_size=7, text_size=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    visual = torch.randn(num_samples, visual_size, generator=generator, dtype=torch.float64)
    text = torch.randn(num_samples, text_size, generator=generator, dtype=torch.float64)
    return visual, text


@pytest.mark.parametrize("num_samples", [3, 4, 8])
def test_log_ratio_loss_equals_a_loop_over_all_triplets(num_samples):
    visual, text = random_pair(num_samples)

    torch.testing.assert_close(log_ratio_loss(visual, text), naive_loss(visual, text))


def test_log_ratio_loss_with_equal_descriptions_equals_the_loop():
    visual, text = random_pair(7)
    text = text[[0, 1, 0, 2, 2, 3, 0]]

    torch.testing.assert_close(log_ratio_loss(visual, text), naive_loss(visual, text))


def test_log_ratio_loss_of_three_points_on_a_line_is_the_closed_form():
    visual = torch.tensor([[0.0], [1.0], [3.0]])  # distances 1, 3, 2
    text = torch.tensor([[0.0], [1.0], [2.0]])  # distances 1, 2, 1

    expected = (math.log(3 / 2) ** 2 + math.log(2) ** 2 + math.log(3) ** 2) / 3
    expected = (math.log((1 / 3) * 2) ** 2 + math.log(1 / 2) ** 2 + math.log((3 / 2) / 2) ** 2) / 3

    assert log_ratio_loss(visual, text).item() == pytest.approx(expected, rel=1e-5)


def test_log_ratio_loss_of_proportional_distances_is_zero():
    _, text = random_pair(6)
    rotation = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q

    visual = 37.0 * text @ rotation + 5.0

    assert log_ratio_loss(visual, text).item() == pytest.approx(0, abs=1e-20)


def test_log_ratio_loss_does_not_depend_on_the_scale_of_either_side():
    visual, text = random_pair(6)

    torch.testing.assert_close(log_ratio_loss(visual, text), log_ratio_loss(9 * visual, text / 7))


def test_log_ratio_loss_does_not_depend_on_the_order_of_the_samples():
    visual, text = random_pair(6)
    order = [4, 2, 0, 5, 1, 3]

    torch.testing.assert_close(
        log_ratio_loss(visual, text), log_ratio_loss(visual[order], text[order])
    )


def test_log_ratio_loss_has_the_gradient_of_its_values():
    visual, text = random_pair(5)
    text[3] = text[1]

    assert torch.autograd.gradcheck(lambda v: log_ratio_loss(v, text), visual.requires_grad_())


@pytest.mark.parametrize("num_samples", [1, 2, 5])
def test_log_ratio_loss_without_a_triplet_is_zero_with_a_zero_gradient(num_samples):
    visual = torch.randn(num_samples, 4, requires_grad=True)

    loss = log_ratio_loss(visual, torch.ones(num_samples, 3))
    loss.backward()

    assert loss.item() == 0
    assert torch.equal(visual.grad, torch.zeros_like(visual))


def test_log_ratio_loss_of_equal_images_is_finite_with_a_finite_gradient():
    visual = torch.ones(4, 3, requires_grad=True)

    loss = log_ratio_loss(visual, random_pair(4)[1].float())
    loss.backward()

    assert loss.isfinite()
    assert visual.grad.isfinite().all()


def test_log_ratio_loss_of_half_precision_is_computed_in_float32():
    visual, text = random_pair(6)
    visual = visual.to(torch.bfloat16)

    loss = log_ratio_loss(visual, text.float())

    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, log_ratio_loss(visual.float(), text.float()))


def test_log_ratio_loss_of_other_shapes_raises():
    with pytest.raises(
        ValueError, match=r"visual, text: expected matrices .* \(3, 4\) and \(2, 4\)"
    ):
        log_ratio_loss(torch.zeros(3, 4), torch.zeros(2, 4))
