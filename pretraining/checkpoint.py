"""The state of a run on disk: whole or not there, and read without unpickling code."""

from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from nnunet_triad.errors import UserError
from nnunet_triad.files import write_atomically
from pretraining.settings import PretrainSettings

FORMAT_VERSION = 1
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


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; when that fails, the one of the same name before it stays.

    Raises:
        UserError: the disk is full, or the file cannot be written for another reason.
    """
    content = {
        "format_version": FORMAT_VERSION,
        "settings": checkpoint.settings.to_dict(),
        "data_fingerprint": checkpoint.data_fingerprint,
        "step": checkpoint.step,
        "model": checkpoint.model,
        "optimizer": checkpoint.optimizer,
    }
    try:
        with write_atomically(path) as temporary, temporary.open("wb") as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:  # torch.save turns some write errors into the latter
        reason = _system_error(error)
        if reason is None:
            raise
        raise UserError(
            f"{path}: expected room for the checkpoint of step {checkpoint.step}, got "
            f"{reason.strerror!r}; free some space, then run again: the last checkpoint is whole"
        ) from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint to the CPU.

    Raises:
        UserError: it is damaged, no checkpoint, or of another format version.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        version = content["format_version"]
    except (RuntimeError, EOFError, KeyError, TypeError, ValueError, UnpicklingError) as error:
        raise UserError(
            f"{path}: expected a checkpoint of triad-pretrain, got a file that cannot be read "
            f"({type(error).__name__}); delete it to start again, or choose another OUTPUT"
        ) from error
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path}: expected format version {FORMAT_VERSION}, got {version}; "
            "continue with the package version that wrote it"
        )
    return Checkpoint(
        settings=PretrainSettings.from_dict(content["settings"]),
        data_fingerprint=content["data_fingerprint"],
        step=content["step"],
        model=content["model"],
        optimizer=content["optimizer"],
    )


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files of `path` that a killed run could not remove."""
    for leftover in path.parent.glob(f".{path.name}.*"):
        leftover.unlink(missing_ok=True)


def check_same_run(
    checkpoint: Checkpoint, settings: PretrainSettings, data_fingerprint: str, *, path: Path
) -> None:
    """Refuse to continue a run that was begun with other settings or other data.

    Raises:
        UserError: names the first setting that differs, or says that the volumes do.
    """
    field = checkpoint.settings.differing_field(settings)
    if field is not None:
        raise UserError(
            f"{field}: expected {getattr(checkpoint.settings, field)}, with which {path} was "
            f"begun, got {getattr(settings, field)}; use that value, or choose another OUTPUT"
        )
    if checkpoint.data_fingerprint != data_fingerprint:
        raise UserError(
            f"STORE: expected the volumes and text embeddings with which {path} was begun, got "
            "others; use that store, or choose another OUTPUT"
        )


def _system_error(error: BaseException | None) -> OSError | None:
    """Return the operating system's error behind `error`, if there is one."""
    while error is not None and not (isinstance(error, OSError) and error.strerror):
        error = error.__cause__ or error.__context__
    return error
