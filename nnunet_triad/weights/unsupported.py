"""Encoders of other projects that no family here computes: what such a file is, and what to do.

A row a network, the special ones first; names are those of the project's own code, without what
wrappers put before them. Asked once nothing in `origins.py` has fitted.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_OWN_CODE = "fine-tune it with that project's own code"
_VIT = "a Vision Transformer has one resolution, where the networks here want several"
_POOLS = "it pools by maximum, where nnU-Net's U-Net strides"


@dataclass(frozen=True, kw_only=True)
class Unsupported:
    """A network that cannot be used here."""

    title: str  # what the file holds
    why: str  # no family here computes it
    needs: tuple[str, ...]  # each begins some tensor's name
    advice: str = _OWN_CODE
    num_axes: int | None = None  # of the tensor that the first pattern finds

    def matches(self, tensors: "Mapping[str, Tensor]") -> bool:
        """Say whether a file holds it."""
        first = next((t for n, t in tensors.items() if re.match(self.needs[0], n)), None)
        return (
            first is not None
            and (self.num_axes is None or first.ndim == self.num_axes)
            and all(any(re.match(pattern, n) for n in tensors) for pattern in self.needs[1:])
        )


UNSUPPORTED: tuple[Unsupported, ...] = (
    # nnU-Net's 2D configuration
    Unsupported(
        title="a 2D U-Net of nnU-Net",
        why="its kernels have two axes",
        needs=(r"(encoder\.)?stages\.0\.(0\.convs|blocks)\.0\.(conv|conv1\.conv)\.weight",),
        advice="take weights of a 3D configuration",
        num_axes=4,
    ),
    # uni-medical/STU-Net, STUNetTrainer.py: BasicResBlock
    Unsupported(
        title="STU-Net",
        why="its residual blocks halve the shortcut by a strided convolution without a norm, where "
        "nnU-Net's ResEnc averages, and it has no stem",
        needs=(r"conv_blocks_context\.0\.0\.conv1\.", r"conv_blocks_context\.0\.0\.conv3\."),
        advice=f"{_OWN_CODE}, or take an nnssl / OpenMind ResEnc",
    ),
    # YtongXie/UniMiSS-code, MiT_encoder.py; UniMiSSPlus/MiTplus.py
    Unsupported(
        title="UniMiSS's pyramid transformer (MiT)",
        why="its attention over reduced 2D and 3D tokens has no counterpart",
        needs=(r"(\w+\.)*patch_embed3D0\.",),
    ),
    # uni-medical/SAM-Med3D, image_encoder3D.py and sam3D.py
    Unsupported(
        title="SAM-Med3D",
        why=_VIT,
        needs=(r"image_encoder\.patch_embed\.", r"image_encoder\.blocks\.", r"prompt_encoder\."),
    ),
    # AICONSlab/3DINO, vision_transformer.py: DINOv2's, under `teacher` and `backbone.`
    Unsupported(
        title="a Vision Transformer as DINOv2 and 3DINO write it",
        why=_VIT,
        needs=(r"cls_token$", r"patch_embed\.proj\.", r"blocks\.0\.(0\.)?norm1\."),
    ),
    # MONAI: UNETR, ViT, ViTAutoEnc
    Unsupported(
        title="MONAI's UNETR",
        why=_VIT,
        needs=(r"vit\.patch_embedding\.", r"vit\.blocks\.0\."),
    ),
    Unsupported(
        title="MONAI's Vision Transformer",
        why=_VIT,
        needs=(r"patch_embedding\.", r"blocks\.0\.(attn|mlp)\."),
    ),
    # nnssl's PrimusV2 and V3: dynamic-network-architectures' PatchEmbed_deeper
    Unsupported(
        title="a Primus of another build, such as PrimusV2 or V3 with several convolutions before "
        "the tokens",
        why="the Primus here has one, of kernel and stride 8",
        needs=(r"eva\.blocks\.", r"down_projection\."),
        advice="take weights of Primus-M",
    ),
    # microsoft/Swin-Transformer's numbering of stages
    Unsupported(
        title="a Swin Transformer with Microsoft's names (layers.0.blocks.*)",
        why="the Swin encoders here are MONAI's (layers1.0.blocks.*), which patch images of three "
        "axes",
        needs=(r"(\w+\.)?layers\.0\.blocks\.0\.attn\.relative_position_bias_table",),
    ),
    # jianpengz/DoDNet, unet3D_DynConv882.py
    Unsupported(
        title="DoDNet's U-Net",
        why="its convolutions are standardised and normalised in groups",
        needs=(r"fusionConv\.", r"layer0\.0\."),
    ),
    # Tencent/MedicalNet, models/resnet.py; the same names in MONAI and torchvision
    Unsupported(
        title="a ResNet, such as MedicalNet's (Med3D)",
        why="its stages and batch norms are of no family here",
        needs=(r"conv1\.weight", r"bn1\.weight", r"layer1\.0\.conv1\.", r"layer4\.0\.conv1\."),
        advice=f"{_OWN_CODE}, or take an nnssl / OpenMind ResEnc",
    ),
    # MrGiovanni/ModelsGenesis, pytorch/unet3d.py; SuPreM's supervised_suprem_unet_2100.pth and the
    # CLIP-driven Universal Model have it, too
    Unsupported(
        title="the U-Net of Models Genesis, which SuPreM and the Universal Model use as well",
        why=f"{_POOLS}, and has batch norms",
        needs=(r"down_tr64\.ops\.0\.conv1\.",),
        advice="take supervised_suprem_swinunetr_2100.pth of the same data with a SwinBv1 trainer",
    ),
    # MONAI's SegResNet; SuPreM's supervised_suprem_segresnet_2100.pth
    Unsupported(
        title="MONAI's SegResNet, which SuPreM uses as well",
        why="its blocks normalise in groups before they convolve",
        needs=(r"convInit\.conv\.", r"down_layers\.0\."),
        advice="take supervised_suprem_swinunetr_2100.pth of the same data with a SwinBv1 trainer",
    ),
    # asbjrnmunk/amaes, models/networks/unet.py; fomo25/baseline-codebase has the same names
    Unsupported(
        title="the U-Net of yucca, AMAES and FOMO25's baseline",
        why=_POOLS,
        needs=(r"(encoder\.)?in_conv\.", r"(encoder\.)?encoder_conv1\."),
        advice=f"{_OWN_CODE}, or take an nnssl / OpenMind PlainConv",
    ),
    # Sllambias/asparagus, modules/networks/resenc_unet.py: ResidualEncoderUNetCLSREG
    Unsupported(
        title="a classification network of asparagus (FOMO26)",
        why="its residual blocks pool the shortcut by maximum, where the network that was "
        "pre-trained and nnU-Net's ResEnc average",
        needs=(r"encoder\.stem\.conv1\.conv\.", r"decoder\.fc\."),
        advice="take the checkpoint of the pre-training that it started from",
    ),
    # MIC-DKFZ/MedNeXt, which asbjrnmunk/amaes takes from yucca: MedNeXtDownBlock
    Unsupported(
        title="MedNeXt by its authors' names, as AMAES publishes it",
        why="its steps down widen by the factor of the level below, MONAI's, which is the one "
        "here, by that of the level above",
        needs=(r"(encoder\.)?enc_block_0\.0\.conv1\.", r"(encoder\.)?down_0\."),
    ),
    # Project-MONAI/research-contributions, DAE/Pretrain_full_contrast: PatchEmbed3D
    Unsupported(
        title="the Swin of Disruptive Autoencoders (self_supervised_nv_swin_unetr_50000.pth)",
        why="its patches are embedded by two convolutions with norms, Swin UNETR's by one without",
        needs=(r"encoder\.layers1\.0\.0\.blocks\.", r"encoder\.patch_embed\.proj\.conv1\."),
        advice="take self_supervised_nv_swin_unetr_5050.pt with a SwinBv1 trainer",
    ),
    # MONAI: DynUNet, BasicUNet
    Unsupported(
        title="MONAI's DynUNet",
        why="its blocks are named and built otherwise than nnU-Net's",
        needs=(r"input_block\.conv1\.", r"downsamples\.0\."),
    ),
    Unsupported(
        title="MONAI's BasicUNet",
        why=_POOLS,
        needs=(r"conv_0\.conv_0\.conv\.", r"down_1\.convs\."),
    ),
)


def what_is_held(tensors: "Mapping[str, Tensor]") -> Unsupported | None:
    """Return the network that a file's tensors are known to be of, None where they are not.

    Args:
        tensors: by their names without the prefixes of wrappers.
    """
    return next((row for row in UNSUPPORTED if row.matches(tensors)), None)
