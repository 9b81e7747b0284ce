"""Weights in other formats: our safetensors, nnssl's checkpoint, a repository on the hub."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from huggingface_hub import HfApi, ModelCard
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from nnunet_triad.architectures import (
    build_encoder,
    encoder_spec,
    family_of,
    plainconv_spec,
    resenc_spec,
)
from nnunet_triad.errors import UserError
from nnunet_triad.weights.export import convert, export_nnssl
from nnunet_triad.weights.file import EncoderWeights, WeightsInfo, encoder_tensors, save_weights
from nnunet_triad.weights.locate import find_weights, load_weights
from nnunet_triad.weights.sharing import push

CHANNELS = (4, 8, 16, 24)
SPECS = {
    "plainconv": plainconv_spec("small", CHANNELS, kernel_sizes=((1, 3, 3),) + ((3, 3, 3),) * 3),
    "resenc": resenc_spec("small", CHANNELS, blocks_per_stage=(1, 2, 1, 3)),
}
NETWORKS = {"plainconv": PlainConvUNet, "resenc": ResidualEncoderUNet}


@pytest.fixture
def make_weights(tmp_path: Path) -> Callable[[str], EncoderWeights]:
    def make(family: str) -> EncoderWeights:
        torch.manual_seed(0)
        info = WeightsInfo(
            spec=SPECS[family], patch_size=(96, 64, 80), spacing_mm=(1.0, 1.0, 1.0), licence="X"
        )
        save_weights(tmp_path / "w.safetensors", build_encoder(SPECS[family]), info)
        return load_weights(tmp_path / "w.safetensors")

    return make


def build_downstream(plan: dict[str, Any], input_channels: int) -> torch.nn.Module:
    """The network that nnU-Net builds from the plan that its preprocessing takes over."""
    architecture = plan["architecture_plans"]
    return get_network_from_plans(
        architecture["arch_class_name"],
        architecture["arch_kwargs"],
        architecture["arch_kwargs_requiring_import"],
        input_channels,
        2,
        allow_init=True,
        deep_supervision=False,
    )


@pytest.mark.parametrize("input_channels", [1, 4])
@pytest.mark.parametrize("family", SPECS)
def test_nnssl_file_loads_strictly_as_nnunet_s_pretrained_trainer_does(
    make_weights: Callable[[str], EncoderWeights], tmp_path: Path, family: str, input_channels: int
) -> None:
    weights, path = make_weights(family), tmp_path / "c.pth"
    export_nnssl(weights, path, input_channels=input_channels)
    content = torch.load(path, weights_only=True)
    plan = content["nnssl_adaptation_plan"]
    network = build_downstream(plan, input_channels)
    assert isinstance(network, NETWORKS[family])
    # the places by which the library itself names the encoder, the stem and its projection
    assert plan["key_to_encoder"] == network.key_to_encoder
    assert plan["key_to_stem"] == network.key_to_stem
    assert set(plan["keys_to_in_proj"]) == set(network.keys_to_in_proj)
    for key in (plan["key_to_encoder"], plan["key_to_stem"]):
        state = content["network_weights"]
        part = {n.removeprefix(f"{key}."): t for n, t in state.items() if n.startswith(f"{key}.")}
        network.get_submodule(key).load_state_dict(part, strict=True)
    filled = encoder_tensors(network.encoder)
    for name, tensor in weights.tensors.items():
        expected = tensor
        if name == family_of(SPECS[family]).stem_weight:
            expected = tensor.repeat(1, input_channels, 1, 1, 1) / input_channels
        torch.testing.assert_close(filled[name], expected)
    assert plan["pretrain_num_input_channels"] == input_channels


def test_nnssl_plan_is_json_with_every_field_of_its_dataclasses(
    make_weights: Callable[[str], EncoderWeights], tmp_path: Path
) -> None:
    export_nnssl(make_weights("resenc"), tmp_path / "c.pth")
    plan = torch.load(tmp_path / "c.pth", weights_only=True)["nnssl_adaptation_plan"]
    assert json.loads(json.dumps(plan)) == plan
    (configuration,) = plan["pretrain_plan"]["configurations"].values()
    assert configuration.keys() == {
        "data_identifier",
        "preprocessor_name",
        "spacing_style",
        "normalization_schemes",
        "use_mask_for_norm",
        "resampling_fn_data",
        "resampling_fn_data_kwargs",
        "resampling_fn_mask",
        "resampling_fn_mask_kwargs",
        "spacing",
        "patch_size",
    }
    assert configuration["patch_size"] == plan["recommended_downstream_patchsize"] == [96, 64, 80]


@pytest.mark.parametrize(
    ("spacing_mm", "style"),
    [((1.0, 1.0, 1.0), "onemmiso"), ((0.8, 0.9, 1.4), "median"), (None, "noresample")],
)
def test_nnssl_plan_has_the_spacing_of_the_file(
    make_weights: Callable[[str], EncoderWeights], tmp_path: Path, spacing_mm: Any, style: str
) -> None:
    weights = make_weights("resenc")
    weights = replace(weights, info=replace(weights.info, spacing_mm=spacing_mm))
    export_nnssl(weights, tmp_path / "c.pth")
    plan = torch.load(tmp_path / "c.pth", weights_only=True)["nnssl_adaptation_plan"]
    (configuration,) = plan["pretrain_plan"]["configurations"].values()
    assert configuration["spacing_style"] == style
    assert configuration["spacing"] == (spacing_mm and list(spacing_mm))
    assert load_weights(tmp_path / "c.pth").info.spacing_mm == spacing_mm


@pytest.mark.parametrize("family", SPECS)
def test_nnssl_file_read_again_is_the_same_encoder(
    make_weights: Callable[[str], EncoderWeights], tmp_path: Path, family: str
) -> None:
    weights = make_weights(family)
    export_nnssl(weights, tmp_path / "c.pth")
    again = load_weights(tmp_path / "c.pth")
    assert again.info.source == "nnssl"
    assert again.info.spec.to_dict() == {**SPECS[family].to_dict(), "name": family}
    assert again.info.patch_size == (96, 64, 80)
    assert weights.info.citation in again.info.citation
    assert "Licence of the weights: X" in again.info.citation
    assert all(torch.equal(again.tensors[n], t) for n, t in weights.tensors.items())


def test_swin_is_not_exported_to_nnssl(published: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a PlainConv or ResEnc encoder"):
        export_nnssl(load_weights(published("monai")), tmp_path / "c.pth")
    assert not (tmp_path / "c.pth").exists()


@pytest.mark.parametrize("name", ["suprem", "nnssl resenc", "nnunet"])
def test_converted_file_keeps_tensors_source_licence_and_citation(
    published: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    source = load_weights(published(name))
    convert(source, tmp_path / "w.safetensors")
    again = load_weights(tmp_path / "w.safetensors")
    assert again.info == source.info
    assert again.tensors.keys() == source.tensors.keys()
    assert all(torch.equal(again.tensors[n], t) for n, t in source.tensors.items())


def test_conversion_adapts_the_stem_to_the_channels(
    make_weights: Callable[[str], EncoderWeights], tmp_path: Path
) -> None:
    weights = make_weights("resenc")
    convert(weights, tmp_path / "four.safetensors", input_channels=4)
    four = load_weights(tmp_path / "four.safetensors")
    stem = family_of(SPECS["resenc"]).stem_weight
    assert four.info.input_channels == four.tensors[stem].shape[1] == 4
    torch.testing.assert_close(four.tensors[stem].sum(1, keepdim=True), weights.tensors[stem])


def test_conversion_replaces_no_other_file(
    published: Callable[[str], Path], make_weights: Callable[[str], EncoderWeights], tmp_path: Path
) -> None:
    output = tmp_path / "out" / "w.safetensors"
    convert(make_weights("resenc"), output)
    before = output.read_bytes()
    convert(make_weights("resenc"), output)  # the same once more
    with pytest.raises(UserError, match="expected no file of that name, got another one; remove"):
        convert(load_weights(published("monai")), output)
    with pytest.raises(UserError, match="expected no file of that name, got another one; remove"):
        convert(make_weights("resenc"), output, input_channels=2)
    assert output.read_bytes() == before
    assert list(output.parent.iterdir()) == [output]


@pytest.mark.parametrize(("write", "name"), [(convert, "w.pth"), (export_nnssl, "w.safetensors")])
def test_wrong_ending_is_refused(
    make_weights: Callable[[str], EncoderWeights], tmp_path: Path, write: Callable, name: str
) -> None:
    with pytest.raises(UserError, match=f"OUTPUT: expected NAME.*got {name}"):
        write(make_weights("resenc"), tmp_path / "out" / name)


class FakeHub:
    """Takes the place of HfApi's two calls, and keeps what is uploaded."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.created: dict[str, Any] = {}

    def create_repo(self, repo_id: str, **arguments: Any) -> None:
        self.created = {"repo_id": repo_id, **arguments}

    def upload_folder(self, *, repo_id: str, folder_path: str, **arguments: Any) -> None:
        self.files = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}


