"""`simmim`: Triad's released script for its Swin: hidden tokens become a learnt one, no skips."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from nnunet_triad.training.settings import redefine
from pretraining.objectives.mae import Mae


@dataclass(frozen=True, kw_only=True)
class Simmim(Mae):
    """As `mae`, but tokens are replaced behind the patch embedding.

    Source: the same script, `--model_type swin_skip2`: `SwinTransformerSkipForSimMIM`; after
        SimMIM (arXiv:2111.09886), whose blocks are as large as the deepest cell (here 32) and
        whose head is linear.
    Differs: as `mae`. An encoder without a patch embedding (U-Net, ResEnc, MedNeXt) gets a
        learnt voxel, as in the script; its settings say so. The encoder's drop path is 0 in both.
    """

    summary: ClassVar[str] = "as mae, a learnt token behind the patch embedding"

    hidden_becomes: Literal["zero", "voxel", "token"] = redefine(Mae, "hidden_becomes", "token")
    decoder_channels: int = redefine(Mae, "decoder_channels", 0)
