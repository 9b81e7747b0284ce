"""Make the references, with the publishers' own code in a folder outside of this repository.

    PYTHONPATH=MONAI python -m tests.weights.references.make --code FOLDER [NAME ...]

FOLDER holds a checkout a publisher, under the names in `COMMITS`; MONAI is a folder with the
package, in version 1.3.0 or 1.6.1, and yucca 1.1.7 for AMAES. References of the other version are
left as they are.
"""

import argparse
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.nnunet_plans import REQUIRES_IMPORT, layers
from tests.weights.references import (
    Reference,
    StoredTensor,
    image_of,
    positions,
    save,
    seeded_tensor,
)

# folder -> repository, commit
COMMITS = {
    "voco": ("Luffy03/Large-Scale-Medical", "1ad538b"),
    "suprem": ("MrGiovanni/SuPreM", "76e1a64"),
    "contributions": ("Project-MONAI/research-contributions", "21ed8e5"),
    "brainsegfounder": ("lab-smile/BrainSegFounder", "c58e9e6"),
    "nnssl": ("MIC-DKFZ/nnssl", "7044864"),
    "triad": ("wangshansong1/Triad", "e499a4b"),
    "amaes": ("asbjrnmunk/amaes", "a51df88"),
    "gardening_tools": ("Sllambias/gardening_tools", "4addbd6"),
}
OLD, NEW = "1.3.0", "1.6.1"  # of MONAI: before and since its patch merging was corrected
Features = Mapping[str, Tensor]
_SMALL = (64, 32, 32)
_ARGUMENTS = {"spatial_dims": 3, "dropout_path_rate": 0.0, "use_checkpoint": False}
_FIRST_NAMES = (("mlp.linear", "mlp.fc"),)  # of Swin UNETR's first release


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one reference is made."""

    publisher: str
    folder: str | None  # of COMMITS; None: a library's own class
    monai: str
    build: Callable[[], nn.Module]
    features: Callable[[Any, Tensor], Features]
    size: tuple[int, int, int] = _SMALL
    channels: int = 1
    wrapper: str | None = "state_dict"
    beside: Mapping[str, Any] = field(default_factory=dict)
    rename: Callable[[str], str | None] = lambda name: name  # None: not in the file
    note: str = ""


class Code:
    """The publishers' code; modules of equal names in two checkouts are kept apart."""

    folder: Path = Path()

    @classmethod
    def module(cls, place: str, name: str) -> ModuleType:
        """Import a publisher's module from a folder of its checkout."""
        path = str(cls.folder / place)
        top = name.split(".", 1)[0]
        for known in [n for n in sys.modules if n == top or n.startswith(f"{top}.")]:
            del sys.modules[known]
        sys.path.insert(0, path)
        try:
            return import_module(name)
        finally:
            sys.path.remove(path)


def levels(features: Iterable[Tensor]) -> dict[str, Tensor]:
    """Name an encoder's features by their level."""
    return {str(level): feature for level, feature in enumerate(features)}


def of_swin(network: Any, image: Tensor) -> Features:
    """The hidden states of the transformer."""
    return levels(network.swinViT(image))


def of_unetr(network: Any, image: Tensor) -> Features:
    """The hidden states, and what the convolution blocks beside the transformer make of them."""
    hidden = network.swinViT(image)
    blocks = {
        "encoder1": image,
        "encoder2": hidden[0],
        "encoder3": hidden[1],
        "encoder4": hidden[2],
        "encoder10": hidden[4],
    }
    outputs = {name: getattr(network, name)(given) for name, given in blocks.items()}
    return {**levels(hidden), **outputs}


def of_encoder(network: Any, image: Tensor) -> Features:
    """The encoder's own list."""
    return levels(network.encoder(image))


def swin_unetr(version: str, **arguments: Any) -> nn.Module:
    """MONAI's network; version 1.3 still asks for a size."""
    from monai.networks.nets import SwinUNETR

    size: dict[str, Any] = {"img_size": (32, 32, 32)} if version == OLD else {}
    return SwinUNETR(in_channels=1, **size, **arguments)


