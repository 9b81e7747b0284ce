"""What nnU-Net's default compile leaves as it is: names, checkpoints, recipes, predictions."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from nnunetv2.run.run_training import maybe_load_checkpoint
from torch._dynamo import OptimizedModule, lookup_backend

from nnunet_triad.trainers.base import TriadTrainer, bare_network
from nnunet_triad.weights.transfer import find_encoder

NAME = "nnUNetTrainerTriadUNet"
PATCH = (16, 16, 32)

State = dict[str, torch.Tensor]


@pytest.fixture
def start(make_trainer, weights_folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Make a trainer, compiled or not; `start.graphs` holds the networks' graphs."""
    compile_any, graphs = torch.compile, []

    def count(graph: torch.fx.GraphModule, inputs: list) -> Any:
        graphs.append(graph)
        return lookup_backend("aot_eager")(graph, inputs)

    def compile_network(module: torch.nn.Module) -> Any:  # the loss has no parameters
        is_network = any(True for _ in module.parameters())
        return compile_any(module, backend=count if is_network else "aot_eager")

    def make(name: str, *, epochs: int = 2, is_compiled: bool = True) -> TriadTrainer:
        monkeypatch.setattr(TriadTrainer, "_do_i_compile", lambda _: is_compiled)
        torch.manual_seed(0)
        trainer = make_trainer(name, patch_size=PATCH)
        trainer.num_epochs = epochs
        trainer.initialize()
        assert isinstance(trainer.network, OptimizedModule) == is_compiled
        return trainer

    monkeypatch.setenv("TRIAD_WEIGHTS", str(weights_folder))
    monkeypatch.setattr(torch, "compile", compile_network)
    torch._dynamo.reset()
    make.graphs = graphs
    yield make
    torch._dynamo.reset()


def copy_of(network: torch.nn.Module) -> State:
    """The state of the network inside nnU-Net's wrappers."""
    return {name: t.clone() for name, t in bare_network(network).state_dict().items()}


def way(start: State, end: State) -> torch.Tensor:
    """How far all values went."""
    return torch.cat([(end[n] - start[n]).flatten() for n in start if start[n].is_floating_point()])


def stop_and_go_on(start: Any, *, is_compiled: bool) -> tuple[State, State, TriadTrainer]:
    """Train an epoch of two, and the second in another trainer by --c; both states."""
    first = start(NAME, is_compiled=is_compiled)
    first.num_epochs = 1
    first.run_training()
    saved = torch.load(Path(first.output_folder) / "checkpoint_final.pth", weights_only=False)[
        "network_weights"
    ]
    second = start(NAME, is_compiled=is_compiled)
    maybe_load_checkpoint(second, continue_training=True, validation_only=False)
    second.run_training()
    return saved, copy_of(second.network), second


def test_compiled_training_goes_on_as_one_that_is_not(start) -> None:
    plain_saved, plain_end, plain = stop_and_go_on(start, is_compiled=False)
    assert not start.graphs
    saved, end, compiled = stop_and_go_on(start, is_compiled=True)
    assert list(saved) == list(plain_saved)
    assert not any("_orig_mod" in name for name in saved)
    expected = way(plain_saved, plain_end)
    assert expected.norm() > 0
    assert (way(saved, end) - expected).norm() <= 1e-3 * expected.norm()
    image = torch.randn(1, 1, *PATCH)
    for trainer in (plain, compiled):  # as nnU-Net's validation does after the training
        trainer.set_deep_supervision_enabled(False)
        trainer.network.eval()
    bare_network(compiled.network).load_state_dict(plain_end)
    with torch.no_grad():
        logits, expected = compiled.network(image), plain.network(image)
    assert logits.shape == (1, 3, *PATCH)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_compiled_frozen_encoder_keeps_its_weights(start, make_batch) -> None:
    trainer = start(f"{NAME}_frozen")
    trainer.on_train_start()
    encoder = find_encoder(bare_network(trainer.network))
    prefix = next(n for n, m in bare_network(trainer.network).named_modules() if m is encoder)
    before = copy_of(trainer.network)
    trainer.on_train_epoch_start()
    trainer.train_step(make_batch(trainer))
    changed = {n for n, t in copy_of(trainer.network).items() if not torch.equal(before[n], t)}
    assert changed
    assert not any(n.startswith(f"{prefix}.") for n in changed)
    assert not any(module.training for module in encoder.modules())


def test_sawtooth_s_switch_compiles_once_more(start, make_batch) -> None:
    trainer = start(f"{NAME}_sawtooth", epochs=10)
    trainer.on_train_start()
    encoder = find_encoder(bare_network(trainer.network))
    states, counts = [copy_of(encoder)], []
    for epoch in range(3):  # the first of ten trains the decoder alone
        trainer.current_epoch = epoch
        trainer.on_train_epoch_start()
        trainer.train_step(make_batch(trainer))
        states.append(copy_of(encoder))
        counts.append(len(start.graphs))
    assert counts == [1, 2, 2]
    moved = [bool(way(one, other).any()) for one, other in itertools.pairwise(states)]
    assert moved == [False, True, True]
