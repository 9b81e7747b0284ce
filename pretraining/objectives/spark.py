"""`spark`: 60 to 90 % hidden in cells of the bottleneck, features densified, skips."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from nnunet_triad.architectures import EncoderSpec
from nnunet_triad.training.settings import redefine
from pretraining.objectives.parts.optimisers import nnssls
from pretraining.objectives.parts.reconstruction import Reconstruction


@dataclass(frozen=True, kw_only=True)
class Spark(Reconstruction):
    """The squared error on hidden cells, whose features are learnt tokens at each level.

    Source: SparK (arXiv:2301.03580) and S3D (arXiv:2410.23132) as nnssl trains them
        (`VariableSparkMAETrainer`, `SparK3D`, commit 7044864): the share drawn from 60 to 90 %,
        densification, skips, the error where hidden, nnU-Net's optimiser. Cells of the deepest
        level, as S3D's 5x5x5 cells in a crop of 160.
    Differs: the dense twin. The encoder's convolutions are dense and see zeros, the mean, where
        something is hidden; theirs are sparse. nnssl's blocks have 16 voxels, so that its deepest
        level of 32 is never hidden. The decoder is this project's, not nnU-Net's. The share is
        drawn for each crop, there for each batch. For transformers nnssl's optimiser of its own
        transformers.
    """

    summary: ClassVar[str] = "0.6 to 0.9 hidden in cells of the bottleneck, densified, with skips"
    rounding: ClassVar[Callable[[float], int]] = math.floor

    mask_ratio_high: float | None = redefine(Reconstruction, "mask_ratio_high", 0.9)
    error: Literal["l1", "l2"] = redefine(Reconstruction, "error", "l2")
    has_skips: bool = redefine(Reconstruction, "has_skips", True)
    is_densified: bool = redefine(Reconstruction, "is_densified", True)

    def run_defaults(self, spec: EncoderSpec, *, steps: int) -> dict[str, Any]:
        """Return nnssl's optimiser."""
        return nnssls(spec, steps=steps)
