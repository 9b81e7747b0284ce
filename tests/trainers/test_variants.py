"""The names of the trainers, and what each part of a name changes."""

import inspect
import itertools
import pickle
from pathlib import Path

import pytest
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

from nnunet_triad import plugin
from nnunet_triad.errors import UserError
from nnunet_triad.trainers import variants
from nnunet_triad.trainers.recipe import Recipe

INITIALIZATIONS = ("Scratch", "VoCo", "Triad", "Pretrained")
NETWORKS = (
    *("UNet", "UNetT", "SwinT", "SwinB", "SwinL", "SwinH", "SwinBv1", "SwinBv1D6", "SwinBv1D18"),
    *("SwinLv1", "SwinLv1D6", "SwinTGN", "SwinBGN"),
    *("ResEncM", "ResEncL"),
    *("MedNeXtS", "MedNeXtB", "MedNeXtM", "MedNeXtL", "PrimusM"),
)
NAMES = [
    f"nnUNetTrainer{initialization}{network}"
    for initialization in INITIALIZATIONS
    for network in NETWORKS
]
COMBINATIONS = [
    "_1epoch",
    "_demo_llrd",
    "_warmup_frozen_5epochs",
    "_5epochs_frozen_warmup",
    "_sawtooth_llrd_adamw_quick",
    "_llrd_warmup_sawtooth_frozen_adamw_1epoch",
    "_paper_quick",
    "_finetune_frozen_quick",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("suffix", ["", *COMBINATIONS])
def test_trainer_bears_the_name_that_checkpoints_record(name: str, suffix: str) -> None:
    trainer = getattr(variants, name + suffix)
    assert trainer.__name__ == name + suffix
    assert issubclass(trainer, nnUNetTrainer)
    assert getattr(variants, name + suffix) is trainer
    assert pickle.loads(pickle.dumps(trainer)) is trainer


def test_star_import_gives_the_trainers_without_suffix_and_nothing_else() -> None:
    assert sorted(variants.__all__) == sorted(NAMES)


@pytest.mark.parametrize("suffixes", list(itertools.permutations(("warmup", "frozen", "5epochs"))))
def test_order_of_suffixes_does_not_matter(suffixes: tuple[str, ...]) -> None:
    one = getattr(variants, "nnUNetTrainerTriadSwinT_" + "_".join(suffixes))
    other = variants.nnUNetTrainerTriadSwinT_warmup_frozen_5epochs
    assert one.recipe() == other.recipe()
    assert one.merged("settings") == other.merged("settings")


@pytest.mark.parametrize(
    ("ending", "pair"),
    [
        ("_1epoch_5epochs", "_1epoch and _5epochs"),
        ("_quick_llrd_demo", "_quick and _demo"),
        ("_demo_warmup", "_demo and _warmup"),
        ("_warmup_warmup", "_warmup and _warmup"),
        ("_paper_adamw", "_paper and _adamw"),
        ("_llrd_1epoch_paper", "_llrd and _paper"),
        ("_finetune_paper", "_finetune and _paper"),
        ("_ftsgd_ftadamw", "_ftsgd and _ftadamw"),
        ("_finetune_demo", "_finetune and _demo"),
        ("_ftsimmim_llrd", "_ftsimmim and _llrd"),
    ],
)
def test_suffixes_that_exclude_each_other_are_named(ending: str, pair: str) -> None:
    with pytest.raises(UserError, match=f"expected suffixes that go together, got {pair}"):
        getattr(variants, f"nnUNetTrainerTriadSwinT{ending}")


@pytest.mark.parametrize(
    "name", ["nnUNetTrainer", "nnUNetTrainer_5epochs", "nnUNetTrainerTriadSwinX", "SwinB"]
)
def test_names_of_others_are_not_there(name: str) -> None:
    assert not hasattr(variants, name)


def test_unknown_suffix_is_named_and_nnunet_goes_on_searching(capsys) -> None:
    assert not hasattr(variants, "nnUNetTrainerTriadSwinB_warmpu_1epoch")
    assert "no suffix _warmpu here" in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["", "_frozen_llrd_1epoch", "_1epoch_warmup"])
