"""What the masked autoencoders of others have in common; each is a choice of these options."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from nnunet_triad.architectures import EncoderSpec, family_of
from nnunet_triad.errors import require
from nnunet_triad.training.settings import Triple, option
from pretraining.objective import Column, Objective

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

PERCENTILES = "percentiles 0.5 99.5"  # a text of `images.intensity.Intensity`
_Own = TypeVar("_Own", bound="Reconstruction")


@dataclass(frozen=True, kw_only=True)
class Reconstruction(Objective):
    """Hide blocks of a crop, perhaps add noise to it, and reconstruct it.

    The error is averaged over the hidden voxels of a crop, then over crops.

    Raises:
        UserError: a value is outside its range.
    """

    figures: ClassVar[dict[str, str]] = {
        "hidden": "error on what is hidden",
        "seen": "error on what is seen",
    }
    picture_name: ClassVar[str] = "reconstructions"
    # how many blocks a share of them is: their number is rounded so
    rounding: ClassVar[Callable[[float], int]] = math.ceil

    mask_block: Triple = option(
        None,
        "Voxels of a hidden block: one number, or x,y,z.",
        low=1,
        high=2048,
        show_default="the encoder's stride",
    )
    mask_ratio: float = option(
        0.6, "Share of the input's blocks that is hidden; the least, if drawn.", above=0, below=1
    )
    mask_ratio_high: float | None = option(
        None,
        "The largest share, where it is drawn for each crop.",
        above=0,
        below=1,
        show_default="none is drawn",
    )
    hidden_becomes: Literal["zero", "voxel", "token"] = option(
        "zero",
        "zero: the mean, or with percentiles black; voxel: a learnt value; token: a learnt token "
        "behind the patch embedding, a learnt value where an encoder has none.",
    )
    noise: float = option(
        0.0,
        "Largest deviation of noise on the input, drawn from 0 on for each crop.",
        low=0,
        high=100,
    )
    seen_weight: float = option(
        0.0,
        "Weight of the error on what is seen, beside 1 on what is hidden.",
        low=0,
        high=1000,
    )
    error: Literal["l1", "l2"] = option("l1", "l1: absolute; l2: squared.")
    has_skips: bool = option(False, "Connect the decoder to the encoder's finer features.")
    is_densified: bool = option(
        False, "Fill the hidden cells of the features with learnt tokens before the decoder."
    )
    decoder_width: float = option(
        1.0, "Channels of the decoder's levels, relative to the encoder's.", above=0, high=8
    )
    intensity: Literal["zscore", "percentiles"] = option(
        "zscore",
        "zscore: a volume's mean is 0, its deviation 1; percentiles: its percentiles 0.5 and "
        "99.5 are 0 and 1, and clipped.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        high = self.mask_ratio_high
        rule = f"{self.mask_ratio}, the mask ratio, or more"
        require("mask_ratio_high", high, rule, high is None or high >= self.mask_ratio)

    @property
    def scale(self) -> str:
        """How a volume's values become the encoder's input."""
        return PERCENTILES if self.intensity == "percentiles" else super().scale

    def for_encoder(self: _Own, spec: EncoderSpec) -> _Own:
        """Return the objective with blocks of the deepest cell, and what becomes of them."""
        block = self.mask_block or spec.total_stride
        becomes = self.hidden_becomes
        embedding = family_of(spec).embedding
        if becomes == "token":
            step = spec.strides[0]
            rule = f"multiples of {step}, a token of {spec.name}"
            is_whole = all(size % one == 0 for size, one in zip(block, step, strict=True))
            require("mask_block", block, rule, not embedding or is_whole)
            becomes = becomes if embedding else "voxel"
        return replace(self, mask_block=block, hidden_becomes=becomes)

    def check_crop_size(self, size: Triple) -> None:
        """Check that there are two blocks at least, all of them whole."""
        pairs = list(zip(size, self.mask_block, strict=True))
        is_whole = all(length % block == 0 for length, block in pairs) and size != self.mask_block
        rule = f"multiples of the {_listed(self.mask_block)} voxels of a hidden block, at least two"
        require("crop_size", size, rule, is_whole)

    def views(self, image: Tensor, random: np.random.Generator) -> dict[str, Tensor]:
        """Return which blocks are hidden, and the noise."""
        import torch

        from pretraining.objectives.parts.masking import draw_blocks

        pairs = zip(image.shape[1:], self.mask_block, strict=True)
        grid = [length // block for length, block in pairs]
        ratio = self.mask_ratio
        if self.mask_ratio_high is not None:
            ratio = random.uniform(ratio, self.mask_ratio_high)
        total = math.prod(grid)
        count = min(max(type(self).rounding(ratio * total), 1), total - 1)
        views = {"is_hidden": draw_blocks(random, grid=grid, count=count)}
        if self.noise > 0:
            deviation = random.uniform(0, self.noise)
            values = random.standard_normal(tuple(image.shape), dtype="float32")
            views["noise"] = torch.from_numpy(values).mul_(deviation)
        return views

    def heads(self, spec: EncoderSpec) -> dict[str, nn.Module]:
        """Return the decoder, and what learns beside it."""
        from pretraining.objectives.parts.hiding import Densify, HiddenToken, HiddenVoxel

        decoder, levels = self.decoder(spec)
        heads = {"decoder": decoder}
        if self.is_densified:
            heads["densify"] = Densify(spec, block=self.mask_block, levels=levels)
        if self.hidden_becomes == "voxel":
            heads["hidden"] = HiddenVoxel()
        if self.hidden_becomes == "token":
            heads["hidden"] = HiddenToken(spec.feature_size)
        return heads

    def decoder(self, spec: EncoderSpec) -> tuple[nn.Module, list[int]]:
        """Return the decoder, and the levels of the features that it looks at."""
        from pretraining.objectives.parts.decoder import Decoder

        decoder = Decoder(spec, has_skips=self.has_skips, width=self.decoder_width)
        return decoder, decoder.levels

    def attach(self, encoder: nn.Module, heads: Mapping[str, nn.Module], spec: EncoderSpec) -> None:
        """Let the token replace what is hidden behind the encoder's embedding."""
        from pretraining.objectives.parts.hiding import HiddenToken

        if self.hidden_becomes == "token":
            token = heads["hidden"]
            assert isinstance(token, HiddenToken)
            token.attach(encoder.get_submodule(family_of(spec).embedding))

    def forward(
        self, encoder: nn.Module, heads: Mapping[str, nn.Module], batch: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the reconstruction (b, 1, x, y, z)."""
        from pretraining.objectives.parts.masking import spread_blocks

        is_hidden = batch["is_hidden"]
        seen = batch["image"] + batch["noise"] if "noise" in batch else batch["image"]
        if self.hidden_becomes == "token":
            token: Any = heads["hidden"]
            token.is_hidden = is_hidden
            features = encoder(seen)
            token.is_hidden = None
        else:
            voxels = spread_blocks(is_hidden, seen.shape[2:])
            has_head = self.hidden_becomes == "voxel"
            features = encoder(
                heads["hidden"](seen, voxels) if has_head else seen.masked_fill(voxels, 0)
            )
        if self.is_densified:
            features = heads["densify"](features, is_hidden)
        return {"reconstruction": heads["decoder"](features)}

    def losses(
        self, outputs: dict[str, Tensor], batch: dict[str, Tensor], texts: Tensor | None
    ) -> dict[str, Tensor]:
        """Return the error on what is hidden, on what is seen, and their weighted sum."""
        from pretraining.objectives.parts.masking import spread_blocks

        difference = outputs["reconstruction"] - batch["image"]
        error = difference.abs() if self.error == "l1" else difference.square()
        is_hidden = spread_blocks(batch["is_hidden"], error.shape[2:])
        hidden, seen = _mean_where(error, is_hidden), _mean_where(error, ~is_hidden)
        loss = hidden + self.seen_weight * seen if self.seen_weight > 0 else hidden
        return {"loss": loss, "hidden": hidden, "seen": seen.detach()}

    def pictures(self, outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> list[Column]:
        """Return the image, what is seen of it, its reconstruction, and both joined."""
        from pretraining.objectives.parts.masking import spread_blocks

        image, reconstruction = batch["image"], outputs["reconstruction"]
        is_hidden = spread_blocks(batch["is_hidden"], image.shape[2:])
        seen = image + batch["noise"] if "noise" in batch else image
        greys = {"black": 0.0, "white": 1.0} if self.intensity == "percentiles" else {}
        return [
            Column(title="image", images=image, **greys),
            Column(title="input", images=seen.masked_fill(is_hidden, 0), **greys),
            Column(title="reconstruction", images=reconstruction, **greys),
            Column(
                title="hidden part joined", images=reconstruction.where(is_hidden, image), **greys
            ),
        ]


def _mean_where(error: Tensor, mask: Tensor) -> Tensor:
    """The mean over the voxels of a mask (b, 1, x, y, z) of each crop, then over crops."""
    space = (1, 2, 3, 4)
    return ((error * mask).sum(space) / mask.sum(space)).mean()


def _listed(block: Triple) -> str:
    return str(block[0]) if len(set(block)) == 1 else str(block)