def of_triad_swin(network: Any, image: Tensor) -> Features:
    """The hidden states; the bottleneck is what their own forward gives without a mask."""
    hidden = network.encoder.swinViT(image)
    bottleneck, _ = network.encoder(image, None, "")
    torch.testing.assert_close(bottleneck, hidden[4])
    return levels(hidden)


def suprem() -> nn.Module:
    """SuPreM's network, whose width is fixed."""
    whole = Code.module("suprem/direct_inference", "model.Universal_model")
    return whole.Universal_model((96, 96, 96), 1, 25, "swinunetr", "rand_embedding")


def ssl_head(place: str, **arguments: Any) -> nn.Module:
    """The pre-training network of Swin UNETR's authors, and those of BrainSegFounder."""
    head = Code.module(place, "models.ssl_head")
    values = Namespace(**{"in_channels": 1, **_ARGUMENTS, **arguments})
    width = arguments["feature_size"]
    return head.SSLHead(values, dim=16 * width)


def brainsegfounder(width: int, depth: int, heads: int, channels: int) -> nn.Module:
    """As `--feature_size --num_swin_block --num_heads_first_stage --in_channels` say it."""
    return ssl_head(
        "brainsegfounder/pretrain",
        feature_size=width,
        bottleneck_depth=16 * width,
        num_swin_blocks_per_stage=[2, 2, depth, 2],
        num_heads_per_stage=[heads * 2**level for level in range(4)],
        in_channels=channels,
    )


def atlas_head() -> nn.Module:
    """BrainSegFounder's second stage on ATLAS, which has a class of its own."""
    head = Code.module("brainsegfounder/downstream/ATLAS", "models.ssl_head")
    return head.SSLHead(3, 1, 12, 0.0, 0.0, False, [2, 2, 2, 2], [3, 6, 12, 24], dim=192)


def voco(recipe: str, width: int) -> nn.Module:
    """VoCo's network of one of its recipes of pre-training."""
    head = Code.module(f"voco/{recipe}", "models.voco_head")
    more = {"feature_size": width, "in_channels": 1, "out_channels": 21}
    return head.VoCoHead(Namespace(**_ARGUMENTS, **more))


def voco_unet() -> nn.Module:
    """VoComni's nnU-Net."""
    return Code.module("voco/VoComni", "models.PlainConvUNet_load").get_Plain_nnUNet(1, 21)


def triad(model_type: str, embed_dim: int = 12) -> nn.Module:
    """The network of Triad's script of pre-training."""
    module = Code.module("triad", "simmim_advanced")
    if model_type == "unet_ssl_as_encoder":
        return module.SimMIMSkip_light(1, 1, module.UNetEncoderForMAE())
    encoder = module.SwinTransformerSkipForSimMIM(embed_dim)
    return module.SimMIMSkip_light(1, 1, encoder, feature_size=16 * embed_dim)


def nnssl_unet(arch: str) -> nn.Module:
    """nnssl's network of a plan, narrow; of OpenMind's depths where residual."""
    made = Code.module("nnssl/src", "nnssl.architectures.get_network_from_plan")
    class_path = f"dynamic_network_architectures.architectures.unet.{arch}"
    return made.get_network_from_plans(class_path, unet_arguments(arch), REQUIRES_IMPORT, 1, 1)


def unet_arguments(arch: str) -> dict[str, Any]:
    """The arguments as nnssl's adaptation plan writes them."""
    is_residual = arch == "ResidualEncoderUNet"
    first = [3, 3, 3] if is_residual else [1, 3, 3]
    count = "n_blocks_per_stage" if is_residual else "n_conv_per_stage"
    return {
        "n_stages": 6,
        "features_per_stage": [8, 16, 32, 48, 64, 64],
        "kernel_sizes": [first, *[[3, 3, 3]] * 5],
        "strides": [[1, 1, 1], [1, 2, 2] if not is_residual else [2, 2, 2], *[[2, 2, 2]] * 4],
        count: [1, 3, 4, 6, 6, 6] if is_residual else [2] * 6,
        "n_conv_per_stage_decoder": [1] * 5,
        **layers(),
    }


