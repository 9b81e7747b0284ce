"""The settings of a registration training: TransMorph's with the paper's changes, checked."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nnunet_triad.architectures.families import registration_networks
from nnunet_triad.errors import require
from nnunet_triad.training.schedule import learning_rate_at
from nnunet_triad.training.settings import (
    MAX_SEED,
    Settings,
    device_option,
    nested,
    option,
    precision_option,
    recompute_option,
    workers_option,
)
from nnunet_triad.weights.origins import ZSCORE


@dataclass(frozen=True, kw_only=True)
class RegistrationSettings(Settings):
    """What a training does. Batch size is 1 and the optimiser Adam with amsgrad, as in TransMorph.

    Raises:
        UserError: a value is outside its range.
    """

    network: str = option(
        "transmorph_l",
        f"{', '.join(registration_networks())}.",
        source="the paper: transmorph_l, swinunetr_b",
    )
    epochs: int = option(
        200,
        "Passes over the training pairs.",
        source="section 4.4.2; TransMorph: 500",
        low=1,
        high=10**6,
    )
    learning_rate: float = option(
        5e-5,
        "At the start.",
        source="section 4.4.2",
        above=0,
        high=10,
        show_default="5e-5; acdc: 1e-4",
    )
    encoder_rate: float = option(
        1.0, "Share of it for the encoder.", source="the paper: 1", above=0, high=1000
    )
    lncc_weight: float = option(
        1.0, "Of the local cross-correlation.", source="TransMorph", low=0, high=10**6
    )
    lncc_window: int = option(
        9,
        "Voxels along each edge of its window; less for coarse images.",
        source="TransMorph",
        low=3,
        high=101,
    )
    gradient_weight: float = option(
        1.0, "Of the displacement's squared gradient.", source="TransMorph", low=0, high=10**6
    )
    dice_weight: float = option(
        0.0,
        "Of the soft Dice over all labels and the background.",
        source="TransMorph",
        low=0,
        high=10**6,
        show_default="0; oasis: 1",
    )
    losses: tuple[str, ...] = option(
        (), help="Further ones of registration/losses, as NAME=WEIGHT,...", show_default="none"
    )
    is_symmetric: bool = option(
        False,
        "Two steps a pair, both directions.",
        source="TransMorph",
        show_default="no; oasis: yes",
    )
    has_flips: bool = option(
        True, "Flip both images at random.", source="TransMorph", show_default="yes; oasis: no"
    )
    is_diffeomorphic: bool = option(
        False, "Predict a velocity field and integrate it.", flag="--diffeomorphic"
    )
    is_half_resolution: bool = option(
        False, "Predict every other voxel: less memory.", flag="--half-resolution"
    )
    spacing_mm: tuple[float, float, float] | None = option(
        None,
        "Of the network's grid: one number or x,y,z.",
        unit="mm",
        low=0.05,
        high=100,
        flag="--spacing",
        show_default="the fixed images' own",
    )
    intensity_percentile: float = option(
        99.9, "Percentile of the intensities that becomes 1.", above=0, high=100
    )
    # What the network sees: intensities in [0, 1] as TransMorph's, or as this project's encoders
    # were pre-trained; the losses see [0, 1]. The command chooses by the weights.
    intensity: Literal["unit", "zscore"] = option("unit")
    seed: int = option(0, "Of weights, order, partners and flips.", low=0, high=MAX_SEED)
    precision: str = precision_option(("fp32", "bf16"))
    device: str = device_option()
    workers: int = workers_option("read pairs")
    recompute_activations: bool | None = recompute_option()
    picture_every: int = option(10, "Epochs between pictures.", low=1, changes_result=False)

    def __post_init__(self) -> None:
        # Slow to import, not for --help.
        from registration.losses import all_losses
        from registration.networks import network_spec

        super().__post_init__()
        self._fill_precision()
        network_spec(self.network)
        require("lncc_window", self.lncc_window, "an odd number", self.lncc_window % 2 == 1)
        names = [loss.name for loss in all_losses() if not loss.option]
        rule = f"NAME=WEIGHT with a name of {', '.join(names) or 'none'}, and a number to 10^6"
        for one in self.losses:
            name, _, weight = one.partition("=")
            is_number = re.fullmatch(r"\d+(\.\d*)?(e-?\d+)?", weight) is not None
            is_good = name in names and is_number and float(weight) <= 10**6
            require("losses", one, rule, is_good)
        is_good = len(self.further_losses) == len(self.losses)
        require("losses", ",".join(self.losses), "each of them once", is_good)
        total = sum(loss.weight(self) for loss in all_losses() if loss.kind != "regulariser")
        require("lncc_weight", self.lncc_weight, "a positive weight of a similarity", total > 0)

    @property
    def needs_labels(self) -> bool:
        """Whether a loss that is on compares labels."""
        from registration.losses import all_losses

        return any(loss.kind == "labels" and loss.weight(self) > 0 for loss in all_losses())

    @property
    def further_losses(self) -> dict[str, float]:
        """Weight by name of `losses`."""
        parts = (one.partition("=") for one in self.losses)
        return {name: float(weight) for name, _, weight in parts}

    def learning_rate_at(self, epoch: int) -> float:
        """Return the rate of an epoch, counted from 0; TransMorph's polynomial with power 0.9."""
        return learning_rate_at(
            epoch, peak=self.learning_rate, warmup_steps=0, steps=self.epochs, decay="polynomial"
        )


