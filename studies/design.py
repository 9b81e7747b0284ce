"""The experiment as data: what is pre-trained, and what is fine-tuned from it."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from nnunet_triad.trainers.recipe import Recipe

SCRATCH = "scratch"
Triple = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large everything is. Populations of different seeds share no subject but the template,
    which the labelled subjects leave out."""

    spacing_mm: float = 3.0
    store_shape: Triple = (64, 72, 64)
    pretraining_subjects: int = 24
    pretraining_seed: int = 101
    pretraining_steps: int = 200
    pretraining_batch: int = 3
    crop_size: Triple = (64, 32, 32)
    learning_rate: float = 1e-3
    labelled_subjects: int = 32  # a seed of the fine-tuning draws some of them
    test_subjects: int = 10
    labelled_seed: int = 202
    confirmation_seed: int = 303  # of labelled and test subjects that no choice was made on
    patch_size: int = 32
    batch_size: int = 2
    iterations: int = 120
    measured_at: tuple[int, ...] = (30, 60, 90, 120)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    confirmation_seeds: tuple[int, ...] = (10, 11, 12, 13, 14)
    registration_subjects: int = 100  # the atlas; of the others three fifths are for training
    registration_seed: int = 404
    registration_spacing_mm: float = 6.5  # a brain and its margin in 32 voxels
    registration_epochs: int = 16
    classification_subjects: int = 160
    classification_parts: tuple[int, int] = (60, 20)  # training, validation; the rest is for test
    classification_seed: int = 505
    classification_spacing_mm: float = 6.0
    classification_size: int = 32
    classification_epochs: int = 24


