"""The studies as data: what is simulated, what is pre-trained, and how networks are trained."""

from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

from nnunet_triad.architectures.families import registration_networks
from nnunet_triad.trainers.recipe import Recipe
from nnunet_triad.trainers.suffixes import SUFFIXES

SCRATCH = "scratch"
REAL = "hippocampi"  # the 260 labelled volumes of MSD's hippocampus task, the paper's dataset 513
Triple = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How long networks are fine-tuned, and what everything else is cut down to."""

    patch_size: int = 32
    batch_size: int = 2
    iterations: int = 120
    measured_at: tuple[int, ...] = (30, 60, 90, 120)
    num_seeds: int = 5
    most_steps: float = inf
    most_epochs: float = inf
    most_voxels: float = inf  # along an axis of a store
    least_spacing_mm: float = 0
    is_smoke: bool = False


SCALES = {
    "full": Scale(),
    # Seconds, to see that it runs; its figures say nothing.
    "smoke": Scale(
        patch_size=16,
        iterations=2,
        measured_at=(1, 2),
        num_seeds=2,
        most_steps=2,
        most_epochs=1,
        most_voxels=32,
        least_spacing_mm=8,
        is_smoke=True,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Images:
    """What is simulated for a pre-training, and the store that it is curated to.

    Populations of different seeds share no subject but the template. Of the real hippocampi those
    are taken, without labels, that fold 0 trains on.
    """

    subjects: int = 24
    seed: int = 101
    spacing_mm: float = 3.0
    shape: Triple = (64, 72, 64)
    anatomy: str = "brain"
    sequences: str = "T1w,T2w,FLAIR"  # "": three at random
    curation: tuple[str, ...] = ("--max-spacing-mm", "inf")
    has_shuffled_texts: bool = False
    is_randomised: bool = False  # contrasts, regions and artefacts at random, of no sequence
    is_real: bool = False

    @property
    def name(self) -> str:
        """Of its folder."""
        if self.is_real:
            return REAL
        shape = "x".join(map(str, self.shape))
        shuffled = "-shuffled" if self.has_shuffled_texts else ""
        contrasts = "random" if self.is_randomised else self.sequences or "mixed"
        words = f"{self.anatomy}-{contrasts}-{self.subjects}-seed{self.seed}"
        return f"{words}-{self.spacing_mm:g}mm-{shape}{shuffled}".replace(",", "_")

    def at(self, scale: Scale) -> "Images":
        """Return them cut down."""
        if not scale.is_smoke:
            return self
        x, y, z = (int(min(n, scale.most_voxels)) for n in self.shape)
        return replace(self, subjects=3, shape=(x, y, z), spacing_mm=scale.least_spacing_mm)


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """One pre-training: its images, and the options of `triad-pretrain`."""

    title: str
    options: tuple[object, ...] = ()
    images: Images = field(default_factory=Images)
    steps: int = 200
    warmup_steps: int | None = None  # None: a tenth
    batch_size: int = 3
    crop_size: Triple = (64, 32, 32)
    learning_rate: float = 1e-3
    seed: int = 0  # of weights, crops, flips and masks
    repeats: str = ""  # the pre-training that this one repeats with another seed


_PAPER, _MASKED = ("--recipe", "paper"), ("--recipe", "masked")
_LONG = 1000


def _masked(title: str, *options: object, images: Images | None = None) -> Pretraining:
    """Return a variant of the masked recipe."""
    return Pretraining(
        title=f"masked, {title}", options=(*_MASKED, *options), images=images or Images()
    )


def _on_small_images(network: str, title: str, options: tuple[str, ...], steps: int) -> Pretraining:
    """Return a pre-training at the resolution of the images that are classified."""
    # a Swin's bottleneck needs two voxels along an axis
    shape, crop = ((64, 40, 36), (64, 32, 32)) if network == "swin_t" else ((36, 40, 36), (32,) * 3)
    return Pretraining(
        title=f"{title}, at 6 mm",
        options=(*options, "--precision", "bf16"),
        images=Images(subjects=60, seed=11, spacing_mm=6.0, shape=shape, sequences=""),
        steps=steps,
        warmup_steps=max(15, steps // 10),
        batch_size=8,
        crop_size=crop,
    )


_HIPPOCAMPI = Images(is_real=True)
_RANDOM_BRAINS = Images(
    subjects=25, seed=81, spacing_mm=2.0, shape=(80, 96, 80), is_randomised=True, curation=()
)


def _small_volumes(
    title: str, network: str, options: tuple[object, ...], **more: Any
) -> Pretraining:
    """Return a pre-training on crops as small as the real volumes."""
    is_swin = network.startswith("swin")
    made: dict[str, Any] = {
        "images": _HIPPOCAMPI,
        "steps": 1500,
        "warmup_steps": 100,
        "batch_size": 4,
        # a Swin's bottleneck needs two voxels along an axis
        "crop_size": (32, 64, 32) if is_swin else (32, 48, 32),
        "learning_rate": 5e-4 if is_swin else 1e-3,
    }
    return Pretraining(title=title, options=options, **{**made, **more})


_SPARK = ("--objective", "spark", "--optimizer", "adamw")
_SIMMIM = ("--objective", "simmim")

PRETRAININGS: dict[str, Pretraining] = {
    "paper": Pretraining(title="the paper's: no mask, no skips", options=_PAPER),
    "masked": Pretraining(title="masked recipe: 60 % hidden, skips", options=_MASKED),
    "mask-only": _masked("without skips", "--no-skips"),
    "other-contrast": _masked("T2w and FLAIR only", images=Images(sequences="T2w,FLAIR")),
    # These anatomies have no FLAIR; three sequences at random are what they offer.
    "other-anatomy": _masked(
        "pelvis and breast", images=Images(anatomy="pelvis,breast", sequences="")
    ),
    "no-text": _masked("reconstruction alone (weight 0)", "--log-ratio-weight", 0),
    "text-0.001": _masked("log-ratio x 0.001", "--log-ratio-weight", 0.001),
    "text-0.1": _masked("log-ratio x 0.1", "--log-ratio-weight", 0.1),
    "text-alone": Pretraining(
        title="log-ratio alone, no mask, no skips",
        options=(*_PAPER, "--reconstruction-weight", 0, "--log-ratio-weight", 1),
    ),
    "shuffled-text": _masked("texts shuffled", images=Images(has_shuffled_texts=True)),
    "narrow-decoder": _masked("decoder at half the width", "--decoder-width", 0.5),
    "wide-decoder": _masked("decoder at twice the width", "--decoder-width", 2),
    "multi-scale": _masked("L1 at three scales", "--reconstruction-scales", 3),
    "fewer-images": _masked("a quarter of the subjects", images=Images(subjects=6)),
    "longer": replace(_masked("twice the steps"), steps=400),
    "long": replace(_masked("five times the steps"), steps=_LONG),
    "paper-long": Pretraining(
        title="the paper's, five times the steps", options=_PAPER, steps=_LONG
    ),
    # Swin-T's bottleneck collapses at the rate of the others; see docs/evidence.
    "low-rate": replace(
        _masked("five times the steps, rate 1e-4"), steps=_LONG, learning_rate=1e-4
    ),
    **{
        f"long-seed{seed}": replace(
            _masked(f"five times the steps, seed {seed}"), steps=_LONG, seed=seed, repeats="long"
        )
        for seed in (1, 2)
    },
    **{
        f"{name}-{network}": _on_small_images(network, title, options, steps)
        for network in ("swin_t", "unet_4")
        for name, title, options, steps in (
            ("small-paper", "the paper's", _PAPER, 100),
            ("small-masked", "masked", _MASKED, 100),
        )
    },
    "small-long-unet_4": _on_small_images("unet_4", "masked, ten times the steps", _MASKED, _LONG),
    # The box of its crops is that of nnU-Net's patches, whose axes are z y x.
    "stretched": Pretraining(
        title="masked, on a store that stretches z",
        options=(*_MASKED, "--log-ratio-weight", 0),
        images=Images(seed=31, spacing_mm=4.0, shape=(64, 64, 32)),
        steps=600,
        crop_size=(32, 64, 32),
    ),
    "real-spark": _small_volumes("spark on 208 hippocampi", "unet_4", _SPARK),
    **{
        f"real-spark-seed{seed}": _small_volumes(
            f"spark on 208 hippocampi, seed {seed}",
            "unet_4",
            _SPARK,
            seed=seed,
            repeats="real-spark",
        )
        for seed in (1, 2)
    },
    "real-masked": _small_volumes(
        "masked on 208 hippocampi",
        "unet_4",
        ("--objective", "masked", "--optimizer", "adamw"),
    ),
    "random-spark": _small_volumes(
        "spark on 24 brains of random contrast", "unet_4", _SPARK, images=_RANDOM_BRAINS
    ),
    "real-spark-swin_t": _small_volumes("spark on 208 hippocampi", "swin_t", _SPARK),
    "real-spark-long-swin_t": _small_volumes("spark, 5,000 steps", "swin_t", _SPARK, steps=5000),
    "real-spark-swin_t_gn": _small_volumes("spark on 208 hippocampi", "swin_t_gn", _SPARK),
    "real-simmim-swin_t": _small_volumes("simmim on 208 hippocampi", "swin_t", _SIMMIM),
    "real-simmim-long-swin_t": _small_volumes(
        "simmim, blocks of 8, 4,000 steps",
        "swin_t",
        (*_SIMMIM, "--mask-block", 8),
        steps=4000,
        warmup_steps=200,
    ),
    "real-mae-swin_t": _small_volumes(
        "mae, blocks of 8, skips, 4,000 steps",
        "swin_t",
        ("--objective", "mae", "--mask-block", 8, "--skips"),
        steps=4000,
        warmup_steps=200,
    ),
    "small-brains": Pretraining(
        title="masked, reconstruction alone, at 6 mm",
        options=(*_MASKED, "--log-ratio-weight", 0),
        images=Images(
            subjects=40,
            seed=21,
            spacing_mm=6.0,
            shape=(32, 40, 32),
            sequences="",
            curation=("--max-spacing-mm", "13", "--organ", "brain"),
        ),
        steps=300,
        warmup_steps=40,
        batch_size=4,
        crop_size=(32, 64, 32),
        learning_rate=2e-3,
    ),
}
REPEATS = tuple(name for name, made in PRETRAININGS.items() if made.repeats == "long")
# The others are compared at one setting alone.
MAIN = ("paper", "masked", "paper-long", "long", "low-rate")


@dataclass(frozen=True, kw_only=True)
class Data:
    """Simulated subjects for one task."""

    task: str
    title: str
    seed: int
    spacing_mm: float
    subjects: int
    test_subjects: int = 0  # of segmentation; else the other parts' rest
    kind: str = ""  # of classification: what is to be told
    parts: tuple[int, int] = (60, 20)  # of classification: training, validation
    # class -> subjects in training, validation and test, where some are rare
    counts: dict[str, Triple] | None = None
    options: tuple[str, ...] = ()  # of the training's command
    passes: int | None = None  # over the training part; None: as `tasks` has it
    is_own_alignment: bool = False  # of registration: by `triad-register`'s, not by construction
    # of segmentation: thick slices, which nnU-Net preprocesses and trains on; None: neither
    slice_mm: float | None = None
    is_real: bool = False  # of the hippocampi
    # of their segmentation: every second case of fold 0, from the first or the second one on;
    # None: all of them
    half: int | None = None
    epochs: tuple[int, int] = (4, 20)  # inside nnU-Net, and the iterations of each

    @property
    def is_inside(self) -> bool:
        """Whether nnU-Net itself trains."""
        return self.slice_mm is not None or (self.is_real and self.task == "segmentation")

    @property
    def measure(self) -> str:
        """The metric by which trials are compared: a row a case (and label)."""
        if self.task == "classification":
            return "correct"
        return "dice" if self.task == "segmentation" or self.is_real else "endpoint_error_mm"

    def at(self, scale: Scale) -> "Data":
        """Return them cut down."""
        if not scale.is_smoke:
            return self
        return replace(
            self,
            spacing_mm=scale.least_spacing_mm,
            slice_mm=self.slice_mm and 1.6 * scale.least_spacing_mm,
            subjects={"segmentation": 3, "classification": 25, "registration": 6}[self.task],
            test_subjects=min(2, self.test_subjects),
            parts=(10, 5),
            epochs=(2, 1),
            counts=self.counts and dict.fromkeys(self.counts, (2, 1, 2)),
        )


def _small_brains(kind: str) -> Data:
    return Data(
        task="classification",
        title=f"phantoms: {kind}",
        kind=kind,
        seed=21,
        spacing_mm=6.0,
        subjects=160,
        options=("--precision", "bf16"),
    )


RARE_COUNTS: dict[str, Triple] = {"T1w": (35, 10, 25), "T1ce": (10, 3, 25), "PDw": (5, 2, 25)}
DATA: dict[str, Data] = {
    # the first is the template, which is left out
    "brains": Data(
        task="segmentation", title="", seed=202, spacing_mm=3.0, subjects=32, test_subjects=10
    ),
    # that no choice was made on
    "new-brains": Data(
        task="segmentation", title="new", seed=303, spacing_mm=3.0, subjects=32, test_subjects=10
    ),
    # for nnU-Net, with axes that differ in scale about as those of the "stretched" store
    "thick-slices": Data(
        task="segmentation",
        title="inside nnU-Net",
        seed=404,
        spacing_mm=4.0,
        slice_mm=6.5,
        subjects=16,
        test_subjects=8,
    ),
    **{
        f"{REAL}-{name}": Data(
            task="segmentation",
            title=f"real hippocampi, {title}",
            seed=0,
            spacing_mm=1.0,
            subjects=208 if half is None else 104,
            is_real=True,
            half=half,
            epochs=(5, 30),
        )
        for half, name, title in (
            (0, "first", "first half"),
            (1, "second", "second half"),
            (None, "all", "both halves"),
        )
    },
    f"{REAL}-size": Data(
        task="classification",
        title="real hippocampi: tertile of the volume",
        seed=0,
        spacing_mm=1.0,
        subjects=260,
        is_real=True,
        passes=12,
    ),
    f"{REAL}-pairs": Data(
        task="registration",
        title="real hippocampi: between subjects",
        seed=0,
        spacing_mm=1.25,
        subjects=124,
        is_real=True,
        passes=8,
    ),
    "sequences": Data(
        task="classification",
        title="classification",
        kind="sequence",
        seed=505,
        spacing_mm=6.0,
        subjects=160,
    ),
    "aligned-brains": Data(
        task="registration",
        title="registration",
        seed=404,
        spacing_mm=6.5,  # a brain and its margin in 32 voxels
        subjects=100,  # the atlas; of the others three fifths are for training
    ),
    **{kind: _small_brains(kind) for kind in ("sequence", "lesion", "ventricles")},
    "rare": replace(_small_brains("sequence"), seed=22, subjects=350, counts=RARE_COUNTS),
    "atlas": Data(
        task="registration",
        title="phantoms: registration",
        seed=7,
        spacing_mm=5.0,
        subjects=100,
        is_own_alignment=True,
    ),
}
TASKS = tuple(dict.fromkeys(data.task for data in DATA.values()))


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a network is trained from its first weights."""

    title: str
    suffixes: tuple[str, ...] = ()  # of segmentation: those of the trainers' names, see `SUFFIXES`
    has_warmup: bool = True  # as the suffixes say; False: none
    # levels of the encoder that get pre-trained values, 0 the finest; None: all
    levels: tuple[int, ...] | None = None
    options: tuple[object, ...] = ()  # of the other tasks' commands
    scratch: str = ""  # the training whose scratch stands beside it; "": its own
    # inside nnU-Net: the axes that the weights claim to have seen; "": those that they saw
    claimed_axes: str = ""
    # inside nnU-Net: epochs and iterations of each, and the learning rate; None: as data, suffixes
    epochs: tuple[int, int] | None = None
    learning_rate: float | None = None

    @property
    def settings(self) -> dict[str, float]:
        """The trainers' initial_lr and weight_decay."""
        names = ("initial_lr", "weight_decay")
        merged = SUFFIXES["paper"].settings
        for suffix in self.suffixes:
            merged = merged | SUFFIXES[suffix].settings
        return {name: merged[name] for name in names}

    @property
    def recipe(self) -> Recipe:
        """The trainers' recipe."""
        merged: dict = {}
        for suffix in self.suffixes:
            merged |= SUFFIXES[suffix].recipe_fields
        return Recipe(**merged if self.has_warmup else {**merged, "warmup_share": 0.0})


