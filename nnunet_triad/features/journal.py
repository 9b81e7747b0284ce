"""Rows that are kept as they are computed, so that a killed run goes on.

A file of lines beside the table, one an image; the first says what run it is of. A line that a
kill cut off is taken away. The file goes once the table is written.
"""

import base64
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_triad.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What was computed of one image.

    Attributes:
        case: its name.
        content: a hash of its files.
        regions: their names.
        first_order: (regions, numbers) float64.
        features: (regions, channels of all levels) float32.
    """

    case: str
    content: str
    regions: tuple[str, ...]
    first_order: NDArray[np.float64]
    features: NDArray[np.float32]


class Journal:
    """The file; `kept` has what earlier runs computed."""

    def __init__(self, path: Path, run: Mapping[str, Any]) -> None:
        """Open it, and read what is there.

        Args:
            path: of the file.
            run: what must be the same for its rows to be kept: JSON-able names and values.

        Raises:
            UserError: it is of another run.
        """
        self.path, self._run = path, dict(run)
        self.kept: dict[str, Rows] = {}
        if path.exists():
            self._read()

    def add(self, rows: Rows) -> None:
        """Append rows; once this returns they survive a kill and a crash."""
        line = {
            "case": rows.case,
            "content": rows.content,
            "regions": rows.regions,
            "first_order": _encode(rows.first_order),
            "features": _encode(rows.features),
        }
        text = json.dumps(line) + "\n"
        if not self.path.exists():
            text = json.dumps(self._run) + "\n" + text
        with self.path.open("ab") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        """Take the file away: its rows stand in the table."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> None:
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(self.path, len(whole))
        if not whole:  # not even the first line
            self.remove()
            return
        try:
            run, *lines = map(json.loads, whole.splitlines())
            self.kept = {line["case"]: _decode_rows(line) for line in lines}
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(
                f"{self.path}: expected rows of an interrupted triad-features, got others "
                f"({type(error).__name__}); remove it"
            ) from error
        check_same_run(self.path, run, self._run)


def check_same_run(path: Path, begun: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Check that rows of a file are what this run would compute.

    Raises:
        UserError: a value differs.
    """
    for name, value in wanted.items():
        found = begun.get(name)
        if found != json.loads(json.dumps(value)):
            raise UserError(
                f"{name}: expected {_short(found)}, with which {path} was begun, got "
                f"{_short(value)}; use that value, or choose another -o",
                setting=name,
            )


def _short(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "none"
    return str(value)[:80]


def _encode(values: NDArray[Any]) -> list[Any]:
    return [values.shape, base64.b64encode(values.tobytes()).decode()]


def _decode_rows(line: Mapping[str, Any]) -> Rows:
    return Rows(
        case=str(line["case"]),
        content=str(line["content"]),
        regions=tuple(map(str, line["regions"])),
        first_order=_decode(line["first_order"], np.dtype(np.float64)),
        features=_decode(line["features"], np.dtype(np.float32)),
    )


def _decode(packed: Sequence[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    shape, text = packed
    return np.frombuffer(base64.b64decode(text), dtype).reshape(shape)
