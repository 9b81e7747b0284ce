"""One call: what it changes, what it leaves alone, and its switch."""

import pytest
import torch
from torch import nn

from nnunet_triad.architectures import build_encoder, build_network, encoder_spec
from nnunet_triad.architectures.cpu import accelerate
from nnunet_triad.architectures.cpu.channels_last import ChannelsLastConv3d

CPU, META = torch.device("cpu"), torch.device("meta")


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """How often freed memory was asked to stay."""
    calls: list[bool] = []
    monkeypatch.setattr(accelerate, "keep_all_freed_memory", lambda: calls.append(True))
    return calls


def swin_unetr() -> nn.Module:
    return build_network(encoder_spec("swin_t"), input_channels=1, output_channels=2)


def is_prepared(network: nn.Module) -> bool:
    return any(isinstance(module, ChannelsLastConv3d) for module in network.modules())


@pytest.mark.parametrize(("device", "num_kept"), [(CPU, 1), (META, 0), (None, 0)])
def test_memory_is_kept_on_a_cpu_alone(
    kept: list[bool], device: torch.device | None, num_kept: int
) -> None:
    network = swin_unetr()
    names = list(network.state_dict())
    accelerate.accelerate_on_cpu(nn.Sequential(network), device)
    assert is_prepared(network)
    assert list(network.state_dict()) == names
    assert len(kept) == num_kept


def test_other_networks_keep_their_modules(kept: list[bool]) -> None:
    network = build_encoder(encoder_spec("swin_t"))
    before = [type(module) for module in network.modules()]
    accelerate.accelerate_on_cpu(network, CPU)
    assert [type(module) for module in network.modules()] == before


def test_switch_leaves_everything(kept: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(accelerate.SWITCH, "0")
    network = swin_unetr()
    accelerate.accelerate_on_cpu(network, CPU)
    assert not is_prepared(network)
    assert kept == []
