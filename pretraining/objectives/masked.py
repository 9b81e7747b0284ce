"""`masked`: as `paper`, but most of the input is masked, and the decoder has skip connections."""

from dataclasses import dataclass
from typing import ClassVar

from nnunet_triad.training.settings import option
from pretraining.objectives.paper import Paper


@dataclass(frozen=True, kw_only=True)
class Masked(Paper):
    """The paper's losses of an input of which 60 % is masked: see docs/evidence.

    Source: the masks and the skip connections as in SparK (arXiv:2301.03580) and OpenMind
        (arXiv:2412.17041).
    Differs: the encoder is dense; the loss counts what is seen, too.
    """

    summary: ClassVar[str] = "0.6 of the input masked, with skips"

    mask_ratio: float = option(0.6, "Share of the input's 8x8x8 blocks to mask.", low=0, below=1)
    has_skips: bool = option(True, "Connect the decoder to the encoder's finer features.")
