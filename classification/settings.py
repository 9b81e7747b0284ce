"""The settings of a classification: the paper's values, checked, saved beside the results."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_triad.architectures import ENCODERS, encoder_spec, family_of
from nnunet_triad.errors import require
from nnunet_triad.training.settings import (
    INIT_HELP,
    MAX_SEED,
    Settings,
    device_option,
    nested,
    option,
    precision_option,
    recompute_option,
    workers_option,
)

Window = tuple[float, float]

# What the paper's datasets ask for: ADNI's size is the paper's, the rest follows from the images.
PRESETS: dict[str, dict[str, Any]] = {
    "adni": {"size": 96},
    "breastdm": {},
    "organmnist3d": {"window": (0.0, 255.0)},  # the file holds windowed CT as bytes
    "luna16": {"window": (-1000.0, 400.0), "sampling": "balanced", "samples_per_epoch": 4000},
    "lld-mmri": {},
}

MIN_WINDOW = 1e-3  # narrower ones hold no image


@dataclass(frozen=True, kw_only=True)
class PreprocessSettings(Settings):
    """How an image of any orientation, spacing and size becomes the network's input.

    Raises:
        UserError: a value is outside its range.
    """

    size: int = option(
        64,
        "Voxels along each axis.",
        source="section 4.3.2",
        low=32,
        high=1024,
        show_default="64; adni: 96",
    )
    fit: str = option(
        "stretch",
        "{choices} (keeps the proportions) to the cube.",
        source="the paper: stretch",
        choices=("stretch", "pad"),
    )
    # over the volume, as at pre-training, or clipped to the window and scaled to -1 .. 1 (CT)
    intensity: str = option(None, choices=("zscore", "window"))
    window: Window | None = option(
        None,
        "LOW,HIGH for CT, as -1000,400, in the image's own unit.",
        low=-(10**6),
        high=10**6,
        show_default="z-score, for MRI",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._fill(intensity="zscore" if self.window is None else "window")
        rule = "a multiple of 32 (the encoders' stride)"
        require("size", self.size, rule, self.size % 32 == 0)
        is_good = self.window is not None and self.window[1] - self.window[0] >= MIN_WINDOW
        rule = f"LOW,HIGH with LOW at least {MIN_WINDOW:g} below HIGH, as intensity is window"
        require("window", self.window, rule, self.intensity != "window" or is_good)


@dataclass(frozen=True, kw_only=True)
class TrainSettings(Settings):
    """What a run does; the defaults are the paper's (section 4.3.2), but for `encoder_rate`.

    Raises:
        UserError: a value is outside its range.
    """

    encoder: str = option("swin_b", f"{', '.join(ENCODERS)}.", source="the paper: unet, swin_b")
    # Its file's hash changes the result, wherever the file lies.
    init: str = option("scratch", INIT_HELP, changes_result=False)
    map_intensity: bool = option(
        True, "Fold the scale of intensities that the weights saw into the first layer."
    )
    # all of it, one linear layer on frozen features, or nothing (neighbours)
    mode: str = option("finetune", "{choices}.", choices=("finetune", "linear-probe", "knn"))
    preprocess: PreprocessSettings = nested(PreprocessSettings)
    epochs: int = option(
        None,
        "Epochs.",
        source="section 4.3.2",
        low=1,
        high=10**6,
        show_default="150 for Swin, 300 for unet",
    )
    batch_size: int = option(
        8, "Samples a step.", source="not stated in the paper", low=1, high=2**16
    )
    learning_rate: float = option(
        1e-3, "Adam's, after the warm-up.", source="section 4.3.2", above=0, high=10
    )
    encoder_rate: float = option(
        None,
        "Share of it for the encoder.",
        above=0,
        high=1000,
        show_default="0.1 for a pre-trained Swin, else 1; the paper: 1",
    )
    warmup_epochs: int = option(
        5,
        "Epochs over which the learning rate rises; at most half of them.",
        source="section 4.3.2",
        low=0,
    )
    hidden_size: int | None = option(
        None,
        "Width between the linear layers.",
        source="not stated in the paper",
        low=1,
        high=2**16,
        show_default="that of the features",
    )
    loss: str = option(
        "cross-entropy",
        "{choices}.",
        source="the paper's discussion asks for the others",
        choices=("cross-entropy", "weighted", "focal"),
    )
    focal_gamma: float = option(
        2.0, "Exponent of the focal loss.", source="arXiv:1708.02002", low=0, high=100
    )
    sampling: str = option(
        "natural",
        "{choices} (each class equally often, with replacement).",
        choices=("natural", "balanced"),
        show_default="natural; luna16: balanced",
    )
    samples_per_epoch: int | None = option(
        None, "Training samples an epoch.", low=1, high=10**9, show_default="all of them"
    )
    augmentation: str = option(
        "light",
        "{choices}: small rotations, scalings, shifts, noise.",
        source="the paper states none",
        choices=("none", "light"),
    )
    flip_axes: str = option(
        "", "Axes to mirror at random, as xyz; not where the side is the label."
    )
    select: str = option(
        "accuracy",
        "Best epoch by: {choices} on validation.",
        choices=("accuracy", "balanced-accuracy", "loss"),
    )
    seed: int = option(0, "Of weights, order, augmentation.", low=0, high=MAX_SEED)
    precision: str = precision_option(("fp32", "bf16"))
    device: str = device_option()
    workers: int = workers_option("read and preprocess")
    recompute_activations: bool | None = recompute_option("Swin and Primus")
    # steps between checkpoints, besides the one after each epoch
    checkpoint_every: int = option(500, low=1, changes_result=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._fill_precision()
        family = family_of(encoder_spec(self.encoder))
        rate = 1.0 if self.init == "scratch" else family.pretrained_encoder_rate
        self._fill(epochs=family.epochs, encoder_rate=rate)
        axes = set(self.flip_axes)
        is_good = axes <= set("xyz") and len(axes) == len(self.flip_axes)
        require("flip_axes", self.flip_axes, "some of the letters x, y and z, each once", is_good)


@dataclass(frozen=True, kw_only=True)
class PrepareOptions(Settings):
    """Options of `triad-classify prepare`; each reader uses those that concern it.

    Raises:
        UserError: a value is outside its range.
    """

    split_ids: Path | None = option(
        None, "ADNI: CSV with Image Data ID,split, instead of a split by subject."
    )
    sequences: tuple[str, ...] | None = option(
        None, "BreastDM and LLD-MMRI: channels, as VIBRANT,SUB2.", show_default="per dataset"
    )
    extent_mm: float = option(
        64.0, "LUNA16: edge of the cube around a candidate.", unit="mm", above=0, high=4000
    )
    skull_strip: str = option(
        "none",
        "ADNI: none, plain (threshold and morphology), or nppy.",
        choices=("none", "plain", "nppy"),
    )
    nppy_weights: Path | None = option(None, "NPPY's npp_v1.pth; needed by --skull-strip nppy.")
    nppy_python: Path = option(
        Path(sys.executable), "Python that has nppy installed.", show_default="this one"
    )
    seed: int = option(0, "Of splits that are not published.", low=0, high=MAX_SEED)

    def __post_init__(self) -> None:
        super().__post_init__()
        is_good = self.skull_strip != "nppy" or self.nppy_weights is not None
        require("nppy_weights", self.nppy_weights, "the path of npp_v1.pth", is_good)
