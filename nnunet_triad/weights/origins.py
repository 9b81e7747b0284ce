"""Whose weights a file holds: one row a publisher.

A row says what the publisher's files are called, how they are recognised by their content and how
their names become this project's, whom to cite, and what the encoder took for granted of its
images. Everybody else asks here. Importing this costs nothing: no PyTorch.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

ANY_TRAINER = "Pretrained"  # the word of the trainers that take every publisher's files
UNSTATED = "see the project that published it"
# `WeightsInfo.intensity_normalization`, texts of `images.intensity.Intensity`
ZSCORE = "zscore"
MASKED_ZSCORE = "zscore-in-mask"
CT_WINDOW = "window -175 250"  # of soft tissue, in Hounsfield units, as VoCo and SuPreM
WIDE_WINDOW = "window -1000 1000"  # as Swin UNETR's authors
PERCENTILES = "percentiles 0.5 99.5"

# Keys under which checkpoints hold the state dict, tried in turn: first the moving averages that
# trainings keep beside the weights (timm, torch-ema, EMA-pytorch, MONAI, self-distillation).
AVERAGED = (
    *("state_dict_ema", "ema_state_dict", "model_ema_state_dict", "model_state_dict_ema"),
    *("model_ema", "ema_model", "averaged_model", "ema", "teacher"),
)
_WRAPPERS = (
    *("network_weights", "state_dict", "model_state_dict", "model_state"),
    *("model", "net", "network", "student"),
)
# What torch and the projects put before every name: DistributedDataParallel, torch.compile,
# and the attribute that holds the network, such as Lightning's.
_PREFIXES = ("module.", "_orig_mod.", "backbone.", "network.", "model.", "net.")
# Attention's and merging's names in Swin UNETR's first releases, and the encoder's attribute.
_SWIN_RENAMINGS = ((r"^swin_vit\.", "swinViT."), (r"\.mlp\.fc(\d)\.", r".mlp.linear\1."))
_SUPREM_HEADS = r"(precls_conv|controller|organ_embedding|text_to_vision)\b"
# The last of five convolutions that rebuild the image in Swin UNETR's pre-training.
_LAST_OF_SSL_HEAD = r"conv\.20\.weight"
_NUM_VOCOMNI_CLASSES = 21  # 20 organs and tumours, and the background


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """What an encoder took for granted of its images; None: not known, or the file says.

    Attributes:
        intensity: such as ZSCORE.
        axes: the patient axis that each axis of its arrays ran along, such as xyz or zyx.
        merging: which neighbours MONAI's patch merging joined: MONAI 1.5.0 corrected them.
        spacing_mm: of the voxels, in the order of the axes.
        input_channels: images of one subject that it saw at once.
    """

    intensity: str | None = None
    axes: str | None = None
    merging: Literal["old", "new"] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    input_channels: int | None = None


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """One file of a publisher; None: not published, or as the origin has it."""

    encoder: str  # a name of `architectures.ENCODERS`
    name: str
    url: str | None = None
    sha256: str | None = None
    size_mb: int | None = None
    licence: str | None = None
    assumes: Assumptions | None = None
    short: str = ""  # its name in the catalogue; empty: it is not in it
    data: str = ""  # what the encoder was trained on
    is_packaged: bool = False  # in `weights/data` of this package: nothing is fetched


@dataclass(frozen=True, kw_only=True)
class Content:
    """What recognition looks at: a checkpoint's own keys, and its tensors."""

    keys: frozenset[str]
    tensors: Mapping[str, "Tensor"]

    def has(self, pattern: str) -> bool:
        """Say whether any tensor's name begins with the pattern."""
        return any(re.match(pattern, name) for name in self.tensors)

    def num_outputs(self, pattern: str) -> int:
        """Return the output channels of the first tensor that the pattern finds, 0 for none."""
        found = (t for name, t in self.tensors.items() if re.match(pattern, name))
        tensor = next(found, None)
        return 0 if tensor is None else tensor.shape[0]


