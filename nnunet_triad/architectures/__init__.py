"""Encoders behind one contract, and segmentation networks built on them, by family."""

from nnunet_triad.architectures.families import (
    ENCODERS,
    NETWORKS,
    build_encoder,
    build_network,
    encoder_spec,
    family_of,
)
from nnunet_triad.architectures.families.plainconv import plainconv_spec
from nnunet_triad.architectures.families.resenc import resenc_spec
from nnunet_triad.architectures.families.swin import swin_spec
from nnunet_triad.architectures.family import Family, NetworkPlan
from nnunet_triad.architectures.spec import EncoderSpec

__all__ = [
    "ENCODERS",
    "NETWORKS",
    "EncoderSpec",
    "Family",
    "NetworkPlan",
    "build_encoder",
    "build_network",
    "encoder_spec",
    "family_of",
    "plainconv_spec",
    "resenc_spec",
    "swin_spec",
]