def nnssl_primus() -> nn.Module:
    """nnssl's masked autoencoder on Primus, narrow."""
    made = Code.module("nnssl/src", "nnssl.architectures.evaMAE_module")
    return made.EvaMAE(
        1, 144, (8, 8, 8), 1, 2, 2, 1, 2, (32, 32, 32), init_values=0.1, scale_attn_inner=True
    )


def of_primus(network: Any, image: Tensor) -> Features:
    """Tokens in nnssl's order, back on their grid."""
    tokens = network.down_projection(image)
    b, c, w, h, d = tokens.shape
    sequence = tokens.permute(0, 3, 2, 4, 1).reshape(b, h * w * d, c)
    found, _ = network.eva(sequence)
    return {"0": found.reshape(b, h, w, d, c).permute(0, 4, 2, 1, 3)}


def library_unet(residual: bool) -> nn.Module:
    """nnU-Net's network, narrow."""
    from dynamic_network_architectures.architectures import unet

    count = "n_blocks_per_stage" if residual else "n_conv_per_stage"
    return (unet.ResidualEncoderUNet if residual else unet.PlainConvUNet)(
        1,
        6,
        [4, 8, 16, 24, 32, 32],
        nn.Conv3d,
        3,
        [1, 2, 2, 2, 2, 2],
        num_classes=2,
        n_conv_per_stage_decoder=1,
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        **{count: [1, 3, 4, 6, 6, 6] if residual else 2},
    )


def amaes_mednext() -> nn.Module:
    """AMAES's MedNeXt of size M with its light decoder, on yucca's blocks."""
    module = Code.module("amaes/src", "models.networks.mednext")
    return module.mednext_m3_lw_dec(1, 1, reconstruction=True)


def fomo_resenc() -> nn.Module:
    """FOMO300K's network, asparagus's resenc_unet_b, narrow."""
    module = Code.module("gardening_tools", "gardening_tools.modules.networks.resunet")
    return module.ResidualEncoderUNet(
        dimensions="3D",
        input_channels=1,
        output_channels=1,
        kernel_size=3,
        stride=2,
        features_per_stage=(8, 16, 32, 48, 64, 64),
        n_blocks_per_stage=(1, 3, 4, 6, 6, 6),
        n_conv_per_stage_decoder=(1,) * 5,
        use_skip_connections=False,
    )


def monai_mednext() -> nn.Module:
    """MONAI's MedNeXt of size S."""
    from monai.networks.nets.mednext import MedNeXtS

    return MedNeXtS(spatial_dims=3, in_channels=1, out_channels=2)


def of_mednext(network: Any, image: Tensor) -> Features:
    """As MONAI's forward begins."""
    feature, found = network.stem(image), []
    for stage, down in zip(network.enc_stages, network.down_blocks, strict=True):
        found.append(stage(feature))
        feature = down(found[-1])
    return levels([*found, network.bottleneck(feature)])


def prefixed(prefix: str, renamings: Iterable[tuple[str, str]] = ()) -> Callable[[str], str]:
    """Names behind a prefix."""

    def rename(name: str) -> str:
        for old, new in renamings:
            name = name.replace(old, new)
        return prefix + name

    return rename


def only(part: str, prefix: str, renamings: Iterable[tuple[str, str]] = ()) -> Any:
    """Names of one part of a network, without the part's own name, behind a prefix."""

    def rename(name: str) -> str | None:
        inner = name.removeprefix(part)
        return None if inner == name else prefixed(prefix, renamings)(inner)

    return rename


