"""One step: losses, precision, clipping, and what happens when numbers are not finite."""

import copy

import pytest
import torch

from nnunet_triad.errors import UserError
from nnunet_triad.training.precision import make_scaler
from nnunet_triad.training.run_folder import RunFolder
from nnunet_triad.training.schedule import learning_rate_at
from pretraining.training import compute_losses, resume, train_step


def state(training) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in training.model.state_dict().items()}


def is_equal(first, second) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_step_equals_clipped_adamw(start):
    training, (batch,) = start(gradient_clip=0.01, weight_decay=0.1)
    expected = copy.deepcopy(training.model)
    rate = learning_rate_at(0, peak=1e-3, warmup_steps=1, steps=2)
    optimizer = torch.optim.AdamW(expected.parameters(), lr=rate, weight_decay=0.1)
    (expected(batch)["reconstruction"] - batch["image"]).abs().mean().backward()
    norm = torch.nn.utils.clip_grad_norm_(expected.parameters(), 0.01)
    optimizer.step()

    values = train_step(training, batch)  # two crops give no triplet

    assert values["gradient_norm"] == pytest.approx(norm.item(), rel=1e-5)
    assert values["learning_rate"] == rate
    for name, value in expected.named_parameters():
        torch.testing.assert_close(training.model.get_parameter(name), value, msg=name)


def test_step_in_bf16_is_close_to_fp32(start):
    exact, (batch,) = start()
    rounded, _ = start(precision="bf16")

    losses = [compute_losses(training, batch)["l1"].item() for training in (exact, rounded)]

    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert {value.dtype for value in rounded.model.parameters()} == {torch.float32}


@pytest.fixture
def start_scaled(start):
    """A run whose loss is scaled as in fp16, with float32's forward pass, which CPUs do faster."""

    def start_scaled(scale: float):
        training, batches = start()
        training.scaler = make_scaler(training.group.device, "fp16")
        training.scaler.load_state_dict({**training.scaler.state_dict(), "scale": scale})
        return training, batches

    return start_scaled


def test_scaled_loss_gives_the_same_step(start, start_scaled):
    plain, (batch,) = start()
    scaled, _ = start_scaled(1024.0)

    expected, found = train_step(plain, batch), train_step(scaled, batch)

    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-6)
    assert found["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=1e-4)


def test_step_whose_scaled_gradient_overflows_is_left_out(start_scaled):
    training, (batch,) = start_scaled(2.0**127)
    before = state(training)

    values = train_step(training, batch)

    assert not torch.tensor(values["gradient_norm"]).isfinite()
    assert is_equal(state(training), before)
    assert training.step == 1
    assert training.scaler.get_scale() == 2.0**126


def test_overflow_at_the_smallest_scale_is_divergence(start_scaled):
    training, (batch,) = start_scaled(1.0)
    for parameter in training.model.decoder.parameters():
        parameter.register_hook(lambda gradient: gradient * float("inf"))

    with pytest.raises(UserError, match="loss: expected finite numbers at step 1"):
        train_step(training, batch)


def test_divergence_names_the_crops_and_leaves_the_weights(start):
    training, batches = start(2)
    train_step(training, batches[0])
    before = state(training)
    batches[1]["image"][1] *= float("inf")

    with pytest.raises(UserError) as error:
        train_step(training, batches[1])

    names = {training.data.sampler.plan(1, k).name for k in range(2)}
    assert "expected finite numbers at step 2, got loss nan" in str(error.value)
    assert f"({', '.join(sorted(names))})" in str(error.value)
    assert "try a lower --learning-rate" in str(error.value)
    assert is_equal(state(training), before)
    assert training.step == 1


def test_compiled_network_is_what_a_step_calls(start, monkeypatch):
    calls = []

    class Compiled(torch.nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, batch):
            calls.append(batch["image"].shape)
            return self.network(batch)

    monkeypatch.setattr(torch, "compile", Compiled)
    training, (batch,) = start(compile_network=True)

    train_step(training, batch)

    assert calls == [batch["image"].shape]
    assert all(name.startswith(("encoder.", "decoder.")) for name in training.state()["model"])


def test_resume_without_a_checkpoint_starts_at_zero(start, tmp_path):
    training, _ = start()

    resume(training, RunFolder(path=tmp_path, command="triad-pretrain", data=("STORE", "volumes")))

    assert training.step == 0
