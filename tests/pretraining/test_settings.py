import json

import pytest

from nnunet_triad.architectures import ENCODERS
from nnunet_triad.errors import UserError
from pretraining.settings import PretrainSettings


@pytest.mark.parametrize(("encoder", "rate"), [("unet", 1e-4), ("swin_b", 1e-6), ("swin_h", 1e-6)])
def test_settings_take_the_learning_rate_of_table_3(encoder, rate):
    assert PretrainSettings(encoder=encoder).learning_rate == rate


@pytest.mark.parametrize(
    ("steps", "expected"), [(200_000, 1_000), (2_000, 1_000), (200, 100), (2, 1), (1, 0)]
)
def test_settings_shorten_the_warmup_of_a_short_run(steps, expected):
    assert PretrainSettings(steps=steps).warmup_steps == expected


def test_settings_take_a_warmup_that_is_asked_for_as_it_is():
    assert PretrainSettings(steps=200, warmup_steps=150).warmup_steps == 150


def test_settings_of_a_short_run_are_the_same_when_it_continues():
    saved = json.loads(json.dumps(PretrainSettings(steps=200).to_dict()))

    assert PretrainSettings.from_dict(saved).differing_field(PretrainSettings(steps=200)) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": "vit"}, r"encoder: expected one of unet, .*got 'vit'"),
        ({"steps": 0}, "steps: expected 1 or more and at most 1000000000, got 0"),
        ({"batch_size": -1}, "batch_size: expected 1 or more and at most 65536, got -1"),
        ({"crop_size": (96, 80, 96)}, r"crop_size: expected three multiples of 32.*got \(96, 80"),
        ({"crop_size": (32, 32, 32)}, r"crop_size: expected more than \(32, 32, 32\)"),
        ({"crop_size": (0, 32, 32)}, "crop_size: expected three multiples of 32"),
        ({"learning_rate": 0.0}, "learning_rate: expected above 0 and at most 10, got 0.0"),
        (
            {"learning_rate": float("nan")},
            "learning_rate: expected above 0 and at most 10, got nan",
        ),
        (
            {"steps": 9, "warmup_steps": 9},
            "warmup_steps: expected .* fewer than the 9 steps, got 9",
        ),
        ({"log_ratio_weight": -0.1}, "log_ratio_weight: expected zero or more, got -0.1"),
        ({"mask_ratio": 1.0}, "mask_ratio: expected 0 or more and below 1, got 1.0"),
        ({"decoder_width": 0.0}, "decoder_width: expected above 0 and at most 8, got 0.0"),
        ({"decoder_width": float("nan")}, "decoder_width: expected above 0 .*, got nan"),
        ({"reconstruction_scales": 0}, "reconstruction_scales: expected 1 or more, got 0"),
        ({"reconstruction_scales": 8}, "reconstruction_scales: expected 1 to 7, got 8"),
        (
            {"reconstruction_scales": 7, "crop_size": (64, 32, 32)},
            "reconstruction_scales: expected 1 to 6, got 7",
        ),
        ({"precision": "int8"}, "precision: expected fp32, bf16 or fp16, got int8"),
        ({"device": "tpu"}, "device: expected cpu, cuda or mps, got tpu"),
        ({"balance": "age"}, "balance: expected volume, dataset or organ, got age"),
        ({"held_out": -1}, "held_out: expected zero or more, got -1"),
        (
            {"reconstruction_weight": 0.0, "log_ratio_weight": 0.0},
            r"reconstruction_weight, log_ratio_weight: expected at least one above zero",
        ),
        (
            {"encoder": "unet", "recompute_activations": True},
            "recompute_activations: expected a transformer, as unet has no blocks",
        ),
        ({"seed": -1}, "seed: expected 0 or more and at most 4294967295, got -1"),
        (
            {"objective_name": "vae"},
            "objective_name: expected mae, masked, mdae, paper, simmim or spark, got vae",
        ),
    ],
)
def test_settings_outside_their_range_raise(changes, message):
    with pytest.raises(UserError, match=message):
        PretrainSettings.from_dict(changes)


def test_settings_survive_json():
    settings = PretrainSettings(encoder="unet", crop_size=(64, 96, 128), seed=5)

    assert PretrainSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_differing_field_names_what_changes_the_result_only():
    settings = PretrainSettings()

    assert settings.differing_field(PretrainSettings(workers=3, checkpoint_every=7)) is None
    assert settings.differing_field(PretrainSettings(workers=3, seed=2)) == "seed"


def test_settings_keep_the_activations_of_a_large_encoder_on_demand():
    settings = PretrainSettings(encoder="swin_l", recompute_activations=False)

    assert settings.recompute_activations is False


@pytest.mark.parametrize("encoder", ENCODERS)
def test_settings_have_a_learning_rate_for_every_encoder(encoder):
    assert 0 < PretrainSettings(encoder=encoder).learning_rate <= 1e-4


@pytest.mark.parametrize(
    ("mask_ratio", "has_skips", "name"),
    [(0.6, True, "masked"), (0.0, False, "paper"), (0.4, False, "masked"), (0.0, True, "paper")],
)
def test_settings_saved_before_objectives_had_names_are_read(mask_ratio, has_skips, name):
    saved = {
        **{"encoder": "swin_t", "crop_size": [64, 32, 32], "learning_rate": 0.001},
        **{"reconstruction_weight": 1.0, "log_ratio_weight": 0.02, "mask_ratio": mask_ratio},
        **{"has_skips": has_skips, "decoder_width": 0.5, "reconstruction_scales": 2},
    }

    found = PretrainSettings.from_dict(saved)

    assert found.objective_name == name
    assert found.objective.to_dict() == {
        **{"reconstruction_weight": 1.0, "log_ratio_weight": 0.02, "mask_ratio": mask_ratio},
        **{"has_skips": has_skips, "decoder_width": 0.5, "reconstruction_scales": 2},
    }


def test_differing_field_names_the_option_of_the_objective():
    settings = PretrainSettings.from_dict({"mask_ratio": 0.5})

    assert settings.differing_field(PretrainSettings()) == "objective.mask_ratio"
    other = PretrainSettings(objective_name="paper")
    assert settings.differing_field(other) == "objective_name"
