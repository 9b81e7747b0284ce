"""`mae` and `simmim` against the script that Triad's authors released, line by line.

What is expected is written down here from its lines, with PyTorch, NumPy, MONAI and timm alone.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from timm.optim import param_groups_weight_decay
from torch import nn

from nnunet_triad.architectures import encoder_spec
from nnunet_triad.errors import UserError
from nnunet_triad.training.schedule import learning_rate_at
from pretraining.objectives.mae import Mae
from pretraining.objectives.simmim import Simmim
from pretraining.sampling import CropDataset
from pretraining.settings import PretrainSettings
from pretraining.training import compute_losses, make_optimizer

RUNS = [("mae", "unet_t"), ("simmim", "swin_t")]  # as released, but for the width
OWN = {"learning_rate": None, "warmup_steps": None}  # the objective's


def token_mask(seed, step, k, size, *, scale):
    """`MaskGenerator`: whole blocks of 16 voxels, on a grid of `16 / scale` voxels."""
    random = np.random.Generator(np.random.Philox(key=[seed, 0], counter=[0, 1, k, step]))
    grid = [length // 16 for length in size]
    count = math.prod(grid)
    mask = np.zeros(count, dtype=int)
    mask[random.permutation(count)[: int(np.ceil(count * 0.6))]] = 1
    mask = mask.reshape(grid)
    for axis in range(3):
        mask = mask.repeat(scale, axis=axis)
    return torch.from_numpy(mask)


def upsample(decoder, dim):
    """`SimMIMSkip_light.upsample` of five blocks, with a decoder's weights."""
    layers, widths = [], [dim, dim // 2, dim // 4, dim // 8, dim // 16, dim // 16]
    for place in range(5):
        convolution = nn.Conv3d(max(widths[place], 1), max(widths[place + 1], 1), 3, 1, 1)
        nn.init.zeros_(convolution.bias)  # the norm would take it away
        convolution.weight = decoder.blocks[place][0].weight
        layers += [convolution, nn.InstanceNorm3d(max(widths[place + 1], 1)), nn.LeakyReLU()]
        layers += [nn.Upsample(scale_factor=2, mode="trilinear", align_corners=False)]
    return nn.Sequential(*layers, decoder.head)


def masked_loss(reconstruction, image, voxel_mask):
    loss = F.l1_loss(image, reconstruction, reduction="none")
    return (loss * voxel_mask).sum() / (voxel_mask.sum() + 1e-5) / 1


def test_mae_computes_the_released_loss(start):
    training, batches = start(2, objective_name="mae", encoder="unet_t", batch_size=3)
    model = training.model
    voxel_mask = torch.stack([token_mask(0, 1, k, (64, 32, 32), scale=16) for k in range(3)])
    voxel_mask = voxel_mask[:, None].float()

    losses = compute_losses(training, batches[1])

    image = batches[1]["image"]
    masked = image * (1.0 - voxel_mask) + model.hidden.token * voxel_mask
    z_proj, z_adapter = model.decoder.entry
    assert (z_proj.out_channels, z_adapter.out_channels) == (160, 24)
    z = z_adapter(z_proj(model.encoder(masked)[-1]))
    expected = masked_loss(upsample(model.decoder, 24)(z), image, voxel_mask)
    torch.testing.assert_close(losses["loss"], expected, rtol=1e-4, atol=1e-5)


def test_simmim_computes_the_released_loss(start):
    training, batches = start(2, objective_name="simmim", batch_size=3)
    model, swin = training.model, training.model.encoder
    mask = torch.stack([token_mask(0, 1, k, (64, 32, 32), scale=8) for k in range(3)])

    losses = compute_losses(training, batches[1])

    image = batches[1]["image"]
    x = swin.patch_embed(image).flatten(2).transpose(1, 2)
    tokens = model.hidden.token.flatten(1)[:, None].expand(*x.shape)
    hidden = mask.flatten(1).unsqueeze(-1).type_as(tokens)
    x = x * (1.0 - hidden) + tokens * hidden
    x = x.transpose(1, 2).unflatten(2, (32, 16, 16))
    x = swin.layers1[0](swin.layers1c[0](swin.pos_drop(x)))
    x = swin.layers2[0](swin.layers2c[0](x))
    x = swin.layers3[0](swin.layers3c[0](x))
    x = swin.layers4[0](swin.layers4c[0](x))
    assert not list(model.decoder.entry)
    reconstruction = upsample(model.decoder, 192)(swin.proj_out(x, True))
    voxel_mask = mask
    for axis in (1, 2, 3):
        voxel_mask = voxel_mask.repeat_interleave(2, axis)
    expected = masked_loss(reconstruction, image, voxel_mask[:, None])
    torch.testing.assert_close(losses["loss"], expected, rtol=1e-4, atol=1e-5)


def test_simmims_encoder_sees_all_outside_a_training_step(start):
    training, (batch,) = start(objective_name="simmim")
    encoder, image = training.model.encoder, batch["image"]
    before = encoder(image)[-1]

    compute_losses(training, batch)

    assert torch.equal(encoder(image)[-1], before)


def test_images_are_scaled_by_percentiles_of_the_volume(make_data, make_settings):
    settings = make_settings(objective_name="mae", encoder="unet_t")
    data = make_data(settings)
    plan = data.sampler.plan(0, 0)
    volume = data.dataset.source.read_volume(plan.volume)
    low, high = np.percentile(volume, 0.5), np.percentile(volume, 99.5)
    scaled = (np.clip(volume, low, high) - low) / (high - low + 1e-6)
    box = tuple(slice(s, s + n) for s, n in zip(plan.start, (64, 32, 32), strict=True))
    expected = np.flip(scaled[box], [axis for axis in range(3) if plan.is_flipped[axis]])

    found = data.dataset[plan]["image"][0].numpy()

    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert (found.min(), found.max()) == (0, 1)


def test_percentiles_are_measured_once_a_volume(make_data, make_settings, monkeypatch):
    data = make_data(make_settings(objective_name="mae", encoder="unet_t"))
    measured = []
    measure = CropDataset._measure
    monkeypatch.setattr(
        CropDataset, "_measure", lambda self, name: (measured.append(name), measure(self, name))[1]
    )

    for step in range(6):
        data.dataset[data.sampler.plan(step, 0)]

    assert sorted(measured) == sorted(set(measured))


@pytest.mark.parametrize(("name", "encoder"), RUNS)
def test_optimizer_is_the_released_one(start, name, encoder):
    training, _ = start(0, objective_name=name, encoder=encoder, steps=10, **OWN)
    model, settings = training.model, training.settings
    expected = torch.optim.AdamW(param_groups_weight_decay(model, 0.05), lr=1e-4, betas=(0.9, 0.95))

    found = make_optimizer(model, settings)

    def groups(optimizer):
        return {
            (group["weight_decay"], group["lr"], *group["betas"]): {id(p) for p in group["params"]}
            for group in optimizer.param_groups
        }

    assert groups(found) == groups(expected)
    assert (settings.warmup_steps, settings.gradient_clip) == (5, 1e9)
    rates = [
        learning_rate_at(step, peak=1e-4, warmup_steps=5, steps=10, decay=settings.rate_decay)
        for step in (4, 5, 7, 9)
    ]
    cosine = [1e-4 * 0.5 * (1 + math.cos(math.pi * (step - 5) / 5)) for step in (5, 7, 9)]
    assert rates == pytest.approx([1e-4, *cosine])


def test_simmim_without_a_patch_embedding_says_that_it_has_a_learnt_voxel():
    settings = PretrainSettings(encoder="unet_t", objective_name="simmim")

    assert settings.objective.hidden_becomes == "voxel"
    assert Simmim().for_encoder(encoder_spec("swin_t")).hidden_becomes == "token"


def test_block_must_hold_whole_tokens():
    with pytest.raises(UserError, match=r"mask_block: expected multiples of \(8, 8, 8\), a token"):
        Simmim(mask_block=(4, 16, 16)).for_encoder(encoder_spec("primus_m"))


def test_crop_must_hold_two_whole_blocks():
    Mae().check_crop_size((32, 16, 16))
    for size in [(16, 16, 16), (40, 32, 32)]:
        with pytest.raises(UserError, match="crop_size: expected multiples of the 16 voxels of a"):
            Mae().check_crop_size(size)
