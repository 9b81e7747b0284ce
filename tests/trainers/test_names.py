"""Which trainer's name takes a file."""

import pytest

from nnunet_triad.architectures import encoder_spec, plainconv_spec
from nnunet_triad.errors import UserError
from nnunet_triad.trainers.names import fitting_trainers


@pytest.mark.parametrize(
    ("encoder", "source", "initialization", "expected"),
    [
        ("swin_t", "triad", "triad", ("TriadSwinT",)),
        ("swin_l", "voco", "triad", ("VoCoSwinL",)),
        ("swin_b", "monai", "voco", ("VoCoSwinB",)),  # says not whose it is
        ("swin_b_v1", "suprem", "triad", ("PretrainedSwinBv1",)),
        ("unet", "triad", "pretrained", ("PretrainedUNet",)),
        ("resenc", "nnssl", "voco", ("PretrainedResEncM", "PretrainedResEncL")),
        ("unet_t", "triad", "triad", ("TriadUNetT",)),
    ],
)
def test_trainers_that_fit_take_encoder_and_source(encoder, source, initialization, expected):
    found = fitting_trainers(encoder_spec(encoder), source, initialization)

    assert found == tuple(f"nnUNetTrainer{name}" for name in expected)


def test_no_trainer_fits_an_encoder_of_another_width():
    assert fitting_trainers(plainconv_spec("mine", (24, 48)), "triad", "triad") == ()


def test_training_names_the_trainer_that_takes_the_file(
    make_trainer, weights_folder, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TRIAD_WEIGHTS", str(weights_folder / "voco_swin_t.safetensors"))

    with pytest.raises(UserError, match=r"; use nnUNetTrainerVoCoSwinT, or a file of unet$"):
        make_trainer("nnUNetTrainerTriadUNet").on_train_start()