@pytest.fixture
def fake_hub(monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    hub = FakeHub()
    monkeypatch.setattr(
        HfApi, "create_repo", lambda _, *args, **more: hub.create_repo(*args, **more)
    )
    monkeypatch.setattr(HfApi, "upload_folder", lambda _, **more: hub.upload_folder(**more))
    return hub


def test_push_uploads_the_file_and_a_card_with_licence_and_citation(
    published: Callable[[str], Path], tmp_path: Path, fake_hub: FakeHub
) -> None:
    weights = load_weights(published("suprem"))
    name = push(weights, "someone/brains", is_private=True)
    assert name == "hf://someone/brains/suprem_swin.safetensors"
    assert fake_hub.created == {"repo_id": "someone/brains", "private": True, "exist_ok": True}
    assert fake_hub.files.keys() == {"README.md", "suprem_swin.safetensors"}
    card = ModelCard(fake_hub.files["README.md"].decode())
    assert card.data.license == "cc-by-nc-nd-4.0"
    assert weights.info.citation in card.text
    (tmp_path / "w.safetensors").write_bytes(fake_hub.files["suprem_swin.safetensors"])
    uploaded = load_weights(tmp_path / "w.safetensors")
    assert uploaded.sha256 in card.text
    assert uploaded.info == weights.info


def test_pushed_file_has_the_name_that_a_training_looks_for(
    published: Callable[[str], Path], tmp_path: Path, fake_hub: FakeHub
) -> None:
    weights = load_weights(published("swin_unetr_ssl"))
    name = push(weights, "someone/brains").rsplit("/", 1)[1]
    (tmp_path / name).write_bytes(fake_hub.files[name])
    found = find_weights("swinunetr", weights.info.spec, place=str(tmp_path))
    assert found.info == weights.info


def test_push_of_unknown_licence_needs_one(
    published: Callable[[str], Path], fake_hub: FakeHub
) -> None:
    weights = load_weights(published("monai"))
    with pytest.raises(UserError, match=r"expected weights whose licence is known.*--licence"):
        push(weights, "someone/brains")
    assert not fake_hub.files
    push(weights, "someone/brains", licence="MIT-like")
    card = ModelCard(fake_hub.files["README.md"].decode())
    assert (card.data.license, card.data.license_name) == ("other", "MIT-like")


def test_push_of_own_weights_without_a_licence_needs_one(tmp_path: Path, fake_hub: FakeHub) -> None:
    path = tmp_path / "triad_small.safetensors"
    save_weights(path, build_encoder(SPECS["resenc"]), WeightsInfo(spec=SPECS["resenc"]))
    with pytest.raises(UserError, match=r"whose licence is known, got triad's.*--licence"):
        push(load_weights(path), "someone/brains")
    push(load_weights(path), "someone/brains", licence="Apache-2.0")
    assert ModelCard(fake_hub.files["README.md"].decode()).data.license == "apache-2.0"


def test_export_of_weights_without_a_licence_says_so(tmp_path: Path) -> None:
    path = tmp_path / "triad_small.safetensors"
    save_weights(path, build_encoder(SPECS["resenc"]), WeightsInfo(spec=SPECS["resenc"]))
    export_nnssl(load_weights(path), tmp_path / "c.pth")
    assert "Licence of the weights: not stated" in load_weights(tmp_path / "c.pth").info.citation


def test_refusal_of_the_hub_is_one_line(
    published: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("401 Unauthorized\nlong explanation")

    monkeypatch.setattr(HfApi, "create_repo", refuse)
    with pytest.raises(UserError, match="got: 401 Unauthorized; log in") as error:
        push(load_weights(published("suprem")), "someone/brains")
    assert "\n" not in str(error.value)


def test_trainer_in_the_card_is_one_that_takes_the_file(
    published: Callable[[str], Path], fake_hub: FakeHub
) -> None:
    push(load_weights(published("VoComni nnunet")), "a/b", licence="MIT")
    assert b"-tr nnUNetTrainerVoCoUNet" in fake_hub.files["README.md"]
    assert encoder_spec("unet").name == "unet"