@dataclass(frozen=True, kw_only=True)
class FileKind:
    """How files of one kind are recognised, and what their names become.

    Names are compared after the prefixes that wrappers leave are gone, before the renamings.
    """

    title: str
    keys: frozenset[str] = frozenset()  # all of them stand beside the tensors
    needs: tuple[str, ...] = ()  # each begins some tensor's name
    lacks: tuple[str, ...] = ()  # none of them does
    classes: tuple[str, int] | None = None  # a tensor by its name, and its output channels
    wrapper: str | None = None  # the key that holds the tensors, where it is an unusual one
    renamings: tuple[tuple[str, str], ...] = ()  # patterns and what they become, in this order
    encoders: tuple[str, ...] = ("swinViT.", "encoder.", "")  # where it is, after the renamings
    is_general: bool = False  # tried after all others
    # of files of this kind, where they differ from the origin's
    assumes: Assumptions | None = None
    licence: str | None = None

    def matches(self, content: Content) -> bool:
        """Say whether a file is of this kind."""
        return (
            self.keys <= content.keys
            and all(content.has(pattern) for pattern in self.needs)
            and not any(content.has(pattern) for pattern in self.lacks)
            and (self.classes is None or content.num_outputs(self.classes[0]) == self.classes[1])
        )

    def rename(self, name: str) -> str:
        """Return what a name in such a file becomes here."""
        for pattern, replacement in self.renamings:
            name = re.sub(pattern, replacement, name)
        return name


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A publisher of encoder weights."""

    name: str  # `WeightsInfo.source`
    title: str  # as reports show it
    kinds: tuple[FileKind, ...]
    alias: str | None = None  # what users write, where it is not the name
    trainer: str = ANY_TRAINER  # the word in the names of the trainers that take its files
    files: tuple[PublishedFile, ...] = ()  # for each encoder, the first one first
    licence: str = UNSTATED
    restricts: bool = False  # whether the licence forbids something that users may want
    page: str = ""  # where the project is
    citation: str = UNSTATED
    assumes: Assumptions = Assumptions()
    # what its own loader fills beside the encoder, by MONAI's names; its trainers do so, too
    outside: tuple[str, ...] = ()
    # a library's own format, which does not say who trained the encoder: goes with every name
    is_anonymous: bool = False

    @property
    def initialization(self) -> str:
        """What users write: in `--init`, in a benchmark's runs, in the names of files."""
        return self.alias or self.name


