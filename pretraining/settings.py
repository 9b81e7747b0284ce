"""The settings of a pre-training run: the paper's values, checked, and saved beside its results."""

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from nnunet_triad.errors import UserError

Triple = tuple[int, int, int]

MASK_BLOCK = 8  # voxels along each edge of a masked block
PAPERS_WARMUP = 1_000  # steps; section 4.5

# Encoders whose activations at 96^3 are recomputed unless told otherwise, to fit on a GPU.
LARGE_ENCODERS = ("swin_l", "swin_h")

# Table 3 of the paper, by the encoder's family.
LEARNING_RATES = {"plainconv": 1e-4, "resenc": 1e-4, "swin": 1e-6}

# What the input hides and what the decoder sees. "masked" is ours: see docs/evidence.
RECIPES: dict[str, dict[str, Any]] = {
    "paper": {"mask_ratio": 0.0, "has_skips": False},
    "masked": {"mask_ratio": 0.6, "has_skips": True},
}


def _run_field(default: Any) -> Any:
    """Return a field that may change when a run continues: it does not change the result."""
    return field(default=default, metadata={"changes_result": False})


@dataclass(frozen=True, kw_only=True)
class PretrainSettings:
    """What a pre-training run does; the defaults are the paper's (section 4.5 and Table 3).

    Raises:
        UserError: a value is outside its range, or does not fit the encoder.
    """

    # a name of `nnunet_triad.architectures.ENCODERS`; the paper trains unet, swin_b, _l and _h
    encoder: str = "swin_b"
    # optimiser steps; section 4.5
    steps: int = 200_000
    # crops a step, over all processes together; section 4.5
    batch_size: int = 8
    # voxels, x y z; Table 3, "Roi x,y,z"
    crop_size: Triple = (96, 96, 96)
    # at the end of the warm-up; None: Table 3, 1e-4 for unet and 1e-6 for Swin
    learning_rate: float | None = None
    # steps of linear warm-up; None: 1,000 (section 4.5), fewer in a run shorter than twice as long
    warmup_steps: int | None = None
    # AdamW's decoupled weight decay; not stated in the paper, PyTorch's default
    weight_decay: float = 0.01
    # largest norm of the gradient over all parameters; not stated in the paper
    gradient_clip: float = 1.0
    # weight of the L1 loss; the paper adds it as it is
    reconstruction_weight: float = 1.0
    # weight of the log-ratio loss; section 4.1
    log_ratio_weight: float = 0.01
    # share of the input's 8x8x8 blocks that is hidden, 0 to below 1; the paper hides nothing
    mask_ratio: float = 0.0
    # skip connections from the encoder to the decoder; the paper has none
    has_skips: bool = False
    # channels of the decoder's levels, relative to the encoder's; not stated in the paper
    decoder_width: float = 1.0
    # the L1 loss is the mean over the image's size, half of it, ...; the paper: its size alone
    reconstruction_scales: int = 1
    # what is drawn equally often: volumes, datasets or organs; not stated in the paper
    balance: Literal["volume", "dataset", "organ"] = "volume"
    # volumes that are only measured on, not trained on; None: a tenth of the store, at most 64
    held_out: int | None = None
    # of initial weights, crops, flips and masks
    seed: int = 0
    # of the forward pass; weights, losses and optimiser stay float32
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"

    # cpu, cuda or mps
    device: str = _run_field("cpu")
    # processes that read crops, for each training process; 0 reads in the training process
    workers: int = _run_field(0)
    # steps between checkpoints
    checkpoint_every: int = _run_field(1_000)
    # steps between pictures, and between measurements of alignment and rank
    picture_every: int = _run_field(1_000)
    # recompute Swin's activations in the backward pass: less memory, more time; None: for large
    recompute_activations: bool | None = _run_field(None)
    # of the weights, kept in their file; empty: not stated
    licence: str = _run_field("")
    # torch.compile the network: minutes at the start, then less time a step
    compile_network: bool = _run_field(False)

    def __post_init__(self) -> None:
        from nnunet_triad.architectures import encoder_spec  # slow to import, not for --help

        spec = encoder_spec(self.encoder)
        if self.learning_rate is None:
            object.__setattr__(self, "learning_rate", LEARNING_RATES[spec.family])
        if self.warmup_steps is None:
            object.__setattr__(self, "warmup_steps", min(PAPERS_WARMUP, self.steps // 2))
        if self.recompute_activations is None:
            object.__setattr__(self, "recompute_activations", self.encoder in LARGE_ENCODERS)
        self._check_ranges()
        self._check_choices()
        rule = f"a Swin encoder, as {self.encoder} has no blocks to recompute"
        is_possible = spec.family == "swin" or not self.recompute_activations
        _check("recompute_activations", self.recompute_activations, rule, is_possible)
        self._check_crop_size(spec.total_stride)

    def _check_ranges(self) -> None:
        for name in ("steps", "batch_size", "checkpoint_every", "picture_every"):
            _check(name, getattr(self, name), "a positive number", getattr(self, name) >= 1)
        non_negative = (
            "workers",
            "weight_decay",
            "seed",
            "reconstruction_weight",
            "log_ratio_weight",
        )
        for name in non_negative:
            _check(name, getattr(self, name), "zero or more", getattr(self, name) >= 0)
        for name in ("peak_learning_rate", "gradient_clip"):
            _check(name, getattr(self, name), "a positive number", getattr(self, name) > 0)
        rule = f"zero or more and fewer than the {self.steps} steps"
        _check("warmup_steps", self.warmup_steps, rule, 0 <= self.num_warmup_steps < self.steps)
        width = self.decoder_width
        _check("decoder_width", width, "above 0 and at most 8", 0 < width <= 8)
        _check("mask_ratio", self.mask_ratio, "0 to below 1", 0 <= self.mask_ratio < 1)
        is_held_out_possible = self.held_out is None or self.held_out >= 0
        _check("held_out", self.held_out, "zero or more", is_held_out_possible)
        weights = (self.reconstruction_weight, self.log_ratio_weight)
        rule = "at least one above zero"
        _check("reconstruction_weight, log_ratio_weight", weights, rule, max(weights) > 0)

    def _check_choices(self) -> None:
        for name, choices in (
            ("balance", ("volume", "dataset", "organ")),
            ("precision", ("fp32", "bf16", "fp16")),
            ("device", ("cpu", "cuda", "mps")),
        ):
            rule = f"{', '.join(choices[:-1])} or {choices[-1]}"
            _check(name, getattr(self, name), rule, getattr(self, name) in choices)

    def _check_crop_size(self, stride: Triple) -> None:
        size = self.crop_size
        is_divisible = len(size) == 3 and all(
            length > 0 and length % step == 0 for length, step in zip(size, stride, strict=True)
        )
        rule = f"three multiples of {stride[0]}, the stride of {self.encoder}"
        if len(set(stride)) > 1:
            rule = f"three multiples of {stride}, the strides of {self.encoder}"
        _check("crop_size", size, rule, is_divisible)
        # Instance norm over a single voxel would set every channel to zero.
        rule = f"more than {stride}, the stride of {self.encoder}, along one axis at least"
        _check("crop_size", size, rule, size != stride)
        rule = f"multiples of the {MASK_BLOCK} voxels of a masked block"
        is_blocked = self.mask_ratio == 0 or all(length % MASK_BLOCK == 0 for length in size)
        _check("crop_size", size, rule, is_blocked)
        scales, possible = self.reconstruction_scales, int(math.log2(min(size))) + 1
        _check("reconstruction_scales", scales, f"1 to {possible}", 1 <= scales <= possible)

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate at the end of the warm-up, never None."""
        assert self.learning_rate is not None
        return self.learning_rate

    @property
    def num_warmup_steps(self) -> int:
        """The steps over which the learning rate rises, never None."""
        assert self.warmup_steps is not None
        return self.warmup_steps

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-able values; `from_dict` is the inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "PretrainSettings":
        """Build settings from `to_dict`'s values, a list allowed for the crop size.

        Raises:
            TypeError: a field is unknown.
            UserError: a value is outside its range.
        """
        return cls(**{**values, "crop_size": tuple(values["crop_size"])})

    def differing_field(self, other: "PretrainSettings") -> str | None:
        """Return the first field that would change the result, or None when there is none."""
        for item in fields(self):
            is_same = getattr(self, item.name) == getattr(other, item.name)
            if item.metadata.get("changes_result", True) and not is_same:
                return item.name
        return None


def _check(name: str, value: object, rule: str, is_good: bool) -> None:
    if not is_good:
        raise UserError(f"{name}: expected {rule}, got {value}")
