"""The settings of a pre-training run: the paper's values, checked, and saved beside its results."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from nnunet_triad.architectures import ENCODERS, encoder_spec, family_of
from nnunet_triad.errors import require
from nnunet_triad.training.settings import (
    MAX_SEED,
    Settings,
    Triple,
    device_option,
    nested,
    option,
    precision_option,
    recompute_option,
    workers_option,
)
from pretraining.objective import Objective
from pretraining.objectives import OBJECTIVES

PAPERS_WARMUP = 1_000  # steps; section 4.5


@dataclass(frozen=True, kw_only=True)
class PretrainSettings(Settings):
    """What a pre-training run does; the defaults are the paper's (section 4.5 and Table 3).

    Raises:
        UserError: a value is outside its range, or does not fit the encoder.
    """

    encoder: str = option(
        "swin_b", f"{', '.join(ENCODERS)}.", source="the paper: unet, swin_b, swin_l, swin_h"
    )
    steps: int = option(200_000, "Optimiser steps.", source="section 4.5", low=1, high=10**9)
    batch_size: int = option(
        8, "Crops a step, over all processes together.", source="section 4.5", low=1, high=2**16
    )
    crop_size: Triple = option(
        (96, 96, 96),
        "Voxels: one number, or x,y,z; multiples of the encoder's stride.",
        source="Table 3",
        high=2048,
    )
    learning_rate: float = option(
        None,
        "After the warm-up.",
        source="Table 3",
        above=0,
        high=10,
        show_default="paper, masked: 1e-4 for U-Nets, 1e-6 for Swin; mae, simmim: 1e-4; spark, "
        "mdae: 1e-2 for CNNs, 3e-4 for transformers",
    )
    warmup_steps: int = option(
        None,
        "Steps over which the learning rate rises.",
        source="section 4.5",
        low=0,
        show_default=f"paper, masked: {PAPERS_WARMUP}, at most half of the steps; mae, simmim: "
        "half of the steps; spark, mdae: 0 for CNNs, a twentieth for transformers",
    )
    optimizer: Literal["adamw", "sgd"] = option(
        None,
        "{choices}; sgd has nnU-Net's momentum of 0.99.",
        show_default="spark, mdae: sgd for CNNs; else adamw",
    )
    betas: tuple[float, float] = option(
        None,
        "AdamW's, of the mean and of the square.",
        low=0,
        below=1,
        show_default="paper, masked: 0.9,0.999, PyTorch's; mae, simmim: 0.9,0.95; spark, mdae: "
        "0.9,0.98",
    )
    weight_decay: float = option(
        None,
        "Of the optimiser.",
        low=0,
        high=1000,
        show_default="paper, masked: 0.01, PyTorch's; mae, simmim: 0.05; spark, mdae: 3e-5 for "
        "CNNs, 0.05 for transformers",
    )
    decays_all: bool = option(
        None,
        "Whether biases and the weights of norms shrink by the weight decay, too.",
        flag="--decay-all/--decay-kernels",
        show_default="mae, simmim: kernels; else all",
    )
    rate_decay: Literal["cosine", "polynomial"] = option(
        None,
        "How the learning rate falls to zero: half a cosine, or (1 - share of the run)^0.9.",
        show_default="spark, mdae: polynomial; else cosine",
    )
    gradient_clip: float = option(
        None,
        "Largest norm of the gradient; 1e9: any.",
        above=0,
        high=1e9,
        show_default="paper, masked: 1; mae, simmim: 1e9; spark, mdae: 12 for CNNs, 1 for "
        "transformers",
    )
    objective_name: str = option(
        "masked",
        "; ".join(f"{name}: {objective.summary}" for name, objective in OBJECTIVES.items()),
        flag="--objective --recipe",
    )
    objective: Objective = nested(OBJECTIVES, by="objective_name")
    balance: Literal["volume", "dataset", "organ"] = option(
        "volume", "Draw each {choices} equally often.", source="not stated in the paper"
    )
    held_out: int | None = option(
        None,
        "Volumes to measure alignment and rank on, not to train on; of whole subjects.",
        low=0,
        show_default="a tenth of the store, at most 64",
    )
    seed: int = option(
        0,
        help="Of initial weights, crops, flips and what the objective draws.",
        low=0,
        high=MAX_SEED,
    )
    precision: str = precision_option(("fp32", "bf16", "fp16"))
    device: str = device_option()
    workers: int = workers_option("read crops")
    checkpoint_every: int = option(1_000, "Steps between checkpoints.", low=1, changes_result=False)
    picture_every: int = option(
        1_000, "Steps between pictures and measurements.", low=1, changes_result=False
    )
    recompute_activations: bool | None = recompute_option("Swin and Primus")
    compile_network: bool = option(
        False,
        "torch.compile the network: minutes, then faster.",
        flag="--compile",
        changes_result=False,
    )
    licence: str = option(
        "",
        "Licence of the weights, for their file: MIT, ...",
        show_default="not stated",
        changes_result=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._fill_precision()
        spec = encoder_spec(self.encoder)
        family = family_of(spec)
        object.__setattr__(self, "licence", self.licence.strip())
        object.__setattr__(self, "objective", self.objective.for_encoder(spec))
        self._fill(**self.objective.run_defaults(spec, steps=self.steps))
        self._fill(
            learning_rate=family.pretraining_rate,
            warmup_steps=min(PAPERS_WARMUP, self.steps // 2),
            optimizer="adamw",
            betas=(0.9, 0.999),
            weight_decay=0.01,
            decays_all=True,
            rate_decay="cosine",
            gradient_clip=1.0,
        )
        rule = f"zero or more and fewer than the {self.steps} steps"
        require("warmup_steps", self.warmup_steps, rule, self.warmup_steps < self.steps)
        rule = f"a transformer, as {self.encoder} has no blocks to recompute"
        is_possible = family.can_recompute or not self.recompute_activations
        require("recompute_activations", self.recompute_activations, rule, is_possible)
        self._check_crop_size(spec.total_stride)

    def _check_crop_size(self, stride: Triple) -> None:
        size = self.crop_size
        is_divisible = len(size) == 3 and all(
            length > 0 and length % step == 0 for length, step in zip(size, stride, strict=True)
        )
        rule = f"three multiples of {stride[0]}, the stride of {self.encoder}"
        if len(set(stride)) > 1:
            rule = f"three multiples of {stride}, the strides of {self.encoder}"
        require("crop_size", size, rule, is_divisible)
        # Instance norm over a single voxel would set every channel to zero.
        rule = f"more than {stride}, the stride of {self.encoder}, along one axis at least"
        require("crop_size", size, rule, size != stride)
        self.objective.check_crop_size(size)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "PretrainSettings":
        """Build settings as `Settings` does, also those saved when objectives had no names."""
        if "objective_name" not in values and {"mask_ratio", "has_skips"} <= values.keys():
            name = "masked" if values["mask_ratio"] > 0 else "paper"
            values = {**values, "objective_name": name}
        return super().from_dict(values)
