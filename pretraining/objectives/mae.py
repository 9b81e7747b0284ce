"""`mae`: Triad's released script for its U-Net: what is hidden becomes a learnt voxel, no skips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from nnunet_triad.architectures import EncoderSpec
from nnunet_triad.training.settings import Triple, option, redefine
from pretraining.objectives.parts.optimisers import TRIADS
from pretraining.objectives.parts.reconstruction import Reconstruction

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Mae(Reconstruction):
    """L1 on the hidden 60 % of 16x16x16 blocks, from the bottleneck alone.

    Source: the script that Triad's authors released (github.com/wangshansong1/Triad, commit
        e499a4b), `--model_type unet_ssl_as_encoder`: `MaskGenerator`, `UNetEncoderForMAE`,
        `SimMIMSkip_light`, `NpyVolumeDataset._robust_minmax_foreground`, and its defaults.
    Differs: a crop of the stored volume, mirrored in half of the cases along each axis, where
        theirs is the whole volume resized, mirrored with a probability of 0.2; a draw with
        replacement; no biases where a norm follows; the warm-up is half of the run, as 5 of
        their 10 epochs are. Any encoder, not the U-Net alone. Without the log-ratio loss, whose
        weight there is 0 unless given.
    """

    summary: ClassVar[str] = "Triad's released script, a learnt voxel for 0.6 of the input"

    mask_block: Triple = redefine(Reconstruction, "mask_block", (16, 16, 16), show_default="16")
    hidden_becomes: Literal["zero", "voxel", "token"] = redefine(
        Reconstruction, "hidden_becomes", "voxel"
    )
    intensity: Literal["zscore", "percentiles"] = redefine(
        Reconstruction, "intensity", "percentiles"
    )
    decoder_channels: int = option(
        24,
        "Where the decoder without skips begins, behind two 1x1x1 convolutions; 0: at the "
        "encoder's coarsest.",
        low=0,
        high=4096,
    )

    def decoder(self, spec: EncoderSpec) -> tuple[nn.Module, list[int]]:
        """Return the script's decoder, or one with skips where they are asked for."""
        from pretraining.objectives.parts.narrowing_decoder import NarrowingDecoder

        if self.has_skips:
            return super().decoder(spec)
        decoder = NarrowingDecoder(spec, channels=self.decoder_channels)
        return decoder, [len(spec.channels) - 1]

    def run_defaults(self, spec: EncoderSpec, *, steps: int) -> dict[str, Any]:
        """Return the script's optimiser."""
        return {**TRIADS, "warmup_steps": steps // 2}
