"""Whose checkpoint a file is, by its content, and how that project's names become this one's.

One row a source: what its files hold, what the names become, whom to cite. Names are compared
after the prefixes that wrappers leave are gone, and before the row's own renamings.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

# Keys under which checkpoints hold the state dict, tried in turn.
WRAPPERS = ("network_weights", "state_dict", "model", "net", "student")
# What torch and the projects put before every name: DistributedDataParallel, torch.compile,
# and the attribute that holds the network.
_PREFIXES = ("module.", "_orig_mod.", "backbone.", "network.")
# Attention's and merging's names in Swin UNETR's first releases, and the encoder's attribute.
_SWIN_RENAMINGS = ((r"^swin_vit\.", "swinViT."), (r"\.mlp\.fc(\d)\.", r".mlp.linear\1."))
_NUM_VOCOMNI_CLASSES = 21  # 20 organs and tumours, and the background


@dataclass(frozen=True, kw_only=True)
class Content:
    """What recognition looks at: a checkpoint's own keys, and its tensors."""

    keys: frozenset[str]
    tensors: Mapping[str, Tensor]

    def has(self, pattern: str) -> bool:
        """Say whether any tensor's name begins with the pattern."""
        return any(re.match(pattern, name) for name in self.tensors)

    def num_outputs(self, pattern: str) -> int:
        """Return the output channels of the first tensor that the pattern finds, 0 for none."""
        found = (t for name, t in self.tensors.items() if re.match(pattern, name))
        tensor = next(found, None)
        return 0 if tensor is None else tensor.shape[0]


@dataclass(frozen=True, kw_only=True)
class Source:
    """One kind of checkpoint."""

    name: str  # WeightsInfo.source
    title: str
    keys: frozenset[str] = frozenset()  # all of them stand beside the tensors
    needs: tuple[str, ...] = ()  # each begins some tensor's name
    lacks: tuple[str, ...] = ()  # none of them does
    classes: tuple[str, int] | None = None  # a tensor by its name, and its output channels
    renamings: tuple[tuple[str, str], ...] = ()  # patterns and what they become, in this order
    encoders: tuple[str, ...] = ("swinViT.", "encoder.", "")  # where it is, after the renamings
    intensity_normalization: str = "unknown"
    licence: str = "see the project that published it"
    citation: str = "see the project that published it"

    def matches(self, content: Content) -> bool:
        """Say whether a file is of this kind."""
        return (
            self.keys <= content.keys
            and all(content.has(pattern) for pattern in self.needs)
            and not any(content.has(pattern) for pattern in self.lacks)
            and (self.classes is None or content.num_outputs(self.classes[0]) == self.classes[1])
        )

    def rename(self, name: str) -> str:
        """Return what a name of this source becomes here."""
        for pattern, replacement in self.renamings:
            name = re.sub(pattern, replacement, name)
        return name


_VOCO = {
    "name": "voco",
    "renamings": _SWIN_RENAMINGS,
    "intensity_normalization": "CT window -175 to 250 HU, to 0..1",
    "citation": "Wu et al., Large-Scale 3D Medical Image Pre-training with Geometric Context "
    "Priors, 2024 (arXiv:2410.09890)",
}
_SWIN_SSL = {
    "name": "swin_unetr_ssl",
    "licence": "Apache-2.0",
    "citation": "Tang et al., Self-Supervised Pre-Training of Swin Transformers for 3D Medical "
    "Image Analysis, CVPR 2022",
}

