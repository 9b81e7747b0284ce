import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from pretraining.objectives.parts.l1_loss import l1_at_scales


def test_l1_at_scales_halves_noise_and_keeps_an_offset():
    image = torch.randn(2, 1, 16, 16, 16)
    checkerboard = torch.ones(2, 1, 16, 16, 16)
    checkerboard[:, :, ::2] = -1

    assert l1_at_scales(image + 0.5, image, num_scales=3).tolist() == pytest.approx([0.5] * 3)
    # An error of alternating sign is there at the first scale only.
    assert l1_at_scales(checkerboard, 0 * image, num_scales=4).tolist() == [1, 0, 0, 0]
    assert torch.equal(
        l1_at_scales(checkerboard, image, num_scales=1)[0], F.l1_loss(checkerboard, image)
    )
