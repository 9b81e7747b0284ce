"""Publishers' checkpoints: recognised by content, and read to the last tensor."""

import ast
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from monai.networks.nets.swin_unetr import SwinUNETR
from safetensors.torch import save_file

from nnunet_triad.architectures import ENCODERS, build_encoder, encoder_spec, resenc_spec
from nnunet_triad.errors import UserError
from nnunet_triad.weights import checkpoint, origins
from nnunet_triad.weights.locate import check_source, find_weights, load_weights
from nnunet_triad.weights.origins import (
    CT_WINDOW,
    NNUNET,
    ORIGINS,
    PERCENTILES,
    Origin,
    file_kinds,
    takes,
)
from nnunet_triad.weights.transfer import Shown, transfer_encoder
from tests.documents import code_block

V1 = {"family": "swin", "feature_size": 12, "use_v2": False}
V2 = {"family": "swin", "feature_size": 12, "use_v2": True}
UNET = {"family": "plainconv", "feature_size": 32}
RESENC = {"family": "resenc", "feature_size": 4, "blocks_per_stage": (1, 2, 1, 1, 1, 1)}
EXPECTED = [
    ("voco SSL head", "voco", V2),
    ("VoComni", "voco", V2),
    ("VoComni nnunet", "voco", UNET),
    ("suprem", "suprem", V1),
    ("swin_unetr_ssl", "swin_unetr_ssl", V1),
    ("swin_unetr_ssl swin_vit", "swin_unetr_ssl", V1),
    ("nnssl resenc", "nnssl", RESENC),
    ("nnssl plainconv", "nnssl", UNET),
    ("nnunet", "nnunet", UNET),
    ("Triad's authors swin", "monai", V2),
    ("Triad's authors unet", "nnunet", UNET),
    ("Triad's training swin", "triad", V2),
    ("Triad's training unet", "triad", {"family": "plainconv", "feature_size": 16}),
    ("suprem backbone", "suprem", V1),
    ("nnunet v1", "nnunet", {"family": "plainconv", "feature_size": 16}),
    ("nnunet before 2.4", "nnunet", {"family": "plainconv", "feature_size": 4}),
    ("monai", "monai", V2),
    ("monai v1", "monai", V1),
]


@pytest.mark.parametrize(("name", "source", "fields"), EXPECTED)
def test_checkpoint_is_recognised_and_fills_its_encoder(
    published: Callable[[str], Path], name: str, source: str, fields: dict
) -> None:
    weights = load_weights(published(name))
    spec = weights.info.spec
    assert weights.info.source == source
    assert {field: getattr(spec, field) for field in fields} == fields
    encoder = build_encoder(spec)
    report = transfer_encoder(encoder, weights, Shown(axes=weights.info.axes or "xyz"))
    assert report.share == report.share_of_file == 1.0
    assert report.adapted.tensors == report.fresh.tensors == report.unused.tensors == 0
    own = dict(encoder.named_parameters())
    assert all(torch.equal(own[n], tensor) for n, tensor in weights.tensors.items())


def state_in(path: Path) -> dict[str, torch.Tensor]:
    content = torch.load(path, weights_only=True)
    return content.get("state_dict", content.get("net", content))


def test_values_are_those_under_the_published_names(published: Callable[[str], Path]) -> None:
    path = published("swin_unetr_ssl")
    mine = load_weights(path).tensors["layers2.0.blocks.1.mlp.linear1.weight"]
    assert torch.equal(mine, state_in(path)["module.layers2.0.blocks.1.mlp.fc1.weight"])
    path = published("suprem")
    mine = load_weights(path).tensors["layers2.0.blocks.1.mlp.linear1.weight"]
    theirs = "module.backbone.swinViT.layers2.0.blocks.1.mlp.linear1.weight"
    assert torch.equal(mine, state_in(path)[theirs])


def test_names_of_nnunet_v1_are_those_of_the_same_layers(published: Callable[[str], Path]) -> None:
    path = published("nnunet v1")
    mine, theirs = load_weights(path), torch.load(path, weights_only=False)["state_dict"]
    assert mine.info.data_summary.endswith("nnU-Net v1's .model (conv_blocks_context.*)")
    pairs = {
        "stages.0.0.convs.1.norm.weight": "conv_blocks_context.0.blocks.1.instnorm.weight",
        "stages.4.0.convs.0.conv.weight": "conv_blocks_context.4.blocks.0.conv.weight",
        "stages.5.0.convs.0.conv.weight": "conv_blocks_context.5.0.blocks.0.conv.weight",
        "stages.5.0.convs.1.conv.bias": "conv_blocks_context.5.1.blocks.0.conv.bias",
    }
    for name, other in pairs.items():
        assert torch.equal(mine.tensors[name], theirs[other])


def test_plans_of_before_2_4_tell_strides_that_leave_no_trace_in_tensors(
    published: Callable[[str], Path],
) -> None:
    info = load_weights(published("nnunet before 2.4")).info
    assert info.spec.strides == ((1, 1, 1), (1, 2, 2), (2, 2, 2), (1, 2, 2))
    assert info.spec.kernel_sizes == ((1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3))
    assert (info.patch_size, info.spacing_mm) == ((40, 224, 192), (3.0, 0.8, 0.8))