# SHA-256 and MB of those whose pages on the hub were seen.
_OPENMIND_SEEN = {
    "ResEncL-OpenMind-MAE": (
        "7a847af785635335c00e711d16ff4d225d86ecd5992b14c059df2b520e3ee933",
        491,
    ),
    "PrimusM-OpenMind-SimCLR": (
        "39bb8cc0a5b806d19b97791d676beb450a9114ec6d8031bb412614f606ebee70",
        701,
    ),
}
NNSSL = Origin(
    name="nnssl",
    title="OpenMind",
    kinds=(
        FileKind(
            title="nnssl / OpenMind (nnssl_adaptation_plan)",
            keys=frozenset({"nnssl_adaptation_plan"}),
            needs=(r"encoder\.stages\.",),
            encoders=("encoder.",),
        ),
        FileKind(
            title="nnssl / OpenMind, Primus (nnssl_adaptation_plan, eva.*)",
            keys=frozenset({"nnssl_adaptation_plan"}),
            needs=(r"eva\.blocks\.", r"down_projection\."),
            encoders=("",),
        ),
    ),
    citation="Wald et al., Revisiting MAE Pre-training for 3D Medical Image Segmentation, "
    "CVPR 2025 (arXiv:2410.23132); An OpenMind for 3D Medical Vision Self-supervised "
    "Learning, ICCV 2025 (arXiv:2412.17041)",
    files=tuple(
        PublishedFile(
            encoder=encoder,
            name=f"{repository}.pth",
            url=f"hf://AnonRes/{repository}/checkpoint_final.pth",
            sha256=_OPENMIND_SEEN.get(repository, (None, None))[0],
            size_mb=_OPENMIND_SEEN.get(repository, (None, None))[1],
            short=f"openmind-{repository.replace('-OpenMind', '')}".lower(),
            data="114,000 brain MRI",
            licence="CC BY 4.0",
        )
        for encoder, network, objectives in (
            ("resenc", "ResEncL", ("MAE", "VF", "SimCLR")),
            ("primus_m", "PrimusM", ("MAE", "SimMIM", "VF", "MG", "SimCLR")),
        )
        for repository in (f"{network}-OpenMind-{objective}" for objective in objectives)
    ),
    page="https://huggingface.co/AnonRes",
    assumes=Assumptions(intensity=ZSCORE, axes="zyx"),
)
SWIN_UNETR_SSL = Origin(
    name="swin_unetr_ssl",
    alias="swinunetr",
    title="SwinUNETR",
    kinds=(
        FileKind(
            title="Swin UNETR SSL (mlp.fc1, or rotation_head.* and contrastive_head.*)",
            needs=(r"(swin_vit\.|swinViT\.)?layers1\.0\.blocks\.\d+\.(mlp\.fc1|attn)\.",),
            lacks=(
                *(r"swin(ViT|_vit)\.layers1c\.", r"layers1c\."),
                *(r"decoder1\.", r"encoder10\.", _SUPREM_HEADS),
            ),
            renamings=_SWIN_RENAMINGS,
        ),
    ),
    files=(
        PublishedFile(
            encoder="swin_b_v1",
            name="self_supervised_nv_swin_unetr_5050.pt",
            short="swinunetr-ssl",
            data="5,050 CT",
            sha256="8dc39e511328ec842f13cb0b84da7e9304ef3656173512fa422653b5e64d90e0",
            size_mb=256,
            url="hf://MrGiovanni/SuPreM/self_supervised_nv_swin_unetr_5050.pt",
        ),
    ),
    licence="Apache-2.0",
    page="https://github.com/Project-MONAI/research-contributions",
    citation="Tang et al., Self-Supervised Pre-Training of Swin Transformers for 3D Medical "
    "Image Analysis, CVPR 2022",
    # SwinUNETR/Pretrain: main.py (a_min, a_max), utils/data_utils.py (Orientationd RAS, no
    # resampling), requirements.txt (MONAI a23c7f54, of 2022)
    assumes=Assumptions(intensity=WIDE_WINDOW, axes="xyz", merging="old", input_channels=1),
)
BRAINSEGFOUNDER = Origin(
    name="brainsegfounder",
    title="BrainSegFounder",
    kinds=(
        FileKind(
            title="BrainSegFounder, UK Biobank (swinViT.*, rotation_head.*, two images)",
            needs=(r"swinViT\.layers1\.0\.", r"rotation_head\."),
            lacks=(r"decoder1\.",),
            classes=(_LAST_OF_SSL_HEAD, 2),
        ),
        FileKind(
            title="BrainSegFounder, BraTS (swinViT.*, rotation_head.*, four images)",
            needs=(r"swinViT\.layers1\.0\.", r"rotation_head\."),
            lacks=(r"decoder1\.",),
            classes=(_LAST_OF_SSL_HEAD, 4),
            assumes=Assumptions(intensity=WIDE_WINDOW, axes="xyz", merging="old", input_channels=4),
        ),
        # its loader resizes, and leaves intensities as they are (downstream/ATLAS/pretrain.py)
        FileKind(
            title="BrainSegFounder, ATLAS (swinViT.*, rotation_pre.*)",
            needs=(r"swinViT\.layers1\.0\.", r"rotation_pre\."),
            assumes=Assumptions(axes="xyz", merging="old", input_channels=1),
        ),
    ),
    files=tuple(
        PublishedFile(
            encoder="swin_b_v1",
            name=f"model_weights_{data}-pretrain.pt",
            url=f"hf://smilelab/BrainSegFounder/model_weights_{data}-pretrain.pt",
            short=f"brainsegfounder-{data.lower()}",
            data={"UKB": "T1 and FLAIR of UK Biobank"}.get(data, f"UK Biobank, then {data}"),
        )
        for data in ("UKB", "BRATS", "ATLAS")
    ),
    licence="UK Biobank material transfer agreement, as its page on the hub says",
    restricts=True,
    page="https://huggingface.co/smilelab/BrainSegFounder",
    citation="Cox et al., BrainSegFounder: Towards 3D foundation models for neuroimage "
    "segmentation, Medical Image Analysis 2024 (arXiv:2406.10395)",
    # pretrain/: main_T1T2.py (a_min, a_max), utils/data_utils.py (Orientationd RAS; T1 and FLAIR
    # of UK Biobank in MNI space at 1 mm); downstream/ATLAS/README.md (MONAI 1.3.0)
    assumes=Assumptions(
        intensity=WIDE_WINDOW,
        axes="xyz",
        merging="old",
        spacing_mm=(1.0, 1.0, 1.0),
        input_channels=2,
    ),
)
FOMO = Origin(
    name="fomo",
    title="FOMO",
    kinds=(
        # Its classification networks, of the same names, pool the shortcuts by maximum: they are
        # told by their last layer.
        FileKind(
            title="FOMO / asparagus, ResEnc (encoder.stem.conv1.*, norm_op.*)",
            needs=(
                r"encoder\.stem\.conv1\.conv\.",
                r"encoder\.stages\.0\.blocks\.0\.conv1\.norm_op\.",
            ),
            lacks=(r"decoder\.fc\.",),
            renamings=(
                (r"^encoder\.stem\.conv1\.", "encoder.stem.convs.0."),
                (r"\.norm_op\.", ".norm."),
            ),
            encoders=("encoder.",),
        ),
    ),
    files=(
        PublishedFile(
            encoder="resenc",
            name="AMAES_resenc_b_fomo300k.ckpt",
            url="hf://FOMO-MRI/AMAES_resenc_b_fomo300k",
            short="fomo-resenc-b",
            data="300,000 brain MRI",
        ),
    ),
    page="https://huggingface.co/FOMO-MRI/AMAES_resenc_b_fomo300k",
    citation="A large-scale heterogeneous 3D magnetic resonance brain imaging dataset for "
    "self-supervised learning, 2025 (arXiv:2506.14432); Munk et al., AMAES: Augmented Masked "
    "Autoencoder Pretraining on Public Brain MRI Data for 3D-Native Segmentation, 2024 "
    "(arXiv:2408.00640)",
    # asparagus, modules/transforms/presets/pretrain.py (each whole volume);
    # asparagus_preprocessing, configs/preprocessing_presets.py (RAS, as nibabel reads; one at
    # 1 mm, one as acquired)
    assumes=Assumptions(intensity=ZSCORE, axes="xyz", input_channels=1),
)
SUPREM = Origin(
    name="suprem",
    title="SuPreM",
    kinds=(
        FileKind(
            title="SuPreM, Swin UNETR V1 (swinViT.* beside precls_conv.*, controller.*)",
            needs=(r"swinViT\.", _SUPREM_HEADS),
            renamings=_SWIN_RENAMINGS,
        ),
        # its own Swin UNETR has no `out`, which MONAI's has
        FileKind(
            title="SuPreM, swinunetr_backbone.pth (swinViT.* and decoder1.*, without out.*)",
            needs=(r"swinViT\.layers1\.0\.", r"decoder1\."),
            lacks=(r"swinViT\.layers1c\.", r"out\."),
        ),
    ),
    files=(
        PublishedFile(
            encoder="swin_b_v1",
            name="supervised_suprem_swinunetr_2100.pth",
            short="suprem-swinunetr",
            data="2,100 CT with labels of 25 structures",
            sha256="b1672096465974502ccd5e2f2e5fce2ce214d6fb9848b23fc24f7b8888ffb4a3",
            size_mb=759,
            url="hf://MrGiovanni/SuPreM/supervised_suprem_swinunetr_2100.pth",
        ),
    ),
    licence="CC BY-NC-ND 4.0",
    restricts=True,
    page="https://github.com/MrGiovanni/SuPreM",
    citation="Li, Yuille and Zhou, How Well Do Supervised Models Transfer to 3D Image "
    "Segmentation?, ICLR 2024",
    # benchmark_backbones/: train.py (a_min, a_max, space_*), dataset/dataloader_bdmap.py
    # (Orientationd RAS), requirements.txt (MONAI 0.9.0)
    assumes=Assumptions(
        intensity=CT_WINDOW,
        axes="xyz",
        merging="old",
        spacing_mm=(1.5, 1.5, 1.5),
        input_channels=1,
    ),
)
NNUNET = Origin(
    name="nnunet",
    title="nnU-Net",
    is_anonymous=True,
    kinds=(
        FileKind(
            title="nnU-Net's checkpoint_*.pth (trainer_name, init_args)",
            keys=frozenset({"trainer_name", "init_args"}),
            needs=(r"(encoder|swinViT)\.",),
        ),
        # Generic_UNet: the bottleneck's two convolutions are stages of their own there
        FileKind(
            title="nnU-Net v1's .model (conv_blocks_context.*)",
            needs=(r"conv_blocks_context\.0\.blocks\.0\.conv\.",),
            renamings=(
                (r"^conv_blocks_context\.(\d+)\.blocks\.(\d+)\.", r"stages.\1.0.convs.\2."),
                (r"^conv_blocks_context\.(\d+)\.(\d+)\.blocks\.0\.", r"stages.\1.0.convs.\2."),
                (r"\.instnorm\.", ".norm."),
            ),
            encoders=("",),
        ),
        FileKind(
            title="a state dict of nnU-Net's PlainConvUNet or ResidualEncoderUNet "
            "(encoder.stages.*)",
            needs=(r"(encoder\.)?stages\.0\.(0\.convs|blocks)\.0\.",),
            encoders=("encoder.", ""),
            is_general=True,
        ),
    ),
    citation="Isensee et al., nnU-Net: a self-configuring method for deep learning-based "
    "biomedical image segmentation, Nature Methods 2021",
)
# Sizes and hashes as the hub's pages show them.
_VOCO_HASHES = {
    "VoComni_nnunet.pt": "0d921e0fd153028042531d9967cd6d6f8b80970345b914208965a3b6e0c0caea",
    "VoCo_B_SSL_head.pt": "06664b629e73a25aacfaf9e0dd3f2df36f93a9f60f0bf8cf4d8b5cc95cd01298",
    "VoComni_B.pt": "b3b3e2710eb5c8f08f0e0b54eb0791537f70efc95f725b83d8bb0389ab0dc4a6",
    "VoCo_L_SSL_head.pt": "47d3646523d93c42d6ed2ada3fc20735af5e414f940b10b910a38ac8db025aec",
    "VoComni_L.pt": "03c43e26df671b1036cae55d0fc0e09c1d837b1f1e09928ac62f6fdc2672f63a",
    "VoCo_H_SSL_head.pt": "a88216d079191bf7c81319ab468e0f45a0c2e7d3eb46f5964f34a3e1e6a6f4a3",
    "VoComni_H.pt": "6863af6b5a1f05a2650c867418bb25b30dc951ae63153caa317aac14632bb47a",
}
_VOCO_FILES = (
    ("unet", "VoComni_nnunet.pt", 125),
    ("swin_b", "VoCo_B_SSL_head.pt", 220),
    ("swin_b", "VoComni_B.pt", 299),
    ("swin_l", "VoCo_L_SSL_head.pt", 856),
    ("swin_l", "VoComni_L.pt", 1169),
    ("swin_h", "VoCo_H_SSL_head.pt", 3397),
    ("swin_h", "VoComni_H.pt", 4651),
)
VOCO = Origin(
    name="voco",
    title="VoCo",
    trainer="VoCo",
    kinds=(
        FileKind(
            title="VoCo, SSL head (swinViT.*, encoder1..4, encoder10, no decoder)",
            needs=(r"swin(ViT|_vit)\.layers1c\.", r"encoder10\."),
            lacks=(r"decoder1\.",),
            renamings=_SWIN_RENAMINGS,
        ),
        FileKind(
            title="VoCo, omni-supervised (swinViT.* beside student.*, teacher.*)",
            needs=(r"swin(ViT|_vit)\.layers1c\.", r"(student|teacher)\."),
            renamings=_SWIN_RENAMINGS,
        ),
        FileKind(
            title="VoComni, Swin UNETR V2 with 21 classes",
            needs=(r"swinViT\.layers1c\.", r"decoder1\."),
            classes=(r"out\.conv\.conv\.weight", _NUM_VOCOMNI_CLASSES),
            renamings=_SWIN_RENAMINGS,
        ),
        FileKind(
            title="VoComni, nnU-Net's PlainConvUNet with 21 classes",
            needs=(r"encoder\.stages\.0\.0\.convs\.",),
            classes=(r"decoder\.seg_layers\.\d+\.weight", _NUM_VOCOMNI_CLASSES),
        ),
    ),
    files=tuple(
        PublishedFile(
            encoder=encoder,
            name=name,
            url=f"hf://Luffy503/VoCo/{name}",
            sha256=_VOCO_HASHES[name],
            size_mb=size_mb,
            short=name.removesuffix(".pt").removesuffix("_SSL_head").replace("_", "-").lower(),
            data="160,000 CT",
            licence="Apache-2.0",
        )
        for encoder, name, size_mb in _VOCO_FILES
    ),
    page="https://github.com/Luffy03/Large-Scale-Medical",
    citation="Wu et al., Large-Scale 3D Medical Image Pre-training with Geometric Context "
    "Priors, 2024 (arXiv:2410.09890)",
    outside=("encoder1.", "encoder2.", "encoder3.", "encoder4.", "encoder10."),
    # {Self,Omni}-supervised/ and VoComni/: utils/data_trans.py and data_utils.py (Orientationd RAS,
    # Spacingd 1.5 mm, ScaleIntensityRanged; chests -1000..500 at 1.25 x 1.25 x 5 mm);
    # requirements.txt (MONAI 1.3.0)
    assumes=Assumptions(
        intensity=CT_WINDOW,
        axes="xyz",
        merging="old",
        spacing_mm=(1.5, 1.5, 1.5),
        input_channels=1,
    ),
)
# What the paper's authors released in 2026: their encoders, which by their content are anybody's,
# and what their main_pretrain.py writes. Neither axes nor MONAI's version are stated there.
_RELEASE = Assumptions(intensity=PERCENTILES, input_channels=1)
_RELEASE_LICENCE = "MIT"
_RELEASED_FILES = tuple(
    PublishedFile(
        encoder=encoder,
        name=f"Triad-{network}-{objective}.pth",
        url=f"https://drive.google.com/file/d/{number}",
        licence=_RELEASE_LICENCE,
        assumes=_RELEASE,
        short=f"triad-{encoder.replace('_', '')}-{objective.lower()}",
        data="131,170 MRI",
    )
    for encoder, network, objective, number in (
        ("unet", "PlainConvUNet", "MAE", "1Mc5owEFhWkroe5Hjnk7Ex8v6Z-aBKF3U"),
        ("unet", "PlainConvUNet", "SimMIM", "1EkrYbuNI64yi1_Yl4JZUM5yZ5K0mHzR3"),
        ("swin_b", "SwinB", "MAE", "1F_6TNrCxPyqk-bPzXj0HHLxFy9mbNzjl"),
        ("swin_b", "SwinB", "SimMIM", "1icLjmSpTdEAA9kEW3BWHnAYv-hsXMYxS"),
    )
)
TRIAD = Origin(
    name="triad",
    title="Triad",
    trainer="Triad",
    kinds=(
        FileKind(
            title="a checkpoint of triad-pretrain",
            keys=frozenset({"settings", "data_fingerprint", "model"}),
            needs=(r"encoder\.",),
            encoders=("encoder.",),
        ),
        FileKind(
            title="Triad's main_pretrain.py, Swin (encoder.swinViT.*, encoder.mask_token)",
            needs=(r"encoder\.swinViT\.", r"encoder\.mask_token$"),
            encoders=("encoder.swinViT.",),
            assumes=_RELEASE,
            licence=_RELEASE_LICENCE,
        ),
        FileKind(
            title="Triad's main_pretrain.py, U-Net (encoder.encoder.*, encoder.mask_token_vol)",
            needs=(r"encoder\.encoder\.stages\.", r"encoder\.mask_token_vol$"),
            encoders=("encoder.encoder.",),
            assumes=_RELEASE,
            licence=_RELEASE_LICENCE,
        ),
    ),
    files=(
        PublishedFile(
            encoder="unet_4",
            name="triad-mini.safetensors",
            sha256="a55ca29f881c7f92a46cdf0554d42224a52061a56ca9d0c63841c8bf77e89f36",
            size_mb=2,
            licence="CC BY-SA 4.0",
            short="triad-mini",
            data="188 MRI of hippocampi (MSD Task04), by this project",
            is_packaged=True,
        ),
        *_RELEASED_FILES,
    ),
    licence="",
    page="https://github.com/wangshansong1/Triad",
    citation="Wang et al., Vision foundation model for 3D magnetic resonance imaging segmentation, "
    "classification, and registration, Medical Image Analysis 110, 2026 (arXiv:2502.14064)",
    assumes=Assumptions(intensity=ZSCORE, axes="xyz", merging="new", input_channels=1),
)
MONAI = Origin(
    name="monai",
    title="MONAI",
    is_anonymous=True,
    kinds=(
        FileKind(
            title="a state dict of MONAI's SwinUNETR or SwinTransformer (swinViT.*)",
            needs=(r"((swinViT|swin_vit)\.)?patch_embed\.proj\.weight",),
            renamings=_SWIN_RENAMINGS,
            is_general=True,
        ),
        FileKind(
            title="a state dict of MONAI's MedNeXt (enc_stages.*)",
            needs=(r"enc_stages\.0\.0\.conv1\.",),
            encoders=("",),
            is_general=True,
        ),
    ),
)

