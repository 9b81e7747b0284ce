import inspect

import pytest
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_triad.trainers import variants

NETWORKS = ("UNet", "SwinT", "SwinB", "SwinL", "SwinH")
NAMES = [
    f"nnUNetTrainer{initialization}{network}"
    for initialization in ("Scratch", "VoCo", "Triad")
    for network in NETWORKS
]
SUFFIXES = ("", "_1epoch", "_5epochs", "_quick", "_demo")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_trainer_bears_the_name_that_checkpoints_record(name: str, suffix: str) -> None:
    trainer = getattr(variants, name + suffix)
    assert trainer.__name__ == name + suffix
    assert name + suffix in variants.__all__
    assert issubclass(trainer, nnUNetTrainer)


def test_variants_export_trainers_and_nothing_else() -> None:
    assert sorted(variants.__all__) == sorted(n + s for n in NAMES for s in SUFFIXES)


@pytest.mark.parametrize("name", NAMES)
def test_trainer_takes_the_parameters_of_nnunet(name: str) -> None:
    expected = list(inspect.signature(nnUNetTrainer.__init__).parameters)
    assert list(inspect.signature(getattr(variants, name).__init__).parameters) == expected


@pytest.mark.parametrize(
    ("network", "encoder"),
    [
        ("UNet", "unet"),
        ("SwinT", "swin_t"),
        ("SwinB", "swin_b"),
        ("SwinL", "swin_l"),
        ("SwinH", "swin_h"),
    ],
)
@pytest.mark.parametrize(
    ("initialization", "source"), [("Scratch", None), ("VoCo", "voco"), ("Triad", "triad")]
)
def test_name_says_encoder_and_initialization(
    network: str, encoder: str, initialization: str, source: str | None
) -> None:
    trainer = getattr(variants, f"nnUNetTrainer{initialization}{network}_1epoch")
    assert (trainer.encoder.name, trainer.initialization) == (encoder, source)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nnUNetTrainerTriadUNet", (300, 250, 50)),
        ("nnUNetTrainerTriadSwinT", (150, 250, 50)),
        ("nnUNetTrainerTriadSwinH", (150, 250, 50)),
        ("nnUNetTrainerVoCoUNet_1epoch", (1, 250, 50)),
        ("nnUNetTrainerScratchSwinB_5epochs", (5, 250, 50)),
        ("nnUNetTrainerScratchUNet_quick", (3, 5, 2)),
    ],
)
def test_length_of_training_follows_network_and_suffix(
    make_trainer, name: str, expected: tuple[int, int, int]
) -> None:
    trainer = make_trainer(name, is_shortened=False)
    lengths = (
        trainer.num_epochs,
        trainer.num_iterations_per_epoch,
        trainer.num_val_iterations_per_epoch,
    )
    assert lengths == expected


@pytest.mark.parametrize(
    ("name", "epochs"), [("nnUNetTrainerScratchUNet", 300), ("nnUNetTrainerScratchSwinT", 150)]
)
def test_learning_rate_falls_polynomially_over_the_paper_s_epochs(
    make_trainer, name: str, epochs: int
) -> None:
    trainer = make_trainer(name)
    trainer.initialize()
    trainer.lr_scheduler.step(100)
    expected = 0.01 * (1 - 100 / epochs) ** 0.9
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(expected)


def test_optimizer_is_sgd_with_nnunet_s_momentum(make_trainer) -> None:
    trainer = make_trainer("nnUNetTrainerScratchSwinT")
    trainer.initialize()
    group = trainer.optimizer.param_groups[0]
    assert type(trainer.optimizer).__name__ == "SGD"
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.99, True, 3e-5)