@pytest.mark.parametrize("network", ["swin", "unet"])
def test_triad_s_training_has_what_the_release_assumed(
    published: Callable[[str], Path], network: str
) -> None:
    info = load_weights(published(f"Triad's training {network}")).info
    assert info.intensity_normalization == PERCENTILES
    assert info.licence == "MIT"
    assert "main_pretrain.py" in info.data_summary


@pytest.mark.parametrize(
    ("name", "feature_size"), [("swin_b", 48), ("swin_l", 96), ("swin_h", 192)]
)
def test_voco_s_published_shapes_are_of_the_encoder_of_that_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, feature_size: int
) -> None:
    monkeypatch.setattr(torch, "linspace", partial(torch.linspace, device="cpu"))
    monkeypatch.setattr(checkpoint, "_MAX_INFLATION", 1e6)
    with torch.device("meta"):
        network = SwinUNETR(in_channels=1, out_channels=21, feature_size=feature_size, use_v2=True)
    # one value a tensor: the shapes are those of 0.3 to 4.6 GB of weights
    state = {
        n: torch.zeros((), dtype=t.dtype).expand(t.shape) for n, t in network.state_dict().items()
    }
    torch.save(state, tmp_path / f"VoComni_{name[-1].upper()}.pt")
    info = load_weights(tmp_path / f"VoComni_{name[-1].upper()}.pt").info
    assert (info.source, info.spec) == ("voco", replace(ENCODERS[name], merging="old"))


def test_nnssl_resenc_l_has_the_published_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nnssl's ResEncL, whose plan has no arch_kwargs: get_res_enc_l of its registry."""
    monkeypatch.setattr(checkpoint, "_MAX_INFLATION", 1e6)
    with torch.device("meta"):
        encoder = build_encoder(encoder_spec("resenc"))
    state = {
        f"encoder.{n}": torch.zeros(()).expand(t.shape) for n, t in encoder.state_dict().items()
    }
    plan = {
        "architecture_plans": {"arch_class_name": "ResEncL", "arch_kwargs": None},
        "pretrain_plan": {"configurations": {"c": {"spacing": [1, 1, 1]}}},
    }
    torch.save({"network_weights": state, "nnssl_adaptation_plan": plan}, tmp_path / "c.pth")
    info = load_weights(tmp_path / "c.pth").info
    assert info.spec == encoder_spec("resenc") == resenc_spec("resenc")
    assert info.spec.blocks_per_stage == (1, 3, 4, 6, 6, 6)


def test_plan_in_the_checkpoint_tells_spacing_patch_and_normalisation(
    published: Callable[[str], Path],
) -> None:
    nnunet = load_weights(published("nnunet")).info
    assert nnunet.patch_size == (64, 96, 80)
    assert nnunet.spacing_mm == (1.5, 1.0, 1.0)
    assert nnunet.intensity_normalization == "zscore"
    nnssl = load_weights(published("nnssl resenc")).info
    assert nnssl.patch_size == (160, 160, 160)
    assert nnssl.citation == "Wald (2025)."


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ({"nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True}}, None),
        ({"norm_op_kwargs": {"eps": 1e-5, "affine": True}}, None),
        ({"nonlin_kwargs": {"negative_slope": 0.2}}, "LeakyReLU (negative_slope 0.2)"),
        ({"nonlin": "torch.nn.modules.activation.ReLU", "nonlin_kwargs": {}}, "ReLU"),
        ({"norm_op_kwargs": {"eps": 1e-3}}, "InstanceNorm3d (eps 0.001)"),
        ({"norm_op": "torch.nn.modules.batchnorm.BatchNorm3d"}, "BatchNorm3d"),
    ],
)
def test_layers_that_the_networks_here_have_otherwise_are_said(
    published: Callable[[str], Path], tmp_path: Path, layers: dict, said: str | None
) -> None:
    path = tmp_path / "checkpoint_final.pth"
    content = torch.load(published("nnunet"), weights_only=False)
    settings = content["init_args"]["plans"]["configurations"]["3d_fullres"]
    settings["architecture"]["arch_kwargs"] |= layers
    torch.save(content, path)
    found = [text for text in load_weights(path).cautions if "nnU-Net's default" in text]
    assert len(found) == (said is not None)
    assert said is None or f"its network has {said} as " in found[0]


def test_licence_of_the_source_is_kept(published: Callable[[str], Path]) -> None:
    assert load_weights(published("suprem")).info.licence == "CC BY-NC-ND 4.0"


def test_damaged_adaptation_plan_is_refused(tmp_path: Path) -> None:
    encoder = build_encoder(resenc_spec("r", (4, 8), blocks_per_stage=(1, 1)))
    state = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    torch.save({"network_weights": state, "nnssl_adaptation_plan": {}}, tmp_path / "c.pth")
    with pytest.raises(UserError, match="got one without 'pretrain_plan'"):
        load_weights(tmp_path / "c.pth")


