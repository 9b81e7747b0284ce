"""What a pre-training run saves, and whether a saved run is the one that is asked for."""

from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from nnunet_triad.errors import UserError
from nnunet_triad.training.state_file import load_state, save_state
from pretraining.settings import PretrainSettings

CHECKPOINT_NAME = "checkpoint.pt"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """All that a run needs to go on as if it had never stopped.

    Crops are a pure function of the step, and so is the learning rate: neither is in here.
    """

    settings: PretrainSettings
    data_fingerprint: str  # of the volumes and texts, in their order
    step: int  # steps done
    model: dict[str, Any]  # state_dict of the autoencoder
    optimizer: dict[str, Any]  # state_dict of the optimiser
    scaler: dict[str, Any]  # state_dict of fp16's loss scaler; empty in other precisions


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; when that fails, the one of the same name before it stays.

    Raises:
        UserError: the disk is full, or the file cannot be written for another reason.
    """
    save_state(
        path,
        {
            "settings": checkpoint.settings.to_dict(),
            "data_fingerprint": checkpoint.data_fingerprint,
            "model": checkpoint.model,
            "optimizer": checkpoint.optimizer,
            "scaler": checkpoint.scaler,
        },
        step=checkpoint.step,
    )


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint to the CPU.

    Raises:
        UserError: it is damaged, no checkpoint, or another command's or version's.
    """
    content = load_state(path, command="triad-pretrain")
    try:
        return Checkpoint(
            settings=PretrainSettings.from_dict(content["settings"]),
            data_fingerprint=content["data_fingerprint"],
            step=content["step"],
            model=content["model"],
            optimizer=content["optimizer"],
            scaler=content["scaler"],
        )
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{path}: expected a checkpoint of triad-pretrain, got one of another command or "
            f"package version ({error}); choose another OUTPUT"
        ) from error


def check_same_run(
    checkpoint: Checkpoint, settings: PretrainSettings, data_fingerprint: str, *, path: Path
) -> None:
    """Refuse to continue a run that was begun with other settings or other data.

    Raises:
        UserError: names the first setting that differs, or says that the volumes do.
    """
    field = checkpoint.settings.differing_field(settings)
    if field is not None:
        value_of = attrgetter(field)
        raise UserError(
            f"{field}: expected {value_of(checkpoint.settings)}, with which {path} was "
            f"begun, got {value_of(settings)}; use that value, or choose another OUTPUT"
        )
    if checkpoint.data_fingerprint != data_fingerprint:
        raise UserError(
            f"STORE: expected the volumes and text embeddings with which {path} was begun, got "
            "others; use that store, or choose another OUTPUT"
        )
