"""What a run saves to continue as if it had never stopped."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classification.settings import TrainSettings
from nnunet_triad.errors import UserError
from nnunet_triad.training.state_file import load_state, save_state

CHECKPOINT_NAME = "checkpoint.pt"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state between two steps; order, augmentation and learning rate follow from the step."""

    settings: TrainSettings
    data_fingerprint: str
    epoch: int  # epochs done
    batch: int  # batches done of the next one
    loss_sum: float  # of those batches, over their samples
    best: list[float]  # the scores of the best epoch so far; empty before the first
    model: dict[str, Any]
    optimizer: dict[str, Any]
    description: dict[str, Any]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; when that fails, the one of the same name before it stays.

    Raises:
        UserError: the disk is full, or the file cannot be written for another reason.
    """
    content = {**vars(checkpoint), "settings": checkpoint.settings.to_dict()}
    save_state(path, content, step=checkpoint.epoch)


def load_checkpoint(path: Path, settings: TrainSettings, data_fingerprint: str) -> Checkpoint:
    """Read a checkpoint to the CPU, and refuse one of another run.

    Raises:
        UserError: it is damaged, or was begun with other settings or data.
    """
    content = load_state(path, command="triad-classify train")
    names = set(Checkpoint.__dataclass_fields__)
    values = {name: value for name, value in content.items() if name in names}
    values["settings"] = TrainSettings.from_dict(content["settings"])
    checkpoint = Checkpoint(**values)
    changed = checkpoint.settings.differing_field(settings)
    if changed is not None:
        raise UserError(
            f"{changed}: expected {getattr(checkpoint.settings, changed)}, with which {path} was "
            f"begun, got {getattr(settings, changed)}; use that value, or choose another OUTPUT"
        )
    if checkpoint.data_fingerprint != data_fingerprint:
        raise UserError(
            f"MANIFEST: expected the images, labels and splits with which {path} was begun, got "
            "others; use that manifest, or choose another OUTPUT"
        )
    return checkpoint
