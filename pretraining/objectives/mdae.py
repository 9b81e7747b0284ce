"""`mdae`: noise, and 1 to 99 % hidden: what is seen is denoised, what is hidden filled in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from nnunet_triad.architectures import EncoderSpec
from nnunet_triad.training.settings import Triple, redefine
from pretraining.objectives.parts.optimisers import nnssls
from pretraining.objectives.parts.reconstruction import Reconstruction


@dataclass(frozen=True, kw_only=True)
class Mdae(Reconstruction):
    """The squared errors on hidden and on seen voxels, added up.

    Source: Masked-Diffusion Autoencoders (Tu et al., CVPR 2026), by two summaries of it: noise
        x + t z with t from 0 to 1, blocks of 16x16x16 of which a share from 1 to 99 % is hidden
        and set to zero, both errors against the clean image with weights of 1, a residual U-Net
        with skips.
    Differs: the encoder is not told t. The error on what is seen is not weighted by the noise,
        as the weights were not at hand. Exactly the drawn share of the blocks is hidden; there
        each block by itself. Their optimiser was not at hand, either: nnssl's, as for `spark`.
    """

    summary: ClassVar[str] = "noise, and 0.01 to 0.99 hidden, with skips"
    rounding: ClassVar[Callable[[float], int]] = round

    mask_block: Triple = redefine(Reconstruction, "mask_block", (16, 16, 16), show_default="16")
    mask_ratio: float = redefine(Reconstruction, "mask_ratio", 0.01)
    mask_ratio_high: float | None = redefine(Reconstruction, "mask_ratio_high", 0.99)
    noise: float = redefine(Reconstruction, "noise", 1.0)
    seen_weight: float = redefine(Reconstruction, "seen_weight", 1.0)
    error: Literal["l1", "l2"] = redefine(Reconstruction, "error", "l2")
    has_skips: bool = redefine(Reconstruction, "has_skips", True)

    def run_defaults(self, spec: EncoderSpec, *, steps: int) -> dict[str, Any]:
        """Return nnssl's optimiser."""
        return nnssls(spec, steps=steps)