# The first kind that matches is taken, the general ones last; reports keep this order, too.
ORIGINS: tuple[Origin, ...] = (
    *(NNSSL, FOMO, BRAINSEGFOUNDER, SWIN_UNETR_SSL, SUPREM, NNUNET, VOCO, TRIAD, MONAI),
)


def find_origin(name: str) -> Origin | None:
    """Return the publisher that files or users call so, None for nobody's (`scratch`, `mine`)."""
    return next((o for o in ORIGINS if name in (o.name, o.initialization)), None)


def trainer_word(name: str) -> str:
    """Return the word in the names of the trainers that take a publisher's files."""
    origin = find_origin(name)
    return origin.trainer if origin else ANY_TRAINER


def trainer_words() -> tuple[str, ...]:
    """Return the words that the names of this project's trainers begin with."""
    return ("Scratch", *dict.fromkeys(origin.trainer for origin in ORIGINS))


def fills_outside(initialization: str) -> bool:
    """Say whether a publisher's loader fills more of a network than its encoder."""
    origin = find_origin(initialization)
    return origin is not None and bool(origin.outside)


def takes(initialization: str, source: str) -> bool:
    """Say whether an initialisation takes a file: one of its publisher, or an anonymous one.

    Args:
        initialization: a publisher's name; any other (`pretrained`, a user's own) takes every file.
        source: as `WeightsInfo.source` has it.
    """
    wanted, found = find_origin(initialization), find_origin(source)
    if wanted is None or wanted.is_anonymous:
        return True
    return found is not None and (found is wanted or found.is_anonymous)


