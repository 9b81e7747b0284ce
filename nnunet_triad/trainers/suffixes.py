"""The suffixes of the trainers' names, as data: what each replaces of settings and recipe."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Suffix:
    """What a suffix of a trainer's name changes."""

    help: str
    settings: dict[str, Any] = field(default_factory=dict)  # of nnU-Net's constructor
    recipe_fields: dict[str, Any] = field(default_factory=dict)  # of `Recipe`
    excludes: frozenset[str] = frozenset()  # suffixes that ask for something else


_LENGTHS: dict[str, tuple[str, tuple[int, int, int]]] = {
    "1epoch": ("one epoch", (1, 250, 50)),
    "5epochs": ("five epochs", (5, 250, 50)),
    "50epochs": ("fifty epochs", (50, 250, 50)),
    "quick": ("3 epochs of 5 iterations: a smoke test of a plan", (3, 5, 2)),
    "demo": ("10 epochs of 20 iterations by AdamW at 1e-3: minutes on two cores", (10, 20, 2)),
}
FINETUNE = "finetune"  # stands for the suffix that the encoder's family names
_FINETUNINGS = frozenset({FINETUNE, "ftsgd", "ftadamw", "ftsimmim"})
_RECIPES = frozenset({"warmup", "sawtooth", "frozen", "llrd", "adamw"}) | _FINETUNINGS
# what a whole recipe leaves to others: what is frozen, and layer-wise decay
_WHOLE = frozenset({"adamw", "paper", "demo", "warmup", "sawtooth"})


# The demo's few iterations want a recipe of their own, the same for all initialisations.
_LENGTH_RECIPES: dict[str, tuple[dict[str, Any], dict[str, Any], frozenset[str]]] = {
    "demo": (
        {"initial_lr": 1e-3, "weight_decay": 0.01},
        {"optimizer": "adamw", "warmup_share": 0.1},
        frozenset({"adamw", "paper", "warmup", "sawtooth"}) | _FINETUNINGS,
    ),
}


def _length(name: str) -> Suffix:
    text, (epochs, iterations, validation) = _LENGTHS[name]
    settings, recipe_fields, excludes = _LENGTH_RECIPES.get(name, ({}, {}, frozenset()))
    return Suffix(
        help=text,
        settings={
            "num_epochs": epochs,
            "num_iterations_per_epoch": iterations,
            "num_val_iterations_per_epoch": validation,
            **settings,
        },
        recipe_fields=recipe_fields,
        excludes=excludes | (frozenset(_LENGTHS) - {name}),
    )


SUFFIXES: dict[str, Suffix] = {
    **{name: _length(name) for name in _LENGTHS},
    "warmup": Suffix(
        help="the learning rate rises linearly in the first tenth of the epochs",
        recipe_fields={"warmup_share": 0.1},
    ),
    "sawtooth": Suffix(
        help="a tenth of the epochs the decoder alone, then all; the rate rises in both",
        recipe_fields={"decoder_first_share": 0.1, "warmup_share": 0.1},
    ),
    "frozen": Suffix(
        help="the encoder keeps the weights of the file, its norm layers too",
        recipe_fields={"is_encoder_frozen": True},
    ),
    "llrd": Suffix(
        help="the rate falls by a quarter from the decoder to each finer level of the encoder",
        recipe_fields={"layer_decay": 0.75},
    ),
    # the rate of nnU-Net's AdamW fine-tuning from random values, for all initialisations alike
    "adamw": Suffix(
        help="AdamW, learning rate 3e-4, weight decay 0.05",
        settings={"initial_lr": 3e-4, "weight_decay": 0.05},
        recipe_fields={"optimizer": "adamw"},
    ),
    # nnU-Net's master of July 2026: PretrainedTrainer_300ep
    "ftsgd": Suffix(
        help="fine-tuning of pre-trained CNNs in nnU-Net's master: SGD at 1e-3, which rises in "
        "the first twentieth of the epochs",
        settings={"initial_lr": 1e-3, "weight_decay": 3e-5},
        recipe_fields={"optimizer": "sgd", "warmup_share": 0.05},
        excludes=_WHOLE | (_FINETUNINGS - {"ftsgd"}),
    ),
    # PretrainedTrainer_Primus_150ep, and DynamicPretrainedTrainer_adam_150ep there
    "ftadamw": Suffix(
        help="fine-tuning of pre-trained transformers in nnU-Net's master: AdamW at 1e-4, weight "
        "decay 0.05, betas 0.9 and 0.98, a warm-up over a tenth of the epochs, drop path 0.2, "
        "gradient clipped at 1",
        settings={"initial_lr": 1e-4, "weight_decay": 0.05},
        recipe_fields={
            "optimizer": "adamw",
            "betas": (0.9, 0.98),
            "warmup_share": 0.1,
            "drop_path": 0.2,
            "gradient_clip": 1.0,
        },
        excludes=_WHOLE | (_FINETUNINGS - {"ftadamw"}),
    ),
    # SimMIM's own, arXiv:2111.09886: Swin-B pre-trained for 100 epochs
    "ftsimmim": Suffix(
        help="SimMIM's fine-tuning: AdamW, weight decay 0.05 but of biases and norms, the rate "
        "falls by a tenth from each block to the one before, a warm-up over a fifth of the "
        "epochs, half a cosine, drop path 0.1, gradient clipped at 5",
        settings={"initial_lr": 1e-4, "weight_decay": 0.05},
        recipe_fields={
            "optimizer": "adamw",
            "decays_all": False,
            "warmup_share": 0.2,
            "falls": "cosine",
            "layer_decay": 0.9,
            "decay_by": "block",
            "drop_path": 0.1,
            "gradient_clip": 5.0,
        },
        excludes=_WHOLE | (_FINETUNINGS - {"ftsimmim"}) | {"llrd"},
    ),
    FINETUNE: Suffix(
        help="how pre-trained weights are best tuned, as far as is known: _ftadamw for Swin, "
        "Primus and MedNeXt, _ftsgd for the other CNNs",
        excludes=_WHOLE | (_FINETUNINGS - {FINETUNE}),
    ),
    "asis": Suffix(
        help="the first layer as in the file, even if it saw another intensity scale",
        settings={"maps_intensity": False},
    ),
    "paper": Suffix(
        help="section 4.2.2 of the paper by name: SGD at 0.01, as most trainers without a suffix",
        settings={"initial_lr": 0.01, "weight_decay": 3e-5},
        recipe_fields={"optimizer": "sgd", "warmup_share": 0.0},
        excludes=_RECIPES,
    ),
}