def test_another_project_s_safetensors_is_recognised(
    published: Callable[[str], Path], tmp_path: Path
) -> None:
    state = {name: tensor.clone() for name, tensor in state_in(published("monai")).items()}
    save_file(state, tmp_path / "model.safetensors")
    assert load_weights(tmp_path / "model.safetensors").info.source == "monai"


@pytest.mark.parametrize(
    "names",
    [
        ["eva.blocks.0.attn.qkv.weight"],  # half of nnssl's Primus
        ["encoder.stages.0.0.convs.0.norm.weight"],  # no kernel, so no known architecture
        ["patch_embed.proj.weight"],
    ],
)
def test_names_without_a_rule_are_listed_with_what_would_match(
    tmp_path: Path, names: list[str]
) -> None:
    torch.save({name: torch.zeros(2, 1, 1, 1, 1) for name in names}, tmp_path / "c.pth")
    with pytest.raises(UserError, match="got the names") as error:
        load_weights(tmp_path / "c.pth")
    assert all(name in str(error.value) for name in names)
    assert all(kind.title in str(error.value) for kind in file_kinds())
    assert "\n" not in str(error.value)


def test_nnunet_s_own_checkpoint_is_nobody_s_also_with_21_classes(tmp_path: Path) -> None:
    state = SwinUNETR(in_channels=1, out_channels=21, feature_size=12, use_v2=True).state_dict()
    content = {"network_weights": state, "trainer_name": "nnUNetTrainerTriadSwinT"}
    plans = {"configurations": {}}
    torch.save({**content, "init_args": {"plans": plans}}, tmp_path / "checkpoint_final.pth")
    assert load_weights(tmp_path / "checkpoint_final.pth").info.source == NNUNET.name


@pytest.mark.parametrize(
    ("initialization", "source", "is_taken"),
    [
        ("swinunetr", "swin_unetr_ssl", True),
        ("swin_unetr_ssl", "swin_unetr_ssl", True),
        ("nnssl", "voco", False),
        ("voco", "monai", True),
        ("voco", "mine", False),
        ("monai", "voco", True),
        ("pretrained", "voco", True),
        ("mine", "voco", True),
    ],
)
def test_initialization_takes_files_of_its_publisher(
    initialization: str, source: str, is_taken: bool
) -> None:
    assert takes(initialization, source) is is_taken


def test_names_of_publishers_are_of_one_each() -> None:
    names = [name for o in ORIGINS for name in {o.name, o.initialization}]
    assert len(names) == len(set(names))
    files = [(file.encoder, file.name) for o in ORIGINS for file in o.files]
    assert len(files) == len(set(files))
    assert {encoder for encoder, _ in files} <= ENCODERS.keys()


def test_row_suffices_for_another_publisher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: dict[str, Origin] = {}
    exec(code_block("extending.md", "A checkpoint format"), names)
    row = names["BRAINLAB"]
    monkeypatch.setattr(origins, "ORIGINS", (*ORIGINS, row))
    monkeypatch.setenv("TRIAD_WEIGHTS", str(tmp_path))
    spec = encoder_spec("swin_t")
    published = build_encoder(spec)
    held = {f"module.vit.{name}": tensor for name, tensor in published.state_dict().items()}
    torch.save({"teacher_state": held}, tmp_path / "lab.ckpt")

    weights = find_weights("brainlab", spec)
    info, encoder = weights.info, build_encoder(spec)
    assert transfer_encoder(encoder, weights).share == 1.0
    assert all(
        torch.equal(a, b) for a, b in zip(encoder.parameters(), published.parameters(), strict=True)
    )
    assert (info.source, info.licence) == ("brainlab", "CC0-1.0")
    assert info.intensity_normalization == CT_WINDOW
    with pytest.raises(UserError, match="by triad, got brainlab's; use the Pretrained trainer"):
        check_source(weights, "triad", spec)


# What has a publisher's name and is something else: the file's metadata key and the figures'
# salt, a folder of nnU-Net's, registration networks, and the format that `export` writes.
_SOMETHING_ELSE = {
    ("nnunet_triad/weights/file.py", "triad"),
    ("nnunet_triad/benchmark/report/svg.py", "triad"),
    ("nnunet_triad/steps.py", "triad"),
    ("pretraining/text_embeddings.py", "triad"),
    ("registration/networks.py", "swinunetr"),
    ("nnunet_triad/architectures/families/swin.py", "swinunetr"),
    ("nnunet_triad/weights/cli.py", "nnssl"),
}


def test_publishers_are_spelled_in_their_rows_alone() -> None:
    root = Path(__file__).parents[2]
    publishers = [o for o in ORIGINS if not o.is_anonymous]  # the others are libraries' names
    names = {name for o in publishers for name in (o.name, o.initialization, o.title)}
    packages = ("nnunet_triad", "pretraining", "registration", "classification")
    found = {
        (file.relative_to(root).as_posix(), node.value)
        for package in packages
        for file in (root / package).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in names
        if file.name != "origins.py"
    }
    assert found <= _SOMETHING_ELSE
