"""A family that this file alone knows gets trainers, weights files and all tasks by itself."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from classification.model import Classifier, cam_layer, two_layer_head
from classification.settings import TrainSettings
from nnunet_triad.architectures import build_encoder, encoder_spec
from nnunet_triad.architectures.families import ENCODERS, FAMILIES, NETWORKS, register
from nnunet_triad.errors import UserError
from nnunet_triad.weights.export import export_nnssl
from nnunet_triad.weights.file import WeightsInfo, save_weights
from nnunet_triad.weights.locate import load_weights
from pretraining.network import PretrainNetwork
from pretraining.settings import PretrainSettings
from registration.networks import RegistrationNetwork
from tests.documents import code_block


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Register the family, and forget it afterwards."""
    for known in (FAMILIES, ENCODERS, NETWORKS):
        for key, value in list(known.items()):
            monkeypatch.setitem(known, key, value)
    names = {"__name__": __name__}
    exec(code_block("extending.md", "An architecture"), names)
    register(names["Toy"]())
    yield
    for known, key in ((FAMILIES, "toy"), (ENCODERS, "toy_s"), (NETWORKS, "ToyS")):
        del known[key]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file of the encoder."""
    path = tmp_path / "triad_toy_s.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(4)
        encoder = build_encoder(encoder_spec("toy_s"))
        save_weights(path, encoder, WeightsInfo(spec=encoder_spec("toy_s"), licence="MIT"))
    return path


def test_trainers_have_its_names_and_settings_and_train(
    make_trainer, make_batch, weights, monkeypatch
):
    monkeypatch.setenv("TRIAD_WEIGHTS", str(weights.parent))
    trainer = make_trainer("nnUNetTrainerTriadToyS_llrd", is_shortened=False)
    assert (trainer.num_epochs, trainer.initial_lr) == (7, 2e-3)
    trainer.on_train_start()
    assert trainer.transfer_report["fresh"]["tensors"] == 0
    assert type(trainer.optimizer).__name__ == "AdamW"
    assert [group["name"] for group in trainer.optimizer.param_groups] == [
        *("decoder", "encoder level 1", "encoder level 0")
    ]
    trainer.on_train_epoch_start()
    assert trainer.train_step(make_batch(trainer))["loss"] == pytest.approx(0, abs=10)


def test_weights_file_and_checkpoint_are_read_back(weights, make_trainer, tmp_path):
    held = load_weights(weights)
    assert held.info.spec == encoder_spec("toy_s")
    trainer = make_trainer("nnUNetTrainerScratchToyS")
    trainer.initialize()
    path = tmp_path / "checkpoint_final.pth"
    trainer.save_checkpoint(str(path))
    again = load_weights(path)
    assert again.info.spec == encoder_spec("toy_s")
    assert again.tensors.keys() == held.tensors.keys()


def test_export_to_nnssl_says_that_it_cannot(weights, tmp_path):
    with pytest.raises(UserError, match=r"got toy_s \(toy\); keep it as safetensors"):
        export_nnssl(load_weights(weights), tmp_path / "w.pth")


def test_pretraining_takes_it():
    settings = PretrainSettings(encoder="toy_s", crop_size=(16, 8, 8), objective_name="masked")
    assert settings.learning_rate == 3e-4
    network = PretrainNetwork(settings.objective, encoder_spec("toy_s"))
    image = torch.randn(2, 1, 16, 8, 8)
    is_masked = torch.zeros(2, 2, 1, 1, dtype=torch.bool)
    outputs = network({"image": image, "is_masked": is_masked})
    assert outputs["reconstruction"].shape == image.shape
    assert outputs["embedding"].shape == (2, 8)
    outputs["reconstruction"].abs().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_classification_takes_it():
    settings = TrainSettings(encoder="toy_s")
    assert (settings.epochs, settings.encoder_rate) == (7, 1)
    model = Classifier(encoder_spec("toy_s"), two_layer_head(8, 3), input_channels=2)
    model(torch.randn(2, 2, 32, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.get_submodule(cam_layer(model.spec)) is model.encoder.coarse


def test_registration_takes_it():
    network = RegistrationNetwork("transmorph_toy_s")
    assert network(*torch.rand(2, 1, 1, 9, 8, 12)).shape == (1, 3, 9, 8, 12)


def test_encoder_without_a_pyramid_is_refused_by_registration_in_one_line():
    with pytest.raises(UserError, match=re.escape("got primus_m (primus, 1 level); use one of")):
        RegistrationNetwork("transmorph_primus_m")
