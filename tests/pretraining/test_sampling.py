import functools
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

from pretraining.sampling import (
    CropDataset,
    CropPlan,
    CropSampler,
    StepBatches,
    read_crop,
)
from pretraining.store import VolumeStore
from pretraining.volume_table import VolumeTable, balanced_draw, read_volume_table

SHAPE = (40, 16, 22)
SIZE = (16, 8, 16)


class MemorySource:
    """Volumes by name, in memory."""

    def __init__(self, shape=SHAPE, number=3):
        random = np.random.default_rng(0)
        self.volume_shape = shape
        self.volumes = {
            f"v{index}": random.normal(50, 9, size=shape).astype(np.float32)
            for index in range(number)
        }

    def read_box(self, name, start, size):
        box = tuple(slice(first, first + length) for first, length in zip(start, size, strict=True))
        return self.volumes[name][box]


def make_table(shape=SHAPE, number=3):
    labels = pd.Categorical(["D"] * number)
    volumes = MemorySource(shape, number).volumes if np.prod(shape) < 1e6 else {}
    return VolumeTable(
        shape=shape,
        names=tuple(f"v{index}" for index in range(number)),
        means=np.array([volume.mean() for volume in volumes.values()] or [0.0] * number),
        stds=np.array([volume.std() for volume in volumes.values()] or [1.0] * number),
        datasets=labels,
        organs=labels,
        subjects=labels,
        descriptions=labels,
    )


def make_sampler(shape=SHAPE, number=3, *, size=SIZE, seed=3):
    table = make_table(shape, number)
    draw = balanced_draw(table, "volume", held_out=np.array([], dtype=int))
    return CropSampler(table=table, draw=draw, crop_size=size, seed=seed)


def no_views(image, random):
    return {}


def make_dataset(source=MemorySource, **changes):
    return CropDataset(source, **{"crop_size": SIZE, "seed": 3, "views": no_views, **changes})


def make_plan(volume, *, name=None, mean=0.0, std=1.0, start=(0, 0, 0), flips=(False,) * 3):
    return CropPlan(
        step=0,
        k=0,
        volume=volume,
        name=name or f"v{volume}",
        mean=mean,
        std=std,
        start=start,
        is_flipped=flips,
    )


def read_all(dataset, batches):
    return torch.stack([dataset[plan]["image"] for batch in batches for plan in batch])


def test_step_batches_of_two_processes_join_to_those_of_one():
    plan = make_sampler().plan
    whole = StepBatches(plan, range(3), 4)
    halves = [StepBatches(plan, range(3), 4, rank=rank, num_processes=2) for rank in (0, 1)]

    joined = [first + second for first, second in zip(*halves, strict=True)]

    assert joined == list(whole)
    assert len({(plan.step, plan.k) for batch in joined for plan in batch}) == 3 * 4


def test_step_batches_of_a_resumed_run_are_the_tail_of_the_whole_run():
    plan = make_sampler().plan
    whole = read_all(make_dataset(), StepBatches(plan, range(5), 4))

    resumed = read_all(make_dataset(), StepBatches(plan, range(2, 5), 4))

    assert torch.equal(resumed, whole[2 * 4 :])


@pytest.mark.parametrize(("seed", "step", "k"), [(4, 7, 2), (3, 8, 2), (3, 7, 1)])
def test_plan_changes_with_seed_step_and_place(seed, step, k):
    shape = (400, 400, 400)
    plan = make_sampler(shape, seed=3).plan(7, 2)

    assert make_sampler(shape, seed=3).plan(7, 2) == plan
    assert make_sampler(shape, seed=seed).plan(step, k).start != plan.start


def test_plan_does_not_depend_on_earlier_draws():
    sampler, fresh = make_sampler(), make_sampler().plan(9, 1)

    for step in range(9):
        sampler.plan(step, 1)

    assert sampler.plan(9, 1) == fresh


def test_plan_reaches_every_volume_position_and_flip_about_equally():
    sampler = make_sampler((10, 8, 9), 2, size=(8, 8, 8))
    plans = [sampler.plan(step, 0) for step in range(3000)]

    for counts, expected in (
        (np.bincount([plan.volume for plan in plans]), 1 / 2),
        (np.bincount([plan.start[0] for plan in plans]), 1 / 3),
        (np.bincount([plan.start[1] for plan in plans]), 1),
        (np.bincount([plan.start[2] for plan in plans]), 1 / 2),
        *((np.bincount([plan.is_flipped[axis] for plan in plans]), 1 / 2) for axis in range(3)),
    ):
        assert counts / 3000 == pytest.approx(np.full(round(1 / expected), expected), abs=0.04)