SCALES = {
    "full": Scale(),
    # Seconds, to see that it runs; its figures say nothing.
    "smoke": Scale(
        spacing_mm=8.0,
        store_shape=(32, 32, 32),
        pretraining_subjects=3,
        pretraining_steps=2,
        pretraining_batch=3,
        labelled_subjects=3,
        test_subjects=2,
        patch_size=16,
        iterations=2,
        measured_at=(1, 2),
        seeds=(0, 1),
        confirmation_seeds=(10, 11),
        registration_subjects=6,
        registration_spacing_mm=8.0,
        registration_epochs=1,
        classification_subjects=25,
        classification_parts=(10, 5),
        classification_spacing_mm=8.0,
        classification_epochs=1,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Images:
    """What is simulated for the pre-training."""

    sequences: str = "T1w,T2w,FLAIR"
    anatomy: str = "brain"
    share_of_subjects: float = 1.0
    has_shuffled_texts: bool = False

    @property
    def name(self) -> str:
        """Of its folder."""
        shuffled = "-shuffled" if self.has_shuffled_texts else ""
        words = f"{self.anatomy}-{self.sequences}-{self.share_of_subjects:g}{shuffled}"
        return words.replace(",", "_")


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """One pre-training: its images, and the options of `triad-pretrain` that differ."""

    title: str
    options: tuple[str, ...] = ()
    images: Images = field(default_factory=Images)
    step_factor: float = 1.0
    seed: int = 0  # of weights, crops, flips and masks
    repeats: str = ""  # the pre-training that this one repeats with another seed


_MASKED = ("--recipe", "masked")


def _long(seed: int) -> Pretraining:
    return Pretraining(
        title=f"masked, five times the steps, seed {seed}",
        options=_MASKED,
        step_factor=5.0,
        seed=seed,
        repeats="long",
    )


PRETRAININGS: dict[str, Pretraining] = {
    "paper": Pretraining(title="the paper's: no mask, no skips", options=("--recipe", "paper")),
    "masked": Pretraining(title="masked recipe: 60 % hidden, skips", options=_MASKED),
    "mask-only": Pretraining(title="masked, without skips", options=(*_MASKED, "--no-skips")),
    "other-contrast": Pretraining(
        title="masked, T2w and FLAIR only", options=_MASKED, images=Images(sequences="T2w,FLAIR")
    ),
    "other-anatomy": Pretraining(
        title="masked, pelvis and breast",
        options=_MASKED,
        images=Images(anatomy="pelvis,breast"),
    ),
    "no-text": Pretraining(
        title="masked, reconstruction alone (weight 0)",
        options=(*_MASKED, "--log-ratio-weight", "0"),
    ),
    "text-0.001": Pretraining(
        title="masked, log-ratio x 0.001", options=(*_MASKED, "--log-ratio-weight", "0.001")
    ),
    "text-0.1": Pretraining(
        title="masked, log-ratio x 0.1", options=(*_MASKED, "--log-ratio-weight", "0.1")
    ),
    "text-alone": Pretraining(
        title="log-ratio alone, no mask, no skips",
        options=(
            *("--recipe", "paper"),
            *("--reconstruction-weight", "0", "--log-ratio-weight", "1"),
        ),
    ),
    "shuffled-text": Pretraining(
        title="masked, texts shuffled", options=_MASKED, images=Images(has_shuffled_texts=True)
    ),
    "narrow-decoder": Pretraining(
        title="masked, decoder at half the width", options=(*_MASKED, "--decoder-width", "0.5")
    ),
    "wide-decoder": Pretraining(
        title="masked, decoder at twice the width", options=(*_MASKED, "--decoder-width", "2")
    ),
    "multi-scale": Pretraining(
        title="masked, L1 at three scales", options=(*_MASKED, "--reconstruction-scales", "3")
    ),
    "fewer-images": Pretraining(
        title="masked, a quarter of the subjects",
        options=_MASKED,
        images=Images(share_of_subjects=0.25),
    ),
    "longer": Pretraining(title="masked, twice the steps", options=_MASKED, step_factor=2.0),
    "long": Pretraining(title="masked, five times the steps", options=_MASKED, step_factor=5.0),
    "paper-long": Pretraining(
        title="the paper's, five times the steps", options=("--recipe", "paper"), step_factor=5.0
    ),
    # Swin-T's bottleneck collapses at the rate of the others; see docs/evidence.
    "low-rate": Pretraining(
        title="masked, five times the steps, rate 1e-4",
        options=(*_MASKED, "--learning-rate", "1e-4"),
        step_factor=5.0,
    ),
    "long-seed1": _long(1),
    "long-seed2": _long(2),
}
REPEATS = tuple(name for name, made in PRETRAININGS.items() if made.repeats)
# The others are compared at one setting alone.
MAIN = ("paper", "masked", "paper-long", "long", "low-rate")


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """How a network is fine-tuned."""

    title: str
    recipe: Recipe
    # levels of the encoder that get pre-trained values, 0 the finest; None: all
    levels: tuple[int, ...] | None = None
    scratch: str = ""  # the fine-tuning whose scratch stands beside it; "": its own


PLAIN = "adamw"
FINE_TUNINGS: dict[str, FineTuning] = {
    PLAIN: FineTuning(title="adamw", recipe=Recipe(optimizer="adamw", warmup_share=0.1)),
    "sgd": FineTuning(title="sgd", recipe=Recipe(optimizer="sgd", warmup_share=0.1)),
    "adamw-flat": FineTuning(title="adamw, no warm-up", recipe=Recipe(optimizer="adamw")),
    "adamw-sawtooth": FineTuning(
        title="adamw, sawtooth",
        recipe=Recipe(optimizer="adamw", warmup_share=0.1, decoder_first_share=0.1),
    ),
    "adamw-llrd": FineTuning(
        title="adamw, layer-wise rates",
        recipe=Recipe(optimizer="adamw", warmup_share=0.1, layer_decay=0.75),
    ),
    "adamw-frozen": FineTuning(
        title="adamw, encoder frozen",
        recipe=Recipe(optimizer="adamw", warmup_share=0.1, is_encoder_frozen=True),
        scratch=PLAIN,
    ),
    "adamw-fine": FineTuning(
        title="adamw, two finest levels alone",
        recipe=Recipe(optimizer="adamw", warmup_share=0.1),
        levels=(0, 1),
        scratch=PLAIN,
    ),
    "adamw-coarse": FineTuning(
        title="adamw, two coarsest levels alone",
        recipe=Recipe(optimizer="adamw", warmup_share=0.1),
        levels=(2, 3),
        scratch=PLAIN,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One fine-tuning."""

    encoder: str
    initialization: str  # SCRATCH, or a name of PRETRAININGS
    labelled: int  # labelled subjects
    seed: int  # which subjects, initial weights, patches
    finetuning: str = PLAIN  # a name of FINE_TUNINGS
    is_confirmation: bool = False  # on the subjects of `confirmation_seed`

    @property
    def key(self) -> str:
        """Of its file."""
        confirmation = "-confirmation" if self.is_confirmation else ""
        return (
            f"{self.encoder}-{self.initialization}-n{self.labelled}-{self.finetuning}"
            f"{confirmation}-seed{self.seed}"
        )


@dataclass(frozen=True, kw_only=True)
class TaskTrial:
    """One training of another task, by that task's own commands, from the same encoders."""

    task: str
    network: str
    encoder: str = "swin_t"
    mode: str  # "finetune"; of classification "linear-probe" and `SLOW_ENCODER`, too
    initialization: str
    seed: int

    @property
    def key(self) -> str:
        """Of its file."""
        return f"{self.task}-{self.network}-{self.mode}-{self.initialization}-seed{self.seed}"


TASKS = ("segmentation", "classification", "registration")
SLOW_ENCODER = "slow-encoder"  # fine-tuned, the encoder at a tenth of the learning rate
OTHER_TASKS = (
    ("classification", "swin_t", "linear-probe"),
    ("classification", "swin_t", "finetune"),
    ("classification", "swin_t", SLOW_ENCODER),
    ("registration", "transmorph_t", "finetune"),
    ("registration", "swinunetr_t", "finetune"),
)


def task_trials(scale: Scale) -> Iterator[TaskTrial]:
    """Yield the trials of the other tasks: scratch against the longest masked pre-trainings."""
    planned = [(run, name) for run in OTHER_TASKS for name in (SCRATCH, "long")]
    planned += [(run, "low-rate") for run in OTHER_TASKS]
    for (task, network, mode), name in planned:
        for seed in scale.seeds:
            yield TaskTrial(task=task, network=network, mode=mode, initialization=name, seed=seed)


ABLATION_ENCODER, ABLATION_LABELLED = "unet_t", 2


def trials(scale: Scale) -> Iterator[Trial]:
    """Yield all trials, the most important first."""
    seen = set()
    for trial in _all(scale):
        if trial not in seen:
            seen.add(trial)
            yield trial


def _all(scale: Scale) -> Iterator[Trial]:
    for labelled in (1, 2, 4, 8, 16):
        yield from _seeds(scale, "unet_t", (SCRATCH, "masked"), labelled)
    for labelled in (1, 4):
        yield from _seeds(scale, "unet_t", ("paper",), labelled)
    for labelled in (1, 2, 4):
        yield from _seeds(scale, "unet_t", ("long",), labelled)
    for labelled in (4, 2, 1):
        yield from _seeds(scale, "unet_t", (SCRATCH, "long"), labelled, is_confirmation=True)
    for labelled in (4, 2, 1):
        yield from _seeds(scale, "unet_t", ("paper-long",), labelled, is_confirmation=True)
    for order, name in enumerate(REPEATS, 1):
        for labelled in (4, 2, 1):
            both = (SCRATCH, name)
            yield from _seeds(scale, "unet_t", both, labelled, is_confirmation=True, order=order)
    for labelled in (4, 8, 16):
        yield from _seeds(scale, "unet_t", ("paper-long", "long")[labelled > 4 :], labelled)
    yield from _seeds(scale, "swin_t", (SCRATCH, "masked"), 1)
    for name in (name for name in PRETRAININGS if name not in REPEATS):
        yield from _seeds(scale, ABLATION_ENCODER, (name,), ABLATION_LABELLED)
    for finetuning, names in (("adamw-frozen", ("masked",)), ("sgd", (SCRATCH, "masked"))):
        yield from _seeds(scale, ABLATION_ENCODER, names, ABLATION_LABELLED, finetuning=finetuning)
    for labelled in (2, 4, 8, 16):
        yield from _seeds(scale, "swin_t", (SCRATCH, "masked"), labelled)
    for labelled in (8, 16):
        yield from _seeds(scale, "unet_t", ("paper",), labelled)
    for labelled in (1, 2, 4):
        yield from _seeds(scale, "swin_t", ("low-rate", "long"), labelled)
    for finetuning in ("adamw-flat", "adamw-sawtooth", "adamw-llrd", "adamw-fine", "adamw-coarse"):
        names = ("long",) if FINE_TUNINGS[finetuning].scratch else (SCRATCH, "long")
        yield from _seeds(scale, ABLATION_ENCODER, names, ABLATION_LABELLED, finetuning=finetuning)


def _seeds(
    scale: Scale,
    encoder: str,
    initializations: tuple[str, ...],
    labelled: int,
    *,
    finetuning: str = PLAIN,
    is_confirmation: bool = False,
    order: int = 0,  # the how-manieth set of seeds: each has others
) -> Iterator[Trial]:
    seeds = scale.confirmation_seeds if is_confirmation else scale.seeds
    for seed in (seed + order * len(seeds) for seed in seeds):
        for name in initializations:
            yield Trial(
                encoder=encoder,
                initialization=name,
                labelled=min(labelled, scale.labelled_subjects),
                seed=seed,
                finetuning=finetuning,
                is_confirmation=is_confirmation,
            )
