"""A signal in the midst of a training: what is saved, and that nothing is lost or repeated."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.run.run_training import maybe_load_checkpoint
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_triad.errors import UserError
from nnunet_triad.trainers.base import TriadTrainer

NAME = "nnUNetTrainerScratchSwinT_sawtooth"
EPOCHS, ITERATIONS, VALIDATION = 2, 2, 2
Moment = tuple[int, int, bool]  # epoch, iteration, whether in the validation


class Loaders:
    """Batches that follow from the moment; a signal comes while one of them is waited for."""

    def __init__(self, make_batch, monkeypatch: pytest.MonkeyPatch) -> None:
        self.make_batch = make_batch
        self.at: Moment | None = None
        self.number = signal.SIGTERM
        self.error: Exception | None = None  # raised after the signal
        self.seen: list[Moment] = []
        both = lambda trainer: (self.give(trainer, False), self.give(trainer, True))  # noqa: E731
        monkeypatch.setattr(nnUNetTrainer, "get_dataloaders", both)

    def give(self, trainer: TriadTrainer, is_validation: bool):
        place = 0
        while True:
            iteration = place % VALIDATION if is_validation else trainer.iteration
            moment = (trainer.current_epoch, iteration, is_validation)
            if moment == self.at:
                os.kill(os.getpid(), self.number)
                if self.error is not None:
                    raise self.error
            self.seen.append(moment)
            yield self.make_batch(trainer, seed=100 * moment[0] + moment[1])
            place += 1


@pytest.fixture
def loaders(make_trainer, make_batch, monkeypatch: pytest.MonkeyPatch) -> Loaders:
    return Loaders(make_batch, monkeypatch)


@pytest.fixture
def make(make_trainer):
    """A short training, which goes on from what is there when asked to."""

    def make(*, goes_on: bool = False) -> TriadTrainer:
        torch.manual_seed(0)
        trainer = make_trainer(NAME, is_shortened=False)
        trainer.num_epochs = EPOCHS
        trainer.num_iterations_per_epoch = ITERATIONS
        trainer.num_val_iterations_per_epoch = VALIDATION
        maybe_load_checkpoint(trainer, continue_training=goes_on, validation_only=False)
        return trainer

    return make


@pytest.fixture
def whole(make, loaders) -> dict[str, object]:
    """A training that nothing interrupted: its weights and losses."""
    trainer = make()
    trainer.run_training()
    loaders.seen.clear()
    (Path(trainer.output_folder) / "checkpoint_final.pth").unlink()
    (Path(trainer.output_folder) / "checkpoint_best.pth").unlink()
    weights = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    return {"weights": weights, "losses": trainer.logger.get_value("train_losses", None)}


@pytest.mark.parametrize(
    ("at", "number", "left"),
    [
        ((0, 1, False), signal.SIGTERM, "epoch 0 after iteration 1"),
        ((1, 1, True), signal.SIGUSR2, "epoch 1 after iteration 2"),
    ],
)
def test_training_that_goes_on_ends_as_if_it_had_not_stopped(
    at: Moment, number: signal.Signals, left: str, make, loaders: Loaders, whole
) -> None:
    loaders.at, loaders.number = at, number
    first = make()
    with pytest.raises(SystemExit, match="75"):
        first.run_training()
    folder = Path(first.output_folder)
    assert (folder / "stopped.txt").read_text() == f"stopped in {left}\n"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    seen = loaders.seen.copy()

    loaders.at = None
    loaders.seen.clear()
    second = make(goes_on=True)
    second.run_training()

    # only the batch that was waited for comes again, and in a validation what it had seen
    again = {moment for moment in loaders.seen if moment in seen}
    assert again == ({at} if not at[2] else {(at[0], i, True) for i in range(VALIDATION)})
    assert not (folder / "stopped.txt").exists()
    for name, value in second.network.state_dict().items():
        assert torch.equal(value, whole["weights"][name]), name
    np.testing.assert_allclose(
        second.logger.get_value("train_losses", None), whole["losses"], rtol=1e-6
    )
    assert len(second.logger.get_value("val_losses", None)) == EPOCHS


def test_augmenting_processes_that_die_of_the_signal_cost_nothing(make, loaders: Loaders) -> None:
    loaders.at, loaders.error = (1, 1, False), RuntimeError("background workers are gone")
    trainer = make()
    with pytest.raises(SystemExit, match="75"):
        trainer.run_training()
    assert make(goes_on=True)._unfinished["iteration"] == 1


def test_error_without_a_signal_stays_one(make, loaders: Loaders) -> None:
    loaders.at, loaders.number = (0, 1, False), signal.SIGCONT
    loaders.error = RuntimeError("background workers are gone")
    trainer = make()
    with pytest.raises(RuntimeError, match="workers are gone"):
        trainer.run_training()
    assert not (Path(trainer.output_folder) / "checkpoint_latest.pth").exists()


def test_signal_in_the_last_validation_ends_the_process(
    make, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make()
    monkeypatch.setattr(
        nnUNetTrainer,
        "perform_actual_validation",
        lambda *_: os.kill(os.getpid(), signal.SIGTERM),
    )
    with pytest.raises(SystemExit, match="75"):
        trainer.perform_actual_validation()
    text = (Path(trainer.output_folder) / "stopped.txt").read_text()
    assert text == "stopped in the validation after the training\n"


@pytest.mark.parametrize(("text", "expected"), [(None, 50), ("", 50), ("5", 5)])
def test_checkpoints_come_as_often_as_the_variable_says(
    make_trainer, monkeypatch: pytest.MonkeyPatch, text: str | None, expected: int
) -> None:
    monkeypatch.delenv("TRIAD_SAVE_EVERY", raising=False)
    if text is not None:
        monkeypatch.setenv("TRIAD_SAVE_EVERY", text)
    assert make_trainer(NAME).save_every == expected


@pytest.mark.parametrize("text", ["0", "-1", "often", "1.5"])
def test_variable_that_is_no_number_of_epochs_is_refused(
    make_trainer, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("TRIAD_SAVE_EVERY", text)
    with pytest.raises(UserError, match="TRIAD_SAVE_EVERY: expected a whole number of epochs"):
        make_trainer(NAME)