def nnssl_plan(arch: str) -> dict[str, Any]:
    """What nnssl keeps beside the weights."""
    is_unet = arch.endswith("UNet")
    configuration = {
        "spacing": [1, 1, 1],
        "patch_size": [160, 160, 160],
        "normalization_schemes": ["ZScoreNormalization"],
    }
    return {
        "trainer_name": "BaseEvaMAETrainer" if arch.startswith("Primus") else "BaseMAETrainer",
        "nnssl_adaptation_plan": {
            "architecture_plans": {
                "arch_class_name": arch,
                "arch_kwargs": unet_arguments(arch) if is_unet else None,
                "arch_kwargs_requiring_import": REQUIRES_IMPORT if is_unet else None,
            },
            "pretrain_plan": {"configurations": {"onemmiso": configuration}},
            "pretrain_num_input_channels": 1,
            "recommended_downstream_patchsize": [160, 160, 160],
            "key_to_encoder": "eva" if arch.startswith("Primus") else "encoder.stages",
            "key_to_stem": "down_projection" if arch.startswith("Primus") else "encoder.stem",
            "keys_to_in_proj": ["encoder.stem.convs.0.conv", "encoder.stem.convs.0.all_modules.0"],
        },
    }


_TRAINING = {"epoch": 9, "scaler": {}, "args": {"Namespace": {"lr": 1e-4, "model_type": "mae"}}}
RECIPES: dict[str, Recipe] = {
    "voco_ssl_head": Recipe(
        publisher="VoCo, SSL head",
        folder="voco",
        monai=OLD,
        build=lambda: voco("Self-supervised", 12),
        features=lambda network, image: of_unetr(network.backbone, image),
        rename=prefixed("module."),
        beside={"global_step": 1},
    ),
    "voco_ssl_head_b": Recipe(
        publisher="VoCo, SSL head, Swin-B",
        folder="voco",
        monai=OLD,
        build=lambda: voco("Self-supervised", 48),
        features=lambda network, image: of_unetr(network.backbone, image),
        rename=prefixed("module."),
    ),
    "voco_omni": Recipe(
        publisher="VoCo, omni-supervised",
        folder="voco",
        monai=OLD,
        build=lambda: voco("Omni-supervised", 12),
        features=lambda network, image: of_unetr(network.backbone, image),
        wrapper=None,
    ),
    "vocomni": Recipe(
        publisher="VoComni, Swin",
        folder=None,
        monai=OLD,
        build=lambda: swin_unetr(OLD, feature_size=12, use_v2=True, out_channels=21),
        features=of_unetr,
        note="VoComni/main.py builds MONAI's SwinUNETR",
    ),
    "vocomni_nnunet": Recipe(
        publisher="VoComni, nnU-Net",
        folder="voco",
        monai=OLD,
        build=voco_unet,
        features=of_encoder,
        size=(64, 32, 96),
        wrapper="network_weights",
    ),
    "suprem": Recipe(
        publisher="SuPreM, whole",
        folder="suprem",
        monai=OLD,
        build=suprem,
        features=lambda network, image: of_swin(network.backbone, image),
        wrapper="net",
        rename=prefixed("module."),
        beside={"epoch": 2100},
    ),
    "suprem_backbone": Recipe(
        publisher="SuPreM, backbone",
        folder="suprem",
        monai=OLD,
        build=suprem,
        features=lambda network, image: of_swin(network.backbone, image),
        wrapper="net",
        rename=only("backbone.", "module."),
    ),
    "swin_unetr_ssl": Recipe(
        publisher="Swin UNETR SSL",
        folder="contributions",
        monai=OLD,
        build=lambda: ssl_head("contributions/SwinUNETR/Pretrain", feature_size=12),
        features=of_swin,
        rename=only("swinViT.", "module.", _FIRST_NAMES),
        note="model_swinvit.pt: the transformer alone, by the names that MONAI's load_from reads",
    ),
    "swin_unetr_ssl_head": Recipe(
        publisher="Swin UNETR SSL, with heads",
        folder="contributions",
        monai=OLD,
        build=lambda: ssl_head("contributions/SwinUNETR/Pretrain", feature_size=12),
        features=of_swin,
        rename=prefixed("module."),
        beside={"global_step": 1},
    ),
    "brainsegfounder_ukb": Recipe(
        publisher="BrainSegFounder, UK Biobank",
        folder="brainsegfounder",
        monai=OLD,
        build=lambda: brainsegfounder(12, 2, 3, 2),
        features=of_swin,
        channels=2,
        rename=prefixed("module."),
        beside={"global_step": 1},
    ),
    "brainsegfounder_brats_deep": Recipe(
        publisher="BrainSegFounder, BraTS, depths 2 2 6 2",
        folder="brainsegfounder",
        monai=OLD,
        build=lambda: brainsegfounder(16, 6, 4, 4),
        features=of_swin,
        channels=4,
        rename=prefixed("module."),
    ),
    "brainsegfounder_atlas": Recipe(
        publisher="BrainSegFounder, ATLAS",
        folder="brainsegfounder",
        monai=OLD,
        build=atlas_head,
        features=of_swin,
        wrapper=None,
    ),
    "nnssl_resenc": Recipe(
        publisher="OpenMind, ResEnc",
        folder="nnssl",
        monai=NEW,
        build=lambda: nnssl_unet("ResidualEncoderUNet"),
        features=of_encoder,
        size=(64, 64, 96),
        wrapper="network_weights",
        beside=nnssl_plan("ResidualEncoderUNet"),
    ),
    "nnssl_plainconv": Recipe(
        publisher="OpenMind, PlainConv",
        folder="nnssl",
        monai=NEW,
        build=lambda: nnssl_unet("PlainConvUNet"),
        features=of_encoder,
        size=(64, 64, 96),
        wrapper="network_weights",
        beside=nnssl_plan("PlainConvUNet"),
    ),
    "nnssl_primus": Recipe(
        publisher="OpenMind, Primus MAE",
        folder="nnssl",
        monai=NEW,
        build=nnssl_primus,
        features=of_primus,
        size=(32, 32, 32),
        wrapper="network_weights",
        beside=nnssl_plan("PrimusM"),
    ),
    "triad_script_swin": Recipe(
        publisher="Triad's authors, script, Swin",
        folder="triad",
        monai=NEW,
        build=lambda: triad("swin_skip2"),
        features=of_triad_swin,
        wrapper="model",
        beside=_TRAINING,
        note="MONAI's version is not known",
    ),
    "triad_script_unet": Recipe(
        publisher="Triad's authors, script, U-Net",
        folder="triad",
        monai=NEW,
        build=lambda: triad("unet_ssl_as_encoder"),
        features=lambda network, image: levels(network.encoder(image, None, "")[1]),
        size=(64, 32, 96),
        wrapper="model",
        beside=_TRAINING,
    ),
    "triad_release_swin": Recipe(
        publisher="Triad's authors, release, Swin",
        folder="triad",
        monai=NEW,
        build=lambda: triad("swin_skip2"),
        features=of_triad_swin,
        wrapper=None,
        rename=only("encoder.swinViT.", "backbone.swinViT."),
        note="names as QuickStart.py loads them; MONAI's version is not known",
    ),
    "monai_old_v1": Recipe(
        publisher="MONAI 1.3.0, V1",
        folder=None,
        monai=OLD,
        build=lambda: swin_unetr(OLD, feature_size=12, use_v2=False, out_channels=3),
        features=of_swin,
        wrapper=None,
    ),
    "monai_old_v2": Recipe(
        publisher="MONAI 1.3.0, V2",
        folder=None,
        monai=OLD,
        build=lambda: swin_unetr(OLD, feature_size=12, use_v2=True, out_channels=3),
        features=of_swin,
        wrapper=None,
    ),
    "monai_new_v1": Recipe(
        publisher="MONAI 1.6.1, V1",
        folder=None,
        monai=NEW,
        build=lambda: swin_unetr(NEW, feature_size=12, use_v2=False, out_channels=3),
        features=of_swin,
        wrapper=None,
    ),
    "monai_new_v2": Recipe(
        publisher="MONAI 1.6.1, V2",
        folder=None,
        monai=NEW,
        build=lambda: swin_unetr(NEW, feature_size=12, use_v2=True, out_channels=3),
        features=of_swin,
        wrapper=None,
    ),
    "monai_mednext": Recipe(
        publisher="MONAI 1.6.1, MedNeXt-S",
        folder=None,
        monai=NEW,
        build=monai_mednext,
        features=of_mednext,
        size=(32, 16, 48),
        wrapper=None,
    ),
    "amaes_mednext": Recipe(
        publisher="AMAES, MedNeXt-M",
        folder="amaes",
        monai=NEW,
        build=amaes_mednext,
        features=of_encoder,
        size=(32, 16, 48),
        rename=prefixed("model."),
        beside={"pytorch-lightning_version": "2.3.1", "epoch": 99},
    ),
    "fomo_resenc": Recipe(
        publisher="FOMO, ResEnc",
        folder="gardening_tools",
        monai=NEW,
        build=fomo_resenc,
        features=of_encoder,
        size=(64, 32, 96),
        rename=prefixed("model._orig_mod."),
        beside={
            "epoch": 99,
            "global_step": 1890,
            "pytorch-lightning_version": "2.5.5",
            "hyper_parameters": {"learning_rate": 1e-4, "optimizer": "AdamW"},
        },
        note="asparagus/modules/networks/resenc_unet.py builds it",
    ),
    "nnunet_plainconv": Recipe(
        publisher="nnU-Net, PlainConvUNet",
        folder=None,
        monai=NEW,
        build=lambda: library_unet(residual=False),
        features=of_encoder,
        size=(64, 32, 96),
        wrapper=None,
    ),
    "nnunet_resenc": Recipe(
        publisher="nnU-Net, ResidualEncoderUNet",
        folder=None,
        monai=NEW,
        build=lambda: library_unet(residual=True),
        features=of_encoder,
        size=(64, 32, 96),
        wrapper=None,
    ),
}