# The first row that matches is taken, so the specific ones stand first.
SOURCES: tuple[Source, ...] = (
    Source(
        name="triad",
        title="a checkpoint of triad-pretrain",
        keys=frozenset({"settings", "data_fingerprint", "model"}),
        needs=(r"encoder\.",),
        encoders=("encoder.",),
        intensity_normalization="zscore",
        licence="",
        citation="Wang et al., Triad: Vision Foundation Model for 3D MRI, 2025",
    ),
    Source(
        name="nnssl",
        title="nnssl / OpenMind (nnssl_adaptation_plan)",
        keys=frozenset({"nnssl_adaptation_plan"}),
        needs=(r"encoder\.stages\.",),
        encoders=("encoder.",),
        citation="Wald et al., Revisiting MAE Pre-training for 3D Medical Image Segmentation, "
        "CVPR 2025 (arXiv:2410.23132); An OpenMind for 3D Medical Vision Self-supervised "
        "Learning, ICCV 2025 (arXiv:2412.17041)",
    ),
    Source(
        name="suprem",
        title="SuPreM, Swin UNETR V1 (swinViT.* beside precls_conv.*, controller.*)",
        needs=(r"swinViT\.", r"(precls_conv|controller|organ_embedding|text_to_vision)\b"),
        renamings=_SWIN_RENAMINGS,
        intensity_normalization="CT window -175 to 250 HU, to 0..1",
        licence="CC BY-NC-ND 4.0",
        citation="Li, Yuille and Zhou, How Well Do Supervised Models Transfer to 3D Image "
        "Segmentation?, ICLR 2024",
    ),
    Source(
        title="VoCo, SSL head (swinViT.*, encoder1..4, encoder10, no decoder)",
        needs=(r"swin(ViT|_vit)\.layers1c\.", r"encoder10\."),
        lacks=(r"decoder1\.",),
        **_VOCO,  # type: ignore[arg-type]
    ),
    Source(
        title="VoCo, omni-supervised (swinViT.* beside student.*, teacher.*)",
        needs=(r"swin(ViT|_vit)\.layers1c\.", r"(student|teacher)\."),
        **_VOCO,  # type: ignore[arg-type]
    ),
    Source(
        title="VoComni, Swin UNETR V2 with 21 classes",
        needs=(r"swinViT\.layers1c\.", r"decoder1\."),
        classes=(r"out\.conv\.conv\.weight", _NUM_VOCOMNI_CLASSES),
        **_VOCO,  # type: ignore[arg-type]
    ),
    Source(
        name="nnunet",
        title="nnU-Net's checkpoint_*.pth (trainer_name, init_args)",
        keys=frozenset({"trainer_name", "init_args"}),
        needs=(r"(encoder\.stages|swinViT)\.",),
        citation="Isensee et al., nnU-Net: a self-configuring method for deep learning-based "
        "biomedical image segmentation, Nature Methods 2021",
    ),
    Source(
        title="VoComni, nnU-Net's PlainConvUNet with 21 classes",
        needs=(r"encoder\.stages\.0\.0\.convs\.",),
        classes=(r"decoder\.seg_layers\.\d+\.weight", _NUM_VOCOMNI_CLASSES),
        **_VOCO,  # type: ignore[arg-type]
    ),
    Source(
        title="Swin UNETR SSL (mlp.fc1, or rotation_head.* and contrastive_head.*)",
        needs=(r"(swin_vit\.|swinViT\.)?layers1\.0\.blocks\.\d+\.(mlp\.fc1|attn)\.",),
        lacks=(r"swin(ViT|_vit)\.layers1c\.", r"layers1c\.", r"decoder1\.", r"encoder10\."),
        renamings=_SWIN_RENAMINGS,
        **_SWIN_SSL,  # type: ignore[arg-type]
    ),
    Source(
        title="Swin UNETR SSL on 50,000 volumes (encoder.layers1.0.0.*)",
        needs=(r"encoder\.layers1\.0\.0\.blocks\.",),
        renamings=(
            (r"^encoder\.(layers\d)\.0\.0\.", r"swinViT.\1.0."),
            (r"^encoder\.patch_embed\.", "swinViT.patch_embed."),
        ),
        encoders=("swinViT.",),
        **_SWIN_SSL,  # type: ignore[arg-type]
    ),
    Source(
        name="monai",
        title="a state dict of MONAI's SwinUNETR or SwinTransformer (swinViT.*)",
        needs=(r"((swinViT|swin_vit)\.)?patch_embed\.proj\.weight",),
        renamings=_SWIN_RENAMINGS,
    ),
    Source(
        name="nnunet",
        title="a state dict of nnU-Net's PlainConvUNet or ResidualEncoderUNet (encoder.stages.*)",
        needs=(r"(encoder\.)?stages\.0\.(0\.convs|blocks)\.0\.",),
        encoders=("encoder.", ""),
    ),
)


def strip_prefixes(name: str) -> str:
    """Return a tensor's name without what wrappers of the network put before it."""
    while name.startswith(_PREFIXES):
        name = name.split(".", 1)[1]
    return name


def recognise(content: Content) -> Source | None:
    """Return the source whose row matches, None where none does."""
    return next((source for source in SOURCES if source.matches(content)), None)