def test_plan_carries_name_mean_and_std_of_its_volume():
    plan = make_sampler().plan(5, 0)

    volume = MemorySource().volumes[plan.name]
    assert plan.name == f"v{plan.volume}"
    assert (plan.mean, plan.std) == pytest.approx((volume.mean(), volume.std()))


def test_plan_centre_lies_in_the_middle():
    plan = make_sampler().plan_centre(2)

    assert (plan.volume, plan.start, plan.is_flipped) == (2, (12, 4, 3), (False,) * 3)


def test_read_crop_is_the_z_scored_and_mirrored_box():
    source = MemorySource()
    volume = source.volumes["v1"]
    plan = make_plan(
        1, mean=volume.mean(), std=volume.std(), start=(2, 5, 1), flips=(True, False, True)
    )

    crop = read_crop(source, plan, size=SIZE)

    box = volume[2:18, 5:13, 1:17][::-1, :, ::-1]
    np.testing.assert_allclose(crop, (box - volume.mean()) / volume.std(), rtol=1e-5, atol=1e-5)


def test_read_crop_of_a_constant_volume_is_finite():
    source = MemorySource()
    source.volumes["v0"][:] = 7.0

    crop = read_crop(source, make_plan(0, mean=7.0, std=0.0), size=SIZE)

    np.testing.assert_array_equal(crop, np.zeros(SIZE))


def test_read_crop_of_a_smaller_volume_pads_zeros_around_it():
    sampler = make_sampler((10, 24, 13))
    plan = make_plan(0, mean=50.0, std=9.0, start=sampler.plan(0, 0).start)

    crop = read_crop(MemorySource((10, 24, 13)), plan, size=SIZE)

    assert crop.shape == SIZE
    assert (crop[3:13, :, 1:14] != 0).all()
    assert not crop[:3].any() and not crop[13:].any()
    assert not crop[:, :, :1].any() and not crop[:, :, 14:].any()


def draw_noise(image, random):
    return {"noise": image + torch.from_numpy(random.normal(size=image.shape))}


def test_views_are_drawn_from_seed_step_and_place_and_do_not_change_the_crops():
    sampler, plain = make_sampler(), make_dataset()
    noisy, again, other = (make_dataset(views=draw_noise, seed=seed) for seed in (3, 3, 4))
    samples = [noisy[sampler.plan(step, k)] for step, k in ((4, 1), (5, 1), (4, 0))]

    assert torch.equal(plain[sampler.plan(4, 1)]["image"], samples[0]["image"])
    assert torch.equal(again[sampler.plan(4, 1)]["noise"], samples[0]["noise"])
    draws = [sample["noise"] - sample["image"] for sample in samples]
    draws.append(other[sampler.plan(4, 1)]["noise"] - samples[0]["image"])
    assert len({round(draw.sum().item(), 6) for draw in draws}) == 4


def test_worker_processes_give_the_same_batches(store_path):
    def batches(num_workers):
        table = read_volume_table(VolumeStore.open(store_path))
        draw = balanced_draw(table, "volume", held_out=np.array([], dtype=int))
        sampler = CropSampler(table=table, draw=draw, crop_size=(64, 32, 32), seed=1)
        dataset = CropDataset(
            functools.partial(VolumeStore.open, store_path),
            crop_size=(64, 32, 32),
            seed=1,
            views=draw_noise,
        )
        loader = DataLoader(
            dataset,
            batch_sampler=StepBatches(sampler.plan, range(3), 2),
            num_workers=num_workers,
            multiprocessing_context="spawn" if num_workers else None,
        )
        return [(batch["volume"].tolist(), batch["noise"]) for batch in loader]

    for (volumes, images), (other_volumes, other_images) in zip(
        batches(0), batches(2), strict=True
    ):
        assert volumes == other_volumes
        assert torch.equal(images, other_images)


def test_what_a_worker_gets_does_not_grow_with_the_store(make_data, make_settings):
    data = make_data(make_settings())
    data.dataset.source.read_box(data.table.names[0], (0, 0, 0), (8, 8, 8))

    pickled = pickle.dumps(data.dataset)

    assert not any(name.encode() in pickled for name in data.table.names)
    assert len(pickled) < 1000