@dataclass(frozen=True, kw_only=True)
class AlignSettings(Settings):
    """What is done beside the network's own prediction, and where."""

    affine: str = option(
        "none", "Alignment beforehand: {choices}.", choices=("none", "moments", "rigid", "affine")
    )
    refine: int = option(0, "Steps of instance optimisation for each pair.", low=0, high=10**6)
    device: str = device_option()


@dataclass(frozen=True, kw_only=True)
class ApplySettings(Settings):
    """How two images are registered, and what is written.

    Raises:
        UserError: a value is outside its range, or lacks another that it needs.
    """

    model: Path | None = option(
        None,
        "Folder of a training, or its model.safetensors; without it the field is optimised for "
        "the pair.",
    )
    output: Path = option(..., "Warped image, on the fixed image's grid.", flag="--output -o")
    displacement: Path | None = option(
        None, "Write the whole transform: ITK's displacement field, mm."
    )
    has_inverse: bool = option(False, "Write the inverse field, too (_inverse).", flag="--inverse")
    labels: Path | None = option(None, "Labels of the moving image, to be warped (_labels).")
    fixed_labels: Path | None = option(
        None, "Labels of the fixed image: report Dice before and after."
    )
    points: Path | None = option(None, "CSV with x,y,z in mm in the moving image (_points).")
    points_world: str = option(
        "auto",
        "Their world: {choices}; auto is RAS, and refuses a column t, as ANTs' (LPS) has.",
        choices=("auto", "ras", "lps"),
    )
    has_picture: bool = option(True, "Draw checkerboard, differences and deformed grid (.png).")
    similarity: str = option(
        "lncc",
        "Without a model: lncc, local correlation, or mind, descriptors of the neighbourhood.",
        choices=("lncc", "mind"),
    )
    features: str | None = option(
        None, "Without a model: weights of an encoder whose feature maps are compared, too."
    )
    has_deformation: bool = option(True, "Without a model: deform after the alignment.")
    align: AlignSettings = nested(AlignSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model is None:
            require("refine", self.align.refine, "0 without --model", self.align.refine == 0)
        else:
            has_own = self.similarity == "lncc" and self.features is None and self.has_deformation
            rule = "no --similarity, --features or --no-deformation beside it"
            require("model", self.model, rule, has_own)
        is_good = self.displacement is not None or not self.has_inverse
        require("inverse", "none", "--displacement FIELD beside it", is_good)
        is_good = self.labels is not None or self.fixed_labels is None
        require("fixed-labels", "none", "--labels LABELS beside it", is_good)


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(Settings):
    """Which methods are scored on which pairs."""

    output: Path = option(..., "Results table (CSV); rows are appended.", flag="--output -o")
    model: tuple[Path, ...] = option(
        (), "Folder of a training; may be given several times.", is_repeated=True
    )
    reference: tuple[str, ...] = option(
        (), "before, moments, rigid, affine, syn, unigradicon; several times.", is_repeated=True
    )
    split: str = option("test", "{choices}.", choices=("train", "val", "test"))
    labels: str | None = option(None, "Label set: ixi, oasis, acdc or a JSON file.")
    dataset: str | None = option(None, "Its name in the table.", show_default="the manifest's name")
    align: AlignSettings = nested(AlignSettings)


def intensity_of(seen: str) -> Literal["unit", "zscore"]:
    """Return what an encoder expects to see.

    Args:
        seen: `WeightsInfo.intensity_normalization`; what is not known to be z-scored is taken to
            be in [0, 1], as with TransMorph.
    """
    return "zscore" if seen == ZSCORE else "unit"


# What differs from the defaults on the paper's datasets.
PRESETS: dict[str, dict[str, Any]] = {
    "ixi": {"learning_rate": 5e-5, "has_flips": True},
    "oasis": {
        "learning_rate": 5e-5,
        "dice_weight": 1.0,
        "is_symmetric": True,
        "has_flips": False,
    },
    "acdc": {"learning_rate": 1e-4, "has_flips": True},
}
