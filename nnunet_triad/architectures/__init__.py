"""Encoders behind one contract, and segmentation networks built on them."""

from nnunet_triad.architectures.encoders import build_encoder
from nnunet_triad.architectures.meta import build_without_memory
from nnunet_triad.architectures.spec import (
    ENCODERS,
    EncoderSpec,
    encoder_spec,
    plainconv_spec,
    resenc_spec,
    swin_spec,
)
from nnunet_triad.architectures.swin_unetr import (
    PaddedSwinUNETR,
    build_swin_unetr,
    pad_to_stride,
)

__all__ = [
    "ENCODERS",
    "EncoderSpec",
    "PaddedSwinUNETR",
    "build_encoder",
    "build_swin_unetr",
    "build_without_memory",
    "encoder_spec",
    "pad_to_stride",
    "plainconv_spec",
    "resenc_spec",
    "swin_spec",
]
