"""Tensors and one text that describes them, as a safetensors file: nothing is unpickled."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from nnunet_triad.errors import UserError
from nnunet_triad.files import write_atomically
from nnunet_triad.texts import parse_json

if TYPE_CHECKING:  # PyTorch is slow to import, and a file can be looked at without
    from torch import Tensor

_MAX_HEADER = 100_000_000  # bytes, by the format's definition


def to_json(fields: Mapping[str, Any], *, version: int) -> str:
    """Return a description as JSON, with the version of its format."""
    return json.dumps({"format_version": version, **fields})


def from_json(text: str, *, version: int) -> dict[str, Any]:
    """Read `to_json`'s text.

    Raises:
        UserError: the text is of another format version.
    """
    fields: dict[str, Any] = parse_json(text, "metadata")
    found = fields.pop("format_version", None)
    if found != version:
        raise UserError(
            f"format version: expected {version}, got {found}; "
            "install the package version that wrote the file"
        )
    return fields


def write_tensors(path: Path, tensors: Mapping[str, "Tensor"], *, key: str, text: str) -> None:
    """Write tensors and the text under one key of the metadata, atomically.

    One key alone: the order of several would differ from write to write.
    """
    from safetensors.torch import save_file

    separate = _separate(tensors)
    num_bytes = sum(tensor.nbytes for tensor in separate.values())
    with write_atomically(Path(path), num_bytes=num_bytes) as temporary:
        save_file(separate, temporary, metadata={key: text})


def _separate(tensors: Mapping[str, "Tensor"]) -> dict[str, "Tensor"]:
    """Return tensors in the CPU's memory, of which no two share it: those would be refused."""
    found, seen = {}, set[int]()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        place = tensor.untyped_storage().data_ptr()
        found[name] = tensor.clone() if place in seen else tensor
        seen.add(place)
    return found


def is_safetensors(start: bytes) -> bool:
    """Say whether a file is a safetensors file, whole or not.

    Args:
        start: its first bytes, 9 or more: the length of a JSON header, then the header.
    """
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= _MAX_HEADER


def read_tensors(path: Path) -> tuple[dict[str, "Tensor"], dict[str, str]]:
    """Read tensors and metadata.

    Raises:
        UserError: the file is truncated, or no safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path}: expected a whole safetensors file, got one that cannot be read ({error}); "
            "copy or download it again"
        ) from error
