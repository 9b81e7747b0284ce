"""The settings of a classification: the paper's values, checked, saved beside the results."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from nnunet_triad.errors import UserError

Window = tuple[float, float]

# Section 4.3.2 of the paper, by the encoder's family; it has no ResEnc.
PAPER_EPOCHS = {"plainconv": 300, "resenc": 300, "swin": 150}

FITS = ("stretch", "pad")
INTENSITIES = ("zscore", "window")
MODES = ("finetune", "linear-probe", "knn")
LOSSES = ("cross-entropy", "weighted", "focal")
SAMPLINGS = ("natural", "balanced")
AUGMENTATIONS = ("none", "light")
SELECTIONS = ("accuracy", "balanced-accuracy", "loss")

# What the paper's datasets ask for: ADNI's size is the paper's, the rest follows from the images.
PRESETS: dict[str, dict[str, Any]] = {
    "adni": {"size": 96},
    "breastdm": {},
    "organmnist3d": {"window": (0.0, 255.0)},  # the file holds windowed CT as bytes
    "luna16": {"window": (-1000.0, 400.0), "sampling": "balanced", "samples_per_epoch": 4000},
    "lld-mmri": {},
}


@dataclass(frozen=True, kw_only=True)
class PreprocessSettings:
    """How an image of any orientation, spacing and size becomes the network's input.

    Raises:
        UserError: a value is outside its range.
    """

    # voxels along each axis; section 4.3.2: 96 for ADNI, 64 for the others
    size: int = 64
    # "stretch" fills the cube on each axis, as the paper reshapes; "pad" keeps the proportions
    fit: str = "stretch"
    # "zscore" over the volume, as at pre-training; "window" clips and scales to -1 .. 1 (CT)
    intensity: str = "zscore"
    # bounds of "window", in the image's own unit
    window: Window | None = None

    def __post_init__(self) -> None:
        rule = "a multiple of 32 (the encoders' stride), 32 or more"
        _check("size", self.size, rule, _is_32(self.size))
        _check("fit", self.fit, " or ".join(FITS), self.fit in FITS)
        _check("intensity", self.intensity, " or ".join(INTENSITIES), self.intensity in INTENSITIES)
        is_windowed = self.intensity == "window"
        is_good = self.window is not None and self.window[0] < self.window[1]
        rule = "LOW,HIGH with LOW below HIGH, as intensity is window"
        _check("window", self.window, rule, not is_windowed or is_good)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-able values; `from_dict` is the inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "PreprocessSettings":
        """Build settings from `to_dict`'s values, a list allowed for the window."""
        window = values.get("window")
        return cls(**{**values, "window": None if window is None else tuple(window)})


def _run_field(default: Any) -> Any:
    """Return a field that may change when a run continues: it does not change the result."""
    return field(default=default, metadata={"changes_result": False})


