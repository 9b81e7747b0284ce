"""TRIAD_WEIGHTS, and checkpoints as other projects publish them."""

from dataclasses import replace

import pytest
import torch
from monai.networks.nets.swin_unetr import SwinUNETR

from nnunet_triad.architectures import build_encoder, encoder_spec
from nnunet_triad.errors import UserError
from nnunet_triad.weights.file import WeightsInfo, save_weights
from nnunet_triad.weights.locate import find_weights, load_weights, read_initialization
from nnunet_triad.weights.transfer import transfer_encoder
from tests.weights.conftest import swin_unetr

SWIN_T = encoder_spec("swin_t")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIAD_WEIGHTS", str(tmp_path))
    encoder = build_encoder(SWIN_T)
    for source in ("triad", "voco"):
        info = WeightsInfo(spec=SWIN_T, source=source)
        save_weights(tmp_path / f"{source}_swin_t.safetensors", encoder, info)
    return tmp_path


@pytest.mark.parametrize("initialization", ["triad", "voco"])
def test_folder_is_searched_by_initialization_and_encoder(folder, initialization):
    weights = find_weights(initialization, SWIN_T)
    assert weights.path.name == f"{initialization}_swin_t.safetensors"


def test_folder_without_the_encoder_names_what_it_holds(folder):
    with pytest.raises(UserError, match=r"expected triad_swin_b\.safetensors.*triad_swin_t"):
        find_weights("triad", encoder_spec("swin_b"))


@pytest.mark.parametrize("value", [None, "", "  "])
def test_unset_variable_says_what_to_export(monkeypatch, value):
    monkeypatch.delenv("TRIAD_WEIGHTS", raising=False)
    if value is not None:
        monkeypatch.setenv("TRIAD_WEIGHTS", value)
    with pytest.raises(UserError, match=r"export TRIAD_WEIGHTS=.*or use a Scratch trainer"):
        find_weights("triad", SWIN_T)


def test_variable_that_points_nowhere_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("TRIAD_WEIGHTS", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="which is not there"):
        find_weights("triad", SWIN_T)


def test_file_of_another_architecture_is_refused(folder, monkeypatch):
    monkeypatch.setenv("TRIAD_WEIGHTS", str(folder / "triad_swin_t.safetensors"))
    with pytest.raises(UserError, match=r"expected weights of unet .*, got swin_t \(swin V2"):
        find_weights("triad", encoder_spec("unet"))


def test_file_of_another_project_is_refused(folder, monkeypatch):
    monkeypatch.setenv("TRIAD_WEIGHTS", str(folder / "voco_swin_t.safetensors"))
    with pytest.raises(UserError, match="pre-trained by triad, got voco's"):
        find_weights("triad", SWIN_T)


@pytest.mark.parametrize("name", ["pretrained", "mine"])
def test_name_of_nobodys_takes_a_file_of_every_project(name, folder, monkeypatch):
    monkeypatch.setenv("TRIAD_WEIGHTS", str(folder / "voco_swin_t.safetensors"))
    assert find_weights(name, SWIN_T).info.source == "voco"


def test_published_checkpoint_of_version_1_is_found_by_its_projects_name(tmp_path, monkeypatch):
    spec = encoder_spec("swin_b_v1")
    info = WeightsInfo(spec=spec, source="swin_unetr_ssl")
    save_weights(tmp_path / "swinunetr_swin_b_v1.safetensors", build_encoder(spec), info)
    monkeypatch.setenv("TRIAD_WEIGHTS", str(tmp_path))
    assert find_weights("swinunetr", spec).info.source == "swin_unetr_ssl"


def test_option_takes_a_file_or_a_name(folder):
    file = folder / "triad_swin_t.safetensors"
    by_file, by_name = (read_initialization(text, SWIN_T) for text in (str(file), "triad"))
    assert by_file.path == by_name.path == file
    assert by_file.sha256 == by_name.sha256


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no.pt", "init: expected scratch, a weights file, or a name .*, got no.pt"),
        ("suprem", "TRIAD_WEIGHTS: expected suprem_swin_t.safetensors in"),
    ],
)
def test_option_that_names_nothing_says_what_it_takes(text, message, folder):
    with pytest.raises(UserError, match=message):
        read_initialization(text, SWIN_T)


def test_option_refuses_a_file_of_another_architecture(folder):
    with pytest.raises(UserError, match="expected weights of unet"):
        read_initialization(str(folder / "triad_swin_t.safetensors"), encoder_spec("unet"))


@pytest.mark.parametrize("prefix", ["", "module.", "module.backbone."])
def test_swin_unetr_checkpoint_is_recognised_by_content(tmp_path, prefix):
    network = swin_unetr(SWIN_T, channels=2, classes=3)
    renamed = {
        prefix + name.replace("swinViT.", "swin_vit.").replace("mlp.linear", "mlp.fc"): tensor
        for name, tensor in network.state_dict().items()
    }
    torch.save({"state_dict": renamed, "epoch": 3}, tmp_path / "some_name.bin")
    weights = load_weights(tmp_path / "some_name.bin")
    assert weights.info.spec == replace(SWIN_T, merging=None)  # MONAI's names: of which version?
    assert weights.info.input_channels == 2
    report = transfer_encoder(build_encoder(SWIN_T, input_channels=2), weights)
    assert report.share == 1.0
    assert report.adapted.tensors == report.unused.tensors == 0


def test_voco_folder_with_the_published_name_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIAD_WEIGHTS", str(tmp_path))
    spec = encoder_spec("swin_b")
    network = SwinUNETR(in_channels=1, out_channels=21, feature_size=48, use_v2=True)
    torch.save(network.state_dict(), tmp_path / "VoComni_B.pt")
    weights = find_weights("voco", spec)
    assert weights.path.name == "VoComni_B.pt"
    assert weights.info.spec == replace(spec, merging="old")


def test_the_release_of_triad_s_authors_is_what_a_triad_trainer_takes(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIAD_WEIGHTS", str(tmp_path))
    names = {"unet": "Triad-PlainConvUNet-SimMIM.pth", "swin_b": "Triad-SwinB-MAE.pth"}
    prefixes = {"unet": "encoder.", "swin_b": "backbone.swinViT."}
    for encoder, name in names.items():
        state = build_encoder(encoder_spec(encoder)).state_dict()
        torch.save({prefixes[encoder] + n: t for n, t in state.items()}, tmp_path / name)
    for encoder, name in names.items():
        weights = find_weights("triad", encoder_spec(encoder))
        assert weights.path.name == name
        assert transfer_encoder(build_encoder(encoder_spec(encoder)), weights).share == 1.0


def test_unet_checkpoint_is_recognised_by_content(tmp_path):
    encoder = build_encoder(encoder_spec("unet"))
    names = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    torch.save({"network_weights": names}, tmp_path / "checkpoint.pth")
    assert load_weights(tmp_path / "checkpoint.pth").info.spec == encoder_spec("unet")


def test_checkpoint_without_encoder_names_its_first_keys(tmp_path):
    torch.save({"fc.weight": torch.zeros(3)}, tmp_path / "c.pth")
    with pytest.raises(
        UserError, match=r"got the names fc\.weight; what would match: .*nnssl.*SuPreM.*VoCo"
    ):
        load_weights(tmp_path / "c.pth")


def test_truncated_checkpoint_is_refused(tmp_path):
    torch.save({"encoder.a": torch.zeros(1000)}, tmp_path / "c.pth")
    content = (tmp_path / "c.pth").read_bytes()
    (tmp_path / "c.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="expected a whole PyTorch checkpoint"):
        load_weights(tmp_path / "c.pth")
