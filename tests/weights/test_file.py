"""The weights file: round trip, metadata, and files that are no weights file."""

import os

import pytest
import torch
from safetensors.torch import save_file

from nnunet_triad.architectures import build_encoder, encoder_spec
from nnunet_triad.errors import UserError
from nnunet_triad.weights import file as weights_file
from nnunet_triad.weights import tensor_file
from nnunet_triad.weights.file import WeightsInfo, save_weights
from nnunet_triad.weights.locate import load_weights


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    encoder = build_encoder(encoder_spec("swin_t"))
    info = WeightsInfo(
        spec=encoder_spec("swin_t"),
        patch_size=(96, 64, 32),
        spacing_mm=(1.0, 1.0, 1.5),
        pretraining_steps=7,
    )
    path = tmp_path / "triad_swin_t.safetensors"
    save_weights(path, encoder, info)
    return path, encoder, info


def test_weights_survive_the_file_bit_for_bit(saved):
    path, encoder, info = saved
    weights = load_weights(path)
    assert weights.info == info
    assert set(weights.tensors) == {name for name, _ in encoder.named_parameters()}
    for name, parameter in encoder.named_parameters():
        assert torch.equal(weights.tensors[name], parameter)


def test_saving_twice_gives_the_same_bytes(saved, tmp_path):
    path, encoder, info = saved
    save_weights(tmp_path / "again.safetensors", encoder, info)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_shared_modules_are_stored_once(tmp_path):
    encoder = build_encoder(encoder_spec("unet"))
    save_weights(tmp_path / "unet.safetensors", encoder, WeightsInfo(spec=encoder_spec("unet")))
    weights = load_weights(tmp_path / "unet.safetensors")
    assert weights.num_parameters == sum(p.numel() for p in encoder.parameters())


def test_truncated_file_is_refused(saved):
    path, *_ = saved
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(UserError, match="expected a whole safetensors file"):
        load_weights(path)


@pytest.mark.parametrize("start", [0x50, 0x80])  # as a zip archive and a pickle begin
def test_safetensors_is_recognised_whatever_the_length_of_its_header(tmp_path, start):
    path = tmp_path / "w.safetensors"
    for length in range(300):
        save_file({"a": torch.zeros(2)}, path, metadata={"note": "x" * length})
        if path.read_bytes()[0] == start:
            break
    with pytest.raises(UserError, match="expected an encoder that is known, got the names a;"):
        load_weights(path)
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(UserError, match="expected a whole safetensors file"):
        load_weights(path)


@pytest.mark.parametrize("text", ["Notes on weights\n", "PK", "version 3"])
def test_file_of_another_format_says_what_is_expected(tmp_path, text):
    path = tmp_path / "x.pt"
    path.write_text(text)
    with pytest.raises(UserError, match="PyTorch checkpoint or a safetensors file, got") as error:
        load_weights(path)
    assert text.strip()[:8] in str(error.value)
    assert "download it again" not in str(error.value)


def test_empty_file_is_refused(tmp_path):
    (tmp_path / "w.safetensors").touch()
    with pytest.raises(UserError, match="got an empty one"):
        load_weights(tmp_path / "w.safetensors")


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="got nothing at that path"):
        load_weights(tmp_path / "w.safetensors")


def test_safetensors_of_something_else_is_refused(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="expected an encoder that is known, got the names a;"):
        load_weights(tmp_path / "w.safetensors")


def test_file_of_another_format_version_is_refused(saved, monkeypatch):
    path, *_ = saved
    monkeypatch.setattr(weights_file, "FORMAT_VERSION", 2)
    with pytest.raises(UserError, match="expected 2, got 1"):
        load_weights(path)


def test_failed_write_leaves_the_old_file(saved, monkeypatch):
    path, encoder, info = saved
    before = path.read_bytes()

    def fill_the_disk(tensors, name, metadata):
        name.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", fill_the_disk)
    with pytest.raises(OSError, match="No space left"):
        save_weights(path, encoder, info)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_two_names_of_one_tensor_are_written_apart(tmp_path):
    weight = torch.arange(6.0)
    path = tmp_path / "shared.safetensors"

    tensor_file.write_tensors(path, {"a": weight, "b": weight}, key="x", text="{}")

    tensors, metadata = tensor_file.read_tensors(path)
    assert metadata == {"x": "{}"}
    torch.testing.assert_close(tensors["a"], weight)
    torch.testing.assert_close(tensors["b"], weight)