def file_names(initialization: str, encoder: str) -> tuple[str, ...]:
    """Return the names that are looked for in a folder of weights, the first one first.

    Args:
        initialization: such as `triad`.
        encoder: such as `swin_b`.
    """
    return (f"{initialization}_{encoder}.safetensors", *published_names(initialization, encoder))


def published_names(initialization: str, encoder: str) -> tuple[str, ...]:
    """Return the names under which a publisher publishes an encoder, the first one first."""
    return tuple(file.name for file in _published(initialization, encoder))


def published_at(initialization: str, encoder: str) -> tuple[str, ...]:
    """Return where a publisher's files for an encoder can be had, the first one first."""
    return tuple(file.url for file in _published(initialization, encoder) if file.url)


def _published(initialization: str, encoder: str) -> list[PublishedFile]:
    origin = find_origin(initialization)
    return [file for file in origin.files if file.encoder == encoder] if origin else []


def wrappers() -> tuple[str, ...]:
    """Return the keys under which checkpoints hold their tensors, in the order of trial."""
    return (*AVERAGED, *_WRAPPERS, *(kind.wrapper for _, kind in _kinds() if kind.wrapper))


def strip_prefixes(name: str) -> str:
    """Return a tensor's name without what wrappers of the network put before it."""
    while name.startswith(_PREFIXES):
        name = name.split(".", 1)[1]
    return name


def recognise(content: Content) -> tuple[Origin, FileKind] | None:
    """Return whose a file is and of which kind, None where no kind matches."""
    return next((found for found in _kinds() if found[1].matches(content)), None)


def file_kinds() -> tuple[FileKind, ...]:
    """Return all kinds of files, in the order in which they are tried."""
    return tuple(kind for _, kind in _kinds())


def _kinds() -> Iterator[tuple[Origin, FileKind]]:
    for is_general in (False, True):
        for origin in ORIGINS:
            yield from ((origin, k) for k in origin.kinds if k.is_general is is_general)
