"""What is planned: pairs with scratch, seeds, and the trainers' own settings."""

from collections import Counter
from dataclasses import replace

import pytest

from nnunet_triad.trainers.recipe import Recipe
from nnunet_triad.trainers.variants import make_trainer
from studies.design import (
    DATA,
    PLAIN,
    PRETRAININGS,
    REAL,
    REFERENCES,
    REMEDIES,
    SCALES,
    SCRATCH,
    TRAININGS,
)
from studies.plan import CLOSER_LOOK, trials

FULL = list(trials(SCALES["full"]))


def test_trials_are_distinct_and_paired_with_scratch():
    assert len(FULL) == len({t.key for t in FULL})
    settings = {
        t: (t.data, t.network, t.labelled, t.seed, TRAININGS[t.training].scratch or t.training)
        for t in FULL
    }
    scratch = {settings[t] for t in FULL if t.initialization == SCRATCH}
    assert set(settings.values()) == scratch


def test_segmentation_has_five_seeds_of_each_setting():
    found = [t for t in FULL if t.task == "segmentation" and not t.data.startswith(REAL)]
    seeds = Counter(replace(t, seed=0) for t in found)
    # Scratch on the new subjects stands beside each of three pre-trainings' five seeds.
    assert set(seeds.values()) == {5, 15}
    assert {(t.initialization, t.data) for t, n in seeds.items() if n == 15} == {
        (SCRATCH, "new-brains")
    }
    assert {t.labelled for t in found if t.network == "unet_t"} == {1, 2, 4, 8, 16}
    assert {t.labelled for t in found if t.network == "swin_t"} == {1, 2, 4, 8, 16}


def test_everything_that_is_described_is_planned():
    assert {t.training for t in FULL} == set(TRAININGS)
    assert {t.initialization for t in FULL} == {SCRATCH, *PRETRAININGS}
    assert {t.data for t in FULL} == set(DATA)
    assert len([t for t in FULL if t.training == REFERENCES]) == 1


def test_classification_repeats_each_setting_for_every_seed():
    seeds = Counter(
        (t.data, t.network, t.training, t.initialization)
        for t in FULL
        if t.data in ("sequence", "lesion", "ventricles", "rare")
    )
    for (data, network, training, _), number in seeds.items():
        is_closer = (data, network) == CLOSER_LOOK and training == "finetune"
        assert number == (5 if is_closer else 3)
    assert {key[2] for key in seeds if key[0] == "rare"} == {"finetune", *REMEDIES}


@pytest.mark.parametrize(
    ("name", "suffixes"),
    [
        (PLAIN, "demo"),
        ("sgd", "warmup"),
        ("adamw-llrd", "demo_llrd"),
        ("adamw-frozen", "demo_frozen"),
    ],
)
def test_a_training_is_that_of_the_trainer_with_these_suffixes(name, suffixes):
    trainer = make_trainer(f"nnUNetTrainerScratchUNet_{suffixes}")
    training = TRAININGS[name]

    assert training.recipe == trainer.recipe()
    # nnU-Net's own values where no suffix sets any
    merged = {"initial_lr": 1e-2, "weight_decay": 3e-5} | trainer.merged("settings")
    assert training.settings == {name: merged[name] for name in training.settings}


def test_the_published_trainings_have_their_rates():
    assert TRAININGS[PLAIN].settings == {"initial_lr": 1e-3, "weight_decay": 0.01}
    sawtooth = Recipe(optimizer="adamw", warmup_share=0.1, decoder_first_share=0.1)
    assert TRAININGS["adamw-sawtooth"].recipe == sawtooth
    assert TRAININGS["adamw-flat"].recipe == Recipe(optimizer="adamw")
