"""Settings as version 0.1.0 saved them beside the results stay readable, and are the same run."""

import json

import pytest

from classification.settings import PreprocessSettings, TrainSettings
from nnunet_triad.training.settings import options_of
from pretraining.settings import PretrainSettings
from registration.settings import RegistrationSettings

PRETRAINING = """{
"encoder": "unet", "steps": 10, "batch_size": 8, "crop_size": [64, 32, 32],
"learning_rate": 0.0001, "warmup_steps": 5, "weight_decay": 0.01, "gradient_clip": 1.0,
"reconstruction_weight": 0.5, "log_ratio_weight": 0.01, "mask_ratio": 0.6, "has_skips": true,
"decoder_width": 1.0, "reconstruction_scales": 1, "balance": "volume", "held_out": null,
"seed": 0, "precision": "fp32", "device": "cpu", "workers": 0, "checkpoint_every": 1000,
"picture_every": 1000, "recompute_activations": false, "licence": "MIT",
"compile_network": false}"""
REGISTRATION = """{
"network": "transmorph_l", "epochs": 200, "learning_rate": 5e-05, "encoder_rate": 1.0,
"lncc_weight": 1.0, "lncc_window": 9, "gradient_weight": 1.0, "dice_weight": 0.0,
"is_symmetric": true, "has_flips": true, "is_diffeomorphic": false,
"is_half_resolution": false, "spacing_mm": [1.5, 1.5, 3.0], "intensity_percentile": 99.9,
"intensity": "unit", "seed": 0, "precision": "fp32", "device": "cpu", "workers": 0,
"recompute_activations": false, "picture_every": 10}"""
CLASSIFICATION = """{
"encoder": "swin_b", "init": "w.pt", "mode": "finetune",
"preprocess": {"size": 96, "fit": "stretch", "intensity": "window", "window": [-1000.0, 400.0]},
"epochs": 150, "batch_size": 8, "learning_rate": 0.001, "encoder_rate": 0.1,
"warmup_epochs": 5, "hidden_size": null, "loss": "cross-entropy", "focal_gamma": 2.0,
"sampling": "natural", "samples_per_epoch": null, "augmentation": "light", "flip_axes": "",
"select": "accuracy", "seed": 0, "precision": "fp32", "device": "cpu", "workers": 0,
"checkpoint_every": 500}"""


@pytest.mark.parametrize(
    ("text", "settings", "now"),
    [
        (
            PRETRAINING,
            PretrainSettings,
            {
                "encoder": "unet",
                "steps": 10,
                "crop_size": (64, 32, 32),
                "objective_name": "masked",
                "reconstruction_weight": 0.5,
            },
        ),
        (
            REGISTRATION,
            RegistrationSettings,
            {"is_symmetric": True, "spacing_mm": (1.5, 1.5, 3.0)},
        ),
        (
            CLASSIFICATION,
            TrainSettings,
            {"init": "w.pt", "size": 96, "window": (-1000.0, 400.0)},
        ),
    ],
)
def test_saved_settings_are_those_of_the_same_command_now(text, settings, now):
    saved = json.loads(text)
    old, new = settings.from_dict(saved), settings.from_dict(now)

    assert old.differing_field(new) is None
    flat = {**saved, **saved.get("preprocess", {})}
    assert flat.keys() - {"preprocess"} <= {one.name for one in options_of(settings)}
    assert settings.from_dict(json.loads(json.dumps(old.to_dict()))) == old


def test_cube_of_saved_settings_is_read():
    found = TrainSettings.from_dict(json.loads(CLASSIFICATION)).preprocess

    assert found == PreprocessSettings(size=96, intensity="window", window=(-1000.0, 400.0))