# Of a pre-trained Swin: at the paper's rate several ended far below scratch (docs/evidence).
SPARING_RATE = 0.1


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """What a run does; the defaults are the paper's (section 4.3.2), but for `encoder_rate`.

    Raises:
        UserError: a value is outside its range.
    """

    # a name of `nnunet_triad.architectures.ENCODERS`; the paper: unet (3D UNet) and swin_b
    encoder: str = "swin_b"
    # "scratch", or the path of a weights file
    init: str = "scratch"
    # what is trained: all of it, one linear layer on frozen features, or nothing (neighbours)
    mode: str = "finetune"
    preprocess: PreprocessSettings = field(default_factory=PreprocessSettings)
    # None: section 4.3.2, 150 for Swin and 300 for unet
    epochs: int | None = None
    # not stated in the paper
    batch_size: int = 8
    # Adam's, at the end of the warm-up; section 4.3.2
    learning_rate: float = 1e-3
    # share of it that the encoder gets; None: a tenth for a pre-trained Swin, else all of it, which
    # is the paper's
    encoder_rate: float | None = None
    # section 4.3.2; fewer when the run is shorter than twice as long
    warmup_epochs: int = 5
    # width between the two linear layers; None: that of the encoder's last feature (not stated)
    hidden_size: int | None = None
    # "weighted" and "focal" are what the paper's discussion asks for
    loss: str = "cross-entropy"
    # exponent of the focal loss (arXiv:1708.02002)
    focal_gamma: float = 2.0
    # "balanced" draws each class equally often, with replacement
    sampling: str = "natural"
    # training samples an epoch; None: as many as there are
    samples_per_epoch: int | None = None
    # small rotations, scalings, shifts, noise; the paper states none
    augmentation: str = "light"
    # axes that are mirrored at random, of "xyz"; none by default: left and right may be the label
    flip_axes: str = ""
    # which epoch counts as the best on validation
    select: str = "accuracy"
    # of initial weights, order and augmentation
    seed: int = 0
    # of the forward pass: fp32, or bf16 (mixed, for GPUs)
    precision: str = "fp32"

    # cpu, cuda or mps
    device: str = _run_field("cpu")
    # processes that read and augment; 0 does so in the training process
    workers: int = _run_field(0)
    # steps between checkpoints, besides the one after each epoch
    checkpoint_every: int = _run_field(500)

    def __post_init__(self) -> None:
        from nnunet_triad.architectures import encoder_spec  # slow to import, not for --help

        spec = encoder_spec(self.encoder)
        if self.epochs is None:
            object.__setattr__(self, "epochs", PAPER_EPOCHS[spec.family])
        if self.encoder_rate is None:
            is_spared = spec.family == "swin" and self.init != "scratch"
            object.__setattr__(self, "encoder_rate", SPARING_RATE if is_spared else 1.0)
        for name in ("epochs", "batch_size", "checkpoint_every"):
            _check(name, getattr(self, name), "1 or more", getattr(self, name) >= 1)
        for name in ("hidden_size", "samples_per_epoch"):
            value = getattr(self, name)
            _check(name, value, "1 or more", value is None or value >= 1)
        for name in ("warmup_epochs", "seed", "workers", "focal_gamma"):
            _check(name, getattr(self, name), "zero or more", getattr(self, name) >= 0)
        for name in ("learning_rate", "encoder_rate"):
            value = getattr(self, name)
            _check(name, value, "a positive number", 0 < value < float("inf"))
        self._check_choices()

    def _check_choices(self) -> None:
        choices = {
            "mode": MODES,
            "loss": LOSSES,
            "sampling": SAMPLINGS,
            "augmentation": AUGMENTATIONS,
            "select": SELECTIONS,
            "precision": ("fp32", "bf16"),
            "device": ("cpu", "cuda", "mps"),
        }
        for name, allowed in choices.items():
            value = getattr(self, name)
            _check(name, value, f"one of {', '.join(allowed)}", value in allowed)
        is_good = set(self.flip_axes) <= set("xyz")
        _check("flip_axes", self.flip_axes, "some of the letters x, y and z", is_good)

    @property
    def num_epochs(self) -> int:
        """The number of epochs, never None."""
        assert self.epochs is not None
        return self.epochs

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-able values; `from_dict` is the inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainSettings":
        """Build settings from `to_dict`'s values.

        Raises:
            TypeError: a field is unknown.
            UserError: a value is outside its range.
        """
        preprocess = PreprocessSettings.from_dict(values["preprocess"])
        return cls(**{**values, "preprocess": preprocess})

    def differing_field(self, other: "TrainSettings") -> str | None:
        """Return the first field that would change the result, or None when there is none."""
        for item in fields(self):
            is_same = getattr(self, item.name) == getattr(other, item.name)
            if item.metadata.get("changes_result", True) and not is_same:
                return item.name
        return None


def _is_32(size: int) -> bool:
    return size >= 32 and size % 32 == 0


def _check(name: str, value: object, rule: str, is_good: bool) -> None:
    if not is_good:
        raise UserError(f"{name}: expected {rule}, got {value}")
