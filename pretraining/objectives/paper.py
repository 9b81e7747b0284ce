"""`paper`: reconstruct the crop from the bottleneck, and embed alike what is described alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nnunet_triad.errors import require
from nnunet_triad.training.settings import Triple, option
from pretraining.objective import Column, Objective

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from nnunet_triad.architectures import EncoderSpec

MASK_BLOCK = 8  # voxels along each edge of a masked block


@dataclass(frozen=True, kw_only=True)
class Paper(Objective):
    """An autoencoder's L1 loss, and the log-ratio loss of its pooled bottleneck.

    Source: sections 4.1 and 4.5 of the paper; "pooled bottleneck": the coarsest feature, averaged
        over space.

    Raises:
        UserError: a value is outside its range, or both weights are zero.
    """

    summary: ClassVar[str] = "all through the bottleneck"
    figures: ClassVar[dict[str, str]] = {
        "l1": "L1 of the reconstruction",
        "log_ratio": "log-ratio loss",
    }
    picture_name: ClassVar[str] = "reconstructions"
    without_texts: ClassVar[str] = "--log-ratio-weight 0"

    reconstruction_weight: float = option(
        1.0, "Weight of the L1 loss.", source="section 4.1", low=0
    )
    log_ratio_weight: float = option(
        0.01,
        "Weight of the log-ratio loss; 0 needs no text embeddings.",
        source="section 4.1",
        low=0,
    )
    mask_ratio: float = option(0.0, "Share of the input's 8x8x8 blocks to mask.", low=0, below=1)
    has_skips: bool = option(False, "Connect the decoder to the encoder's finer features.")
    decoder_width: float = option(
        1.0,
        "Channels of the decoder's levels, relative to the encoder's.",
        above=0,
        high=8,
    )
    reconstruction_scales: int = option(
        1, "Sizes, each half of the one before, over which L1 is averaged.", low=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = (self.reconstruction_weight, self.log_ratio_weight)
        names = "reconstruction_weight, log_ratio_weight"
        require(names, weights, "at least one above zero", max(weights) > 0)

    @property
    def needs_texts(self) -> bool:
        """Whether the loss compares with the embedded descriptions."""
        return self.log_ratio_weight > 0

    def check_crop_size(self, size: Triple) -> None:
        """Check that masked blocks and the smallest scale fit."""
        rule = f"multiples of the {MASK_BLOCK} voxels of a masked block"
        is_blocked = self.mask_ratio == 0 or all(length % MASK_BLOCK == 0 for length in size)
        require("crop_size", size, rule, is_blocked)
        scales, possible = self.reconstruction_scales, int(math.log2(min(size))) + 1
        require("reconstruction_scales", scales, f"1 to {possible}", scales <= possible)

    def views(self, image: Tensor, random: np.random.Generator) -> dict[str, Tensor]:
        """Return which blocks are masked, if any are."""
        from pretraining.objectives.parts.masking import draw_mask

        if self.mask_ratio == 0:
            return {}
        size = image.shape[1:]
        mask = draw_mask(random, size=size, block=MASK_BLOCK, ratio=self.mask_ratio)
        return {"is_masked": mask}

    def heads(self, spec: EncoderSpec) -> dict[str, nn.Module]:
        """Return the decoder."""
        from pretraining.objectives.parts.decoder import Decoder

        return {"decoder": Decoder(spec, has_skips=self.has_skips, width=self.decoder_width)}

    def forward(
        self, encoder: nn.Module, heads: Mapping[str, nn.Module], batch: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the reconstruction (b, 1, x, y, z) and the embedding (b, d)."""
        features = encoder(self._network_input(batch))
        embedding = features[-1].float().mean(dim=(2, 3, 4))  # distances want all digits
        return {"reconstruction": heads["decoder"](features), "embedding": embedding}

    def _network_input(self, batch: dict[str, Tensor]) -> Tensor:
        from pretraining.objectives.parts.masking import mask_blocks

        if self.mask_ratio == 0:
            return batch["image"]
        return mask_blocks(batch["image"], batch["is_masked"])

    def losses(
        self, outputs: dict[str, Tensor], batch: dict[str, Tensor], texts: Tensor | None
    ) -> dict[str, Tensor]:
        """Return l1 over this process's crops, log_ratio over those of all, and their sum.

        What is masked and what is seen are compared alike.
        """
        from nnunet_triad.training.distributed import gather_with_gradient
        from pretraining.objectives.parts.l1_loss import l1_at_scales
        from pretraining.objectives.parts.log_ratio_loss import log_ratio_loss

        reconstruction, image = outputs["reconstruction"], batch["image"]
        at_scales = l1_at_scales(reconstruction, image, num_scales=self.reconstruction_scales)
        losses = {"l1": at_scales[0]}
        loss = self.reconstruction_weight * at_scales.mean()
        if texts is not None:
            losses["log_ratio"] = log_ratio_loss(
                gather_with_gradient(outputs["embedding"]), gather_with_gradient(texts)
            )
            loss = loss + self.log_ratio_weight * losses["log_ratio"]
        return {"loss": loss, **losses}

    def pictures(self, outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> list[Column]:
        """Return the image where some is masked, the input, its reconstruction, the difference."""
        image, reconstruction = batch["image"], outputs["reconstruction"]
        difference = (reconstruction - image).abs()
        return [
            *([Column(title="image", images=image)] if self.mask_ratio > 0 else []),
            Column(title="input", images=self._network_input(batch)),
            Column(title="reconstruction", images=reconstruction),
            Column(title="difference", images=difference, black=0.0, white=2.0),
        ]
