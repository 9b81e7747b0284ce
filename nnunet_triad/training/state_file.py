"""The state of a run on disk: whole or not there, and read without unpickling code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nnunet_triad.errors import UserError
from nnunet_triad.files import write_atomically

FORMAT_VERSION = 1


def save_state(path: Path, content: dict[str, Any], *, step: int) -> None:
    """Write a run's state; when that fails, the file of the same name before it stays.

    Args:
        path: the checkpoint.
        content: tensors, numbers, strings, lists and dicts of them, as `weights_only` admits.
        step: steps or epochs done, for the message.

    Raises:
        UserError: the disk is full, or the file cannot be written for another reason.
    """
    content = {"format_version": FORMAT_VERSION, "step": step, **content}
    size = num_bytes(content)
    try:
        with write_atomically(path, num_bytes=size) as temporary, temporary.open("wb") as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:  # torch.save turns some write errors into the latter
        reason = _system_error(error)
        if reason is None:
            raise
        raise UserError(
            f"{path}: expected room for the checkpoint of step {step}, got "
            f"{reason.strerror!r}; free some space, then run again: the last checkpoint is whole"
        ) from error


def num_bytes(state: object) -> int:
    """Return the bytes of all tensors in dictionaries and lists: nearly those of a checkpoint."""
    if isinstance(state, torch.Tensor):
        return state.nbytes
    if isinstance(state, Mapping):
        return sum(map(num_bytes, state.values()))
    return sum(map(num_bytes, state)) if isinstance(state, list | tuple) else 0


def load_state(path: Path, *, command: str) -> dict[str, Any]:
    """Read what `save_state` wrote, to the CPU; the tensors lie in the file until they are used.

    So each of many processes on a machine reads a large one without holding it. What is kept must
    be copied, as `load_state_dict` of a network does, and `restore_optimizer`.

    Args:
        path: the checkpoint.
        command: which command writes such files, for the message.

    Raises:
        UserError: it is damaged, no such checkpoint, or of another format version.
    """
    try:
        content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        version = content["format_version"]
    except OSError:
        raise
    except Exception as error:  # a damaged file makes the unpickler raise almost anything
        raise UserError(
            f"{path}: expected a checkpoint of {command}, got a file that cannot be read "
            f"({type(error).__name__}); delete it to start again, or choose another folder"
        ) from error
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path}: expected format version {FORMAT_VERSION}, got {version}; "
            "continue with the package version that wrote it"
        )
    return content


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Give an optimiser a state that `load_state` read.

    On the CPU PyTorch takes its tensors as they are; here they leave the file, which the next
    checkpoint replaces. Whether its kernels are fused is the device's, not the state's.
    """
    groups = zip(state["param_groups"], optimizer.param_groups, strict=True)
    own = [{**group, "fused": ours.get("fused")} for group, ours in groups]
    optimizer.load_state_dict({**state, "param_groups": own})
    for values in optimizer.state.values():
        values |= {name: value.clone() for name, value in values.items() if _is_on_cpu(value)}


def _is_on_cpu(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.device.type == "cpu"


def _system_error(error: BaseException | None) -> OSError | None:
    """Return the operating system's error behind `error`, if there is one."""
    while error is not None and not (isinstance(error, OSError) and error.strerror):
        error = error.__cause__ or error.__context__
    return error
