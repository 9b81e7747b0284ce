"""The settings of a registration training: TransMorph's with the paper's changes, checked."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from nnunet_triad.errors import UserError

Triple = tuple[int, int, int]


def _run_field(default: Any) -> Any:
    """Return a field that may change when a run continues: it does not change the result."""
    return field(default=default, metadata={"changes_result": False})


@dataclass(frozen=True, kw_only=True)
class RegistrationSettings:
    """What a training does. Batch size is 1 and the optimiser Adam with amsgrad, as in TransMorph.

    Raises:
        UserError: a value is outside its range.
    """

    # a name of `registration.networks.NETWORKS`; the paper: transmorph_l and swinunetr_b
    network: str = "transmorph_l"
    # passes over the training pairs; section 4.4.2 (TransMorph: 500)
    epochs: int = 200
    # at the start, times (1 - epoch / epochs)^0.9; section 4.4.2: 5e-5 on IXI and OASIS, 1e-4 on
    # ACDC
    learning_rate: float = 5e-5
    # share of it that the encoder gets; 1 is the paper's
    encoder_rate: float = 1.0
    # of the local cross-correlation; TransMorph
    lncc_weight: float = 1.0
    # voxels along each edge of the correlation's window, odd; TransMorph
    lncc_window: int = 9
    # of the squared gradient of the displacement; TransMorph
    gradient_weight: float = 1.0
    # of the soft Dice over all labels and the background; TransMorph: 1 on OASIS, unused on IXI
    dice_weight: float = 0.0
    # two optimiser steps a pair, the second one with the images exchanged; TransMorph on OASIS
    is_symmetric: bool = False
    # flip both images jointly along random axes; TransMorph on IXI
    has_flips: bool = True
    # the network predicts a velocity that is integrated by scaling and squaring
    is_diffeomorphic: bool = False
    # the network predicts on every other voxel: less memory and time
    is_half_resolution: bool = False
    # mm, of the grid that the network works on; None: the fixed images' own
    spacing_mm: tuple[float, float, float] | None = None
    # percentile of the intensities that becomes 1; 100: the maximum
    intensity_percentile: float = 99.9
    # what the network sees: "unit", intensities in [0, 1] as TransMorph's, or "zscore", as this
    # project's encoders were pre-trained; the losses see [0, 1]
    intensity: Literal["unit", "zscore"] = "unit"
    # of initial weights, order, partners and flips
    seed: int = 0
    # of the forward pass; weights, warps and losses stay float32
    precision: Literal["fp32", "bf16"] = "fp32"

    # cpu, cuda or mps
    device: str = _run_field("cpu")
    # processes that read pairs; 0 reads in the training process
    workers: int = _run_field(0)
    # recompute activations in the backward pass: less memory, more time
    recompute_activations: bool = _run_field(False)
    # epochs between pictures of the fixed pair
    picture_every: int = _run_field(10)

    def __post_init__(self) -> None:
        from registration.networks import network_spec  # slow to import, not for --help

        network_spec(self.network)
        for name in ("epochs", "picture_every"):
            _check(name, getattr(self, name), "a positive number", getattr(self, name) >= 1)
        for name in ("lncc_weight", "gradient_weight", "dice_weight", "workers", "seed"):
            _check(name, getattr(self, name), "zero or more", getattr(self, name) >= 0)
        window = self.lncc_window
        _check("lncc_window", window, "an odd number, 3 or more", window >= 3 and window % 2 == 1)
        for name in ("learning_rate", "encoder_rate"):
            rate = getattr(self, name)
            _check(name, rate, "a positive number", 0 < rate < float("inf"))
        share = self.intensity_percentile
        _check("intensity_percentile", share, "above 0 and at most 100", 0 < share <= 100)
        is_known = self.intensity in ("unit", "zscore")
        _check("intensity", self.intensity, "unit or zscore", is_known)
        total = self.lncc_weight + self.dice_weight
        _check("lncc_weight", self.lncc_weight, "a positive weight of a similarity", total > 0)
        _check("precision", self.precision, "fp32 or bf16", self.precision in ("fp32", "bf16"))
        _check("device", self.device, "cpu, cuda or mps", self.device in ("cpu", "cuda", "mps"))
        spacing = self.spacing_mm
        is_good = spacing is None or (len(spacing) == 3 and min(spacing) > 0)
        _check("spacing_mm", spacing, "three positive lengths", is_good)

    def learning_rate_at(self, epoch: int) -> float:
        """Return the rate of an epoch, counted from 0; TransMorph's polynomial with power 0.9."""
        return self.learning_rate * (1 - epoch / self.epochs) ** 0.9

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-able values; `from_dict` is the inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RegistrationSettings":
        """Build settings from `to_dict`'s values, a list allowed for the spacing.

        Raises:
            TypeError: a field is unknown.
            UserError: a value is outside its range.
        """
        spacing = values.get("spacing_mm")
        return cls(**{**values, "spacing_mm": tuple(spacing) if spacing else None})

    def differing_field(self, other: "RegistrationSettings") -> str | None:
        """Return the first field that would change the result, or None when there is none."""
        for item in fields(self):
            is_same = getattr(self, item.name) == getattr(other, item.name)
            if item.metadata.get("changes_result", True) and not is_same:
                return item.name
        return None


def intensity_of(source: str) -> Literal["unit", "zscore"]:
    """Return what an encoder expects to see.

    Args:
        source: the project that pre-trained it; VoCo, SuPreM and Swin UNETR scale to [0, 1], as
            TransMorph does, which is taken for any other, and for scratch.
    """
    return "zscore" if source == "triad" else "unit"


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


def _check(name: str, value: object, rule: str, is_good: bool) -> None:
    if not is_good:
        raise UserError(f"{name}: expected {rule}, got {value}")
