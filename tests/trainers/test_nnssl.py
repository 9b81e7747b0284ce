"""nnssl's residual encoders in nnU-Net's trainers, of the planned depth and of another one."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet
from torch import nn

from nnunet_triad.errors import UserError
from nnunet_triad.trainers.base import TriadTrainer, bare_network
from nnunet_triad.weights.file import encoder_tensors
from nnunet_triad.weights.transfer import find_encoder

DEEPER = (1, 3, 4, 6)


def encoder_of(trainer: TriadTrainer) -> torch.nn.Module:
    return find_encoder(bare_network(trainer.network))


def planned(architecture: dict[str, Any], blocks: tuple[int, ...]) -> dict[str, Any]:
    """A plan's architecture with another number of residual blocks in each stage."""
    other = deepcopy(architecture)
    other["arch_kwargs"]["n_blocks_per_stage"] = list(blocks)
    return other


def seeded_network(arguments: dict[str, Any]) -> ResidualEncoderUNet:
    """The library's network of a plan's arguments, with norms that do something."""
    layers = {"conv_op": nn.Conv3d, "norm_op": nn.InstanceNorm3d, "nonlin": nn.LeakyReLU}
    network = ResidualEncoderUNet(input_channels=1, num_classes=1, **{**arguments, **layers})
    random = torch.Generator().manual_seed(3)
    for parameter in network.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.2 * torch.randn(parameter.shape, generator=random)
    return network


@pytest.fixture
def architecture(make_trainer) -> dict[str, Any]:
    """What the ResEnc planner writes for the trainers of these tests."""
    trainer = make_trainer("nnUNetTrainerScratchResEncL", network="ResidualEncoderUNet")
    return trainer.configuration_manager.configuration["architecture"]


@pytest.fixture
def openmind(
    architecture: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ResidualEncoderUNet:
    """nnssl's network of a deeper plan, and TRIAD_WEIGHTS set to its checkpoint."""
    arguments = planned(architecture, DEEPER)["arch_kwargs"]
    network = seeded_network(arguments)
    plan = {
        "architecture_plans": {
            "arch_class_name": "ResidualEncoderUNet",
            "arch_kwargs": arguments,
            "arch_kwargs_requiring_import": ["conv_op", "norm_op", "nonlin"],
        },
        "pretrain_plan": {
            "configurations": {
                "onemmiso": {
                    "spacing": [1, 1, 1],
                    "normalization_schemes": ["ZScoreNormalization"],
                }
            }
        },
    }
    content = {"network_weights": network.state_dict(), "nnssl_adaptation_plan": plan}
    torch.save(content, tmp_path / "openmind.pth")
    monkeypatch.setenv("TRIAD_WEIGHTS", str(tmp_path / "openmind.pth"))
    return network


def test_deeper_resenc_computes_the_same_on_a_plan_of_its_depth(
    make_trainer, architecture: dict[str, Any], openmind: ResidualEncoderUNet
) -> None:
    trainer = make_trainer(
        "nnUNetTrainerPretrainedResEncL",
        network="ResidualEncoderUNet",
        architecture=planned(architecture, DEEPER),
    )
    trainer.on_train_start()
    report = trainer.transfer_report
    assert report["loaded"]["tensors"] == len(encoder_tensors(encoder_of(trainer)))
    assert [report[what]["tensors"] for what in ("adapted", "fresh", "unused")] == [0, 0, 0]
    image = torch.randn(1, 1, 32, 16, 64, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        features = encoder_of(trainer).eval()(image)
        expected = openmind.encoder.eval()(image)
    assert len(features) == len(expected) == len(DEEPER)
    for feature, wanted in zip(features, expected, strict=True):
        torch.testing.assert_close(feature, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("blocks", [(2, 2, 2, 2), (1, 3, 4, 8), (1, 3, 4, 3)])
def test_deeper_resenc_is_refused_on_a_plan_of_another_depth(
    make_trainer,
    architecture: dict[str, Any],
    openmind: ResidualEncoderUNet,
    blocks: tuple[int, ...],
) -> None:
    trainer = make_trainer(
        "nnUNetTrainerPretrainedResEncL",
        network="ResidualEncoderUNet",
        architecture=planned(architecture, blocks),
    )
    wanted = " ".join(map(str, blocks))
    with pytest.raises(
        UserError,
        match=rf"expected blocks_per_stage {wanted}, as the network has, got 1 3 4 6",
    ) as error:
        trainer.on_train_start()
    assert "\n" not in str(error.value)
    assert "openmind.pth" in str(error.value)


def test_resenc_of_the_default_plan_starts_from_a_file_of_nnssl(
    make_trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = make_trainer("nnUNetTrainerScratchResEncL", num_channels=2)
    scratch.initialize()
    plan = {
        "architecture_plans": {"arch_class_name": "ResEncL", "arch_kwargs": None},
        "pretrain_plan": {"configurations": {"onemmiso": {"spacing": [1, 1, 1]}}},
    }
    state = {n: torch.full_like(t, 0.5) for n, t in scratch.network.state_dict().items()}
    content = {"network_weights": state, "nnssl_adaptation_plan": plan}
    torch.save(content, tmp_path / "openmind.pth")
    monkeypatch.setenv("TRIAD_WEIGHTS", str(tmp_path / "openmind.pth"))
    trainer = make_trainer("nnUNetTrainerPretrainedResEncL", num_channels=1)
    trainer.on_train_start()
    values = {
        float(p.unique()) for n, p in encoder_of(trainer).named_parameters() if "stem" not in n
    }
    assert values == {0.5}
    assert trainer.transfer_report["source"] == "nnssl"
    assert list(trainer.transfer_report["adaptations"]) == ["stem.convs.0.conv.weight"]