def make(name: str, recipe: Recipe) -> Reference:
    """Build the publisher's network, fill it, run it."""
    network = recipe.build().eval()
    stored: list[StoredTensor] = []
    firsts: dict[int, str] = {}  # the first name of values that have several
    values: dict[str, Tensor] = {}
    for own, tensor in network.state_dict(keep_vars=True).items():
        is_float = tensor.is_floating_point()
        key = recipe.rename(own)
        first = firsts.setdefault(id(tensor), key or own)
        if is_float:
            values[own] = seeded_tensor(first, tuple(tensor.shape))
        if key is not None:
            stored.append(
                StoredTensor(
                    name=key,
                    shape=tuple(tensor.shape),
                    is_float=is_float,
                    same_as=None if first == key else first,
                )
            )
    network.load_state_dict(values, strict=False)
    shape = (recipe.channels, *recipe.size)
    with torch.no_grad():
        features = recipe.features(network, image_of(shape))
    return Reference(
        name=name,
        publisher=recipe.publisher,
        made_with=_versions(recipe, network),
        wrapper=recipe.wrapper,
        beside=recipe.beside,
        tensors=tuple(stored),
        image_shape=shape,
        features={level: _kept(feature) for level, feature in features.items()},
        norms={level: float(f.double().square().mean().sqrt()) for level, f in features.items()},
    )


def _kept(feature: Tensor) -> np.ndarray:
    flat = feature.flatten().numpy()
    return flat[positions(flat.size)]


def _versions(recipe: Recipe, network: nn.Module) -> dict[str, str]:
    import importlib.metadata

    import monai

    library = importlib.metadata.version("dynamic_network_architectures")
    versions = {
        "class": f"{type(network).__module__}.{type(network).__qualname__}",
        "monai": monai.__version__,
        "torch": torch.__version__,
        "dynamic-network-architectures": library,
    }
    if recipe.folder:
        versions["repository"], versions["commit"] = COMMITS[recipe.folder]
    return {**versions, **({"note": recipe.note} if recipe.note else {})}


def main() -> None:
    """Make the references of one version of MONAI, or those that are named."""
    import monai

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="of RECIPES; all of them without any")
    parser.add_argument("--code", type=Path, required=True, help="folder of the checkouts")
    arguments = parser.parse_args()
    Code.folder = arguments.code
    for name, recipe in RECIPES.items():
        if recipe.monai == monai.__version__ and name in (arguments.names or RECIPES):
            save(make(name, recipe))
            print(name, flush=True)


if __name__ == "__main__":
    main()
