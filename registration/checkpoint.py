"""What a registration training saves, and whether a saved run is the one that is asked for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_triad.errors import UserError
from nnunet_triad.training.state_file import load_state, save_state
from registration.settings import RegistrationSettings

CHECKPOINT_NAME = "checkpoint.pt"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """All that a run needs to go on as if it had never stopped.

    Pairs, flips and the learning rate are pure functions of the step: they are not in here.
    """

    settings: RegistrationSettings
    data_fingerprint: str
    initialization: str  # scratch, or the SHA-256 of the weights file
    step: int  # pairs done
    best: float | None  # validation of the model that is kept
    best_epoch: int
    transfer: dict[str, Any]  # the report of the encoder's transfer
    model: dict[str, Any]  # state_dict of the network
    optimizer: dict[str, Any]  # state_dict of the optimiser


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; when that fails, the one of the same name before it stays.

    Raises:
        UserError: the disk is full, or the file cannot be written for another reason.
    """
    content = {**vars(checkpoint), "settings": checkpoint.settings.to_dict()}
    step = content.pop("step")
    save_state(path, content, step=step)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint to the CPU.

    Raises:
        UserError: it is damaged, no checkpoint, or of another format version.
    """
    content = load_state(path, command="triad-register train")
    content.pop("format_version")
    content["settings"] = RegistrationSettings.from_dict(content["settings"])
    return Checkpoint(**content)


def check_same_run(
    checkpoint: Checkpoint,
    settings: RegistrationSettings,
    *,
    data_fingerprint: str,
    initialization: str,
    path: Path,
) -> None:
    """Refuse to continue a run that was begun with other settings, data or weights.

    Raises:
        UserError: names what differs.
    """
    field = checkpoint.settings.differing_field(settings)
    if field is not None:
        raise UserError(
            f"{field}: expected {getattr(checkpoint.settings, field)}, with which {path} was "
            f"begun, got {getattr(settings, field)}; use that value, or choose another OUTPUT"
        )
    if checkpoint.data_fingerprint != data_fingerprint:
        raise UserError(
            f"MANIFEST: expected the pairs with which {path} was begun, got others; "
            "use that manifest, or choose another OUTPUT"
        )
    if checkpoint.initialization != initialization:
        raise UserError(
            f"init: expected the weights with which {path} was begun "
            f"({checkpoint.initialization[:12]}), got {initialization[:12]}; "
            "use them, or choose another OUTPUT"
        )
