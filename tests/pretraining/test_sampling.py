import functools

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from pretraining.sampling import (
    CropDataset,
    CropPlan,
    StepBatches,
    hide_blocks,
    plan_centre_crop,
    plan_crop,
    plan_mask,
    read_crop,
)
from pretraining.store import VolumeStore


class MemorySource:
    """Volumes of different sizes, in memory."""

    def __init__(self, shapes):
        random = np.random.default_rng(0)
        self.volumes = [random.normal(50, 9, size=shape).astype(np.float32) for shape in shapes]

    def __len__(self):
        return len(self.volumes)

    def shape(self, index):
        return self.volumes[index].shape

    def normalization(self, index):
        return float(self.volumes[index].mean()), float(self.volumes[index].std())

    def read_crop(self, index, start, size):
        box = tuple(slice(first, first + length) for first, length in zip(start, size, strict=True))
        return self.volumes[index][box]


SHAPES = [(20, 24, 28), (18, 30, 19), (40, 16, 22)]
SIZE = (16, 8, 16)


def make_dataset(**changes):
    arguments = {"crop_size": SIZE, "seed": 3, **changes}
    return CropDataset(lambda: MemorySource(SHAPES), **arguments)


def read_all(dataset, batches):
    return torch.stack([dataset[address]["image"] for batch in batches for address in batch])


def test_step_batches_of_two_processes_join_to_those_of_one():
    whole = StepBatches(range(3), 4)
    halves = [StepBatches(range(3), 4, rank=rank, num_processes=2) for rank in (0, 1)]

    joined = [first + second for first, second in zip(*halves, strict=True)]

    assert joined == list(whole)
    assert torch.equal(read_all(make_dataset(), joined), read_all(make_dataset(), whole))


def test_step_batches_of_a_resumed_run_are_the_tail_of_the_whole_run():
    whole = read_all(make_dataset(), StepBatches(range(5), 4))

    resumed = read_all(make_dataset(), StepBatches(range(2, 5), 4))

    assert torch.equal(resumed, whole[2 * 4 :])


@pytest.mark.parametrize(("seed", "step", "k"), [(4, 7, 2), (3, 8, 2), (3, 7, 1)])
def test_plan_crop_changes_with_seed_step_and_place(seed, step, k):
    source = MemorySource([(400, 400, 400)])

    assert plan_crop(source, 3, 7, k=2, size=SIZE) == plan_crop(source, 3, 7, k=2, size=SIZE)
    assert plan_crop(source, 3, 7, k=2, size=SIZE) != plan_crop(source, seed, step, k=k, size=SIZE)


def test_plan_crop_does_not_depend_on_earlier_draws():
    dataset = make_dataset()
    fresh = make_dataset()[9, 1]["image"]

    for step in range(9):
        dataset[step, 1]

    assert torch.equal(dataset[9, 1]["image"], fresh)


def test_plan_crop_reaches_every_volume_position_and_flip_about_equally():
    source = MemorySource([(10, 8, 9), (10, 8, 9)])
    plans = [plan_crop(source, 0, step, k=0, size=(8, 8, 8)) for step in range(3000)]

    for counts, expected in (
        (np.bincount([plan.volume for plan in plans]), 1 / 2),
        (np.bincount([plan.start[0] for plan in plans]), 1 / 3),
        (np.bincount([plan.start[1] for plan in plans]), 1),
        (np.bincount([plan.start[2] for plan in plans]), 1 / 2),
        *((np.bincount([plan.is_flipped[axis] for plan in plans]), 1 / 2) for axis in range(3)),
    ):
        assert counts / 3000 == pytest.approx(np.full(round(1 / expected), expected), abs=0.04)


def test_read_crop_is_the_z_scored_and_mirrored_box():
    source = MemorySource(SHAPES)
    plan = CropPlan(volume=1, start=(2, 5, 1), is_flipped=(True, False, True))

    crop = read_crop(source, plan, size=SIZE)

    volume = source.volumes[1]
    box = volume[2:18, 5:13, 1:17][::-1, :, ::-1]
    np.testing.assert_allclose(crop, (box - volume.mean()) / volume.std(), rtol=1e-5, atol=1e-5)


def test_read_crop_of_a_constant_volume_is_finite():
    source = MemorySource([(16, 8, 16)])
    source.volumes[0][:] = 7.0

    crop = read_crop(source, plan_centre_crop(source, 0, size=SIZE), size=SIZE)

    np.testing.assert_array_equal(crop, np.zeros(SIZE))


def test_read_crop_of_a_smaller_volume_pads_zeros_around_it():
    source = MemorySource([(10, 24, 13)])
    plan = plan_crop(source, 0, 0, k=0, size=SIZE)
    plan = CropPlan(volume=0, start=plan.start, is_flipped=(False, False, False))

    crop = read_crop(source, plan, size=SIZE)

    assert crop.shape == SIZE
    assert (crop[3:13, :, 1:14] != 0).all()
    assert not crop[:3].any() and not crop[13:].any()
    assert not crop[:, :, :1].any() and not crop[:, :, 14:].any()


def test_plan_centre_crop_lies_in_the_middle():
    plan = plan_centre_crop(MemorySource(SHAPES), 2, size=SIZE)

    assert plan == CropPlan(volume=2, start=(12, 4, 3), is_flipped=(False, False, False))


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.6])
def test_plan_mask_hides_exactly_the_share_of_blocks(ratio):
    masks = [plan_mask(0, 5, k=k, size=(32, 16, 48), ratio=ratio) for k in range(3)]

    assert {mask.sum() for mask in masks} == {round(ratio * 4 * 2 * 6)}
    assert masks[0].shape == (4, 2, 6)
    assert ratio == 0 or not np.array_equal(masks[0], masks[1])


def test_masking_does_not_change_the_crops():
    plain, masked = make_dataset()[4, 1], make_dataset(mask_ratio=0.5)[4, 1]

    assert torch.equal(plain["image"], masked["image"])
    assert masked["is_hidden"].any() and not plain["is_hidden"].any()


def test_hide_blocks_zeroes_the_voxels_of_hidden_blocks_only():
    image = torch.rand(2, 1, 16, 8, 24) + 1
    is_hidden = torch.zeros(2, 2, 1, 3, dtype=torch.bool)
    is_hidden[1, 0, 0, 2] = True

    result = hide_blocks(image, is_hidden)

    expected = image.clone()
    expected[1, :, :8, :, 16:] = 0
    assert torch.equal(result, expected)


def test_worker_processes_give_the_same_batches(store_path):
    def batches(num_workers):
        dataset = CropDataset(
            functools.partial(VolumeStore.open, store_path), crop_size=(64, 32, 32), seed=1
        )
        loader = DataLoader(
            dataset,
            batch_sampler=StepBatches(range(3), 2),
            num_workers=num_workers,
            multiprocessing_context="spawn" if num_workers else None,
        )
        return [(batch["volume"].tolist(), batch["image"]) for batch in loader]

    for (volumes, images), (other_volumes, other_images) in zip(
        batches(0), batches(2), strict=True
    ):
        assert volumes == other_volumes
        assert torch.equal(images, other_images)