PLAIN, FINETUNE = "adamw", "finetune"
INSIDE, EXCHANGED = "nnunet", "nnunet-exchanged"
REAL_TUNING, REAL_LAYERWISE = "nnunet-adamw", "nnunet-adamw-llrd"
REAL_LONG, REAL_LOW = "nnunet-adamw-long", "nnunet-adamw-long-low"
REAL_EXCHANGED = "nnunet-adamw-exchanged"
_TWICE = (5, 60)
PROBE = "linear-probe"
SLOW_ENCODER = "slow-encoder"
REFERENCES = "references"
_WHOLE_RATE = ("--encoder-rate", 1)  # the paper's
TRAININGS: dict[str, Training] = {
    PLAIN: Training(title="adamw", suffixes=("demo",)),
    "sgd": Training(title="sgd", suffixes=("warmup",)),
    "adamw-flat": Training(title="adamw, no warm-up", suffixes=("demo",), has_warmup=False),
    "adamw-sawtooth": Training(title="adamw, sawtooth", suffixes=("demo", "sawtooth")),
    "adamw-llrd": Training(title="adamw, layer-wise rates", suffixes=("demo", "llrd")),
    "adamw-frozen": Training(
        title="adamw, encoder frozen", suffixes=("demo", "frozen"), scratch=PLAIN
    ),
    "adamw-fine": Training(
        title="adamw, two finest levels alone", suffixes=("demo",), levels=(0, 1), scratch=PLAIN
    ),
    "adamw-coarse": Training(
        title="adamw, two coarsest levels alone", suffixes=("demo",), levels=(2, 3), scratch=PLAIN
    ),
    INSIDE: Training(title="axes as pre-trained", suffixes=("demo",)),
    REAL_TUNING: Training(title="adamw", suffixes=("demo",)),
    REAL_LAYERWISE: Training(title="adamw, layer-wise rates", suffixes=("demo", "llrd")),
    REAL_LONG: Training(title="adamw, 300 iterations", suffixes=("demo",), epochs=_TWICE),
    REAL_LOW: Training(
        title="adamw at 3e-4, 300 iterations",
        suffixes=("demo",),
        epochs=_TWICE,
        learning_rate=3e-4,
    ),
    REAL_EXCHANGED: Training(
        title="adamw, axes exchanged", suffixes=("demo",), scratch=REAL_TUNING, claimed_axes="zyx"
    ),
    EXCHANGED: Training(
        title="axes exchanged", suffixes=("demo",), scratch=INSIDE, claimed_axes="zyx"
    ),
    FINETUNE: Training(title="fine-tuned", options=_WHOLE_RATE),
    PROBE: Training(title="frozen", options=(*_WHOLE_RATE, "--mode", PROBE)),
    SLOW_ENCODER: Training(title="at a tenth of the rate", options=("--encoder-rate", 0.1)),
    "balanced-sampling": Training(
        title="balanced sampling", options=(*_WHOLE_RATE, "--sampling", "balanced")
    ),
    "weighted-loss": Training(title="weighted loss", options=(*_WHOLE_RATE, "--loss", "weighted")),
    "focal-loss": Training(title="focal loss", options=(*_WHOLE_RATE, "--loss", "focal")),
    REFERENCES: Training(title="no training"),  # of registration: what needs none
}
REMEDIES = ("balanced-sampling", "weighted-loss", "focal-loss")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training and its test."""

    data: str  # a name of DATA
    network: str
    initialization: str = SCRATCH  # or a name of PRETRAININGS
    labelled: int = 0  # labelled subjects that are drawn; 0: all
    training: str  # a name of TRAININGS
    seed: int  # of segmentation which subjects, too; initial weights, order

    @property
    def task(self) -> str:
        """Which of `TASKS`."""
        return DATA[self.data].task

    @property
    def encoder(self) -> str:
        """What is pre-trained."""
        networks = registration_networks()
        return networks[self.network][1] if self.network in networks else self.network

    @property
    def key(self) -> str:
        """Of its file."""
        labelled = f"-n{self.labelled}" if self.labelled else ""
        return (
            f"{self.data}-{self.network}-{self.initialization}{labelled}-{self.training}"
            f"-seed{self.seed}"
        )