def test_nnunet_finds_any_combination_through_the_shim(
    monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    folder = Path(plugin.__file__).parent
    found = recursive_find_python_class(
        str(folder), f"nnUNetTrainerTriadSwinB{ending}", None, base_folder=str(folder)
    )
    assert found.__name__ == f"nnUNetTrainerTriadSwinB{ending}"
    assert recursive_find_python_class(str(folder), "nnUNetTrainerTriadSwinB_x", None) is None


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
        ("SwinBv1", "swin_b_v1"),
        ("SwinBv1D6", "swin_b_v1_d6"),
        ("SwinLv1", "swin_l_v1"),
        ("SwinLv1D6", "swin_l_v1_d6"),
        ("SwinTGN", "swin_t_gn"),
        ("SwinBGN", "swin_b_gn"),
        ("ResEncM", "resenc"),
        ("ResEncL", "resenc"),
    ],
)
@pytest.mark.parametrize(
    ("initialization", "source"),
    [("Scratch", None), ("VoCo", "voco"), ("Triad", "triad"), ("Pretrained", "pretrained")],
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
        ("nnUNetTrainerScratchMedNeXtS", (300, 250, 50)),
        ("nnUNetTrainerVoCoUNet_1epoch", (1, 250, 50)),
        ("nnUNetTrainerScratchSwinB_5epochs", (5, 250, 50)),
        ("nnUNetTrainerScratchUNet_quick", (3, 5, 2)),
        ("nnUNetTrainerScratchSwinT_demo_llrd", (10, 20, 2)),
        ("nnUNetTrainerScratchUNet_warmup_5epochs_frozen", (5, 250, 50)),
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


@pytest.mark.parametrize(
    ("name", "recipe", "settings"),
    [
        ("PretrainedMedNeXtS", Recipe(optimizer="adamw"), {"initial_lr": 1e-3}),
        (
            "ScratchPrimusM",
            Recipe(optimizer="adamw", warmup_share=0.1),
            {"initial_lr": 3e-4, "weight_decay": 0.05},
        ),
        ("ScratchPrimusM_paper", Recipe(), {"initial_lr": 0.01, "weight_decay": 3e-5}),
        ("ScratchMedNeXtS_adamw", Recipe(optimizer="adamw"), {"initial_lr": 3e-4}),
        ("TriadSwinB", Recipe(), {}),
    ],
)
def test_family_sets_the_recipe_and_suffixes_replace_it(name, recipe, settings) -> None:
    trainer = getattr(variants, f"nnUNetTrainer{name}")
    assert trainer.recipe() == recipe
    found = trainer.merged("settings")
    assert {key: found.get(key) for key in settings} == settings


@pytest.mark.parametrize(
    ("network", "meant"),
    [
        *(("UNet", "ftsgd"), ("ResEncL", "ftsgd"), ("MedNeXtS", "ftadamw")),
        *(("SwinT", "ftadamw"), ("SwinBv1", "ftadamw"), ("PrimusM", "ftadamw")),
    ],
)
def test_finetune_is_the_recipe_of_the_family(network: str, meant: str) -> None:
    found, expected = (
        getattr(variants, f"nnUNetTrainerTriad{network}_{suffix}") for suffix in ("finetune", meant)
    )
    assert found.recipe() == expected.recipe()
    assert found.merged("settings") == expected.merged("settings")


def test_optimizer_is_sgd_with_nnunet_s_momentum(make_trainer) -> None:
    trainer = make_trainer("nnUNetTrainerScratchSwinT")
    trainer.initialize()
    group = trainer.optimizer.param_groups[0]
    assert type(trainer.optimizer).__name__ == "SGD"
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.99, True, 3e-5)


def test_initialising_keeps_freed_memory_on_a_cpu(make_trainer, monkeypatch):
    calls = []
    place = "nnunet_triad.architectures.cpu.accelerate.keep_all_freed_memory"
    monkeypatch.setattr(place, lambda: calls.append(1))
    trainer = make_trainer("nnUNetTrainerScratchSwinT")
    trainer.initialize()
    assert calls == [1]
