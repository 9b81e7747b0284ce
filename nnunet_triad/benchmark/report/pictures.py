"""Pictures that the page embeds: those of the command line, and those that the runs left."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_triad.benchmark.environment import Environment
from nnunet_triad.benchmark.report.data import Model
from nnunet_triad.benchmark.runs import Run
from nnunet_triad.benchmark.state import results_path
from nnunet_triad.errors import UserError

_PICTURES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
_MAX_PICTURE_MB = 20
# Pictures of a run, and which case they show: none is picked by its result.
_OVERLAYS = {
    "overlay.png": "the first validation case by name, the slice with most labelled voxels",
    "model/results_overlay.png": "the first pair of the manifest",
}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An embedded picture."""

    source: str  # a data URI
    caption: str


def overlays(environment: Environment, planned: Sequence[Run]) -> list[Picture]:
    """Return the pictures that the finished runs left."""
    found = []
    for run in planned:
        if not results_path(run, environment).is_file():
            continue
        for name, shows in _OVERLAYS.items():
            path = environment.run_folder(run.name) / name
            if path.is_file():
                model = Model(architecture=run.architecture, initialization=run.initialization)
                about = f"{run.dataset}, {model.name}"
                found.append(embed(path, f"{about}: {shows}"))
    return found


def embed(path: Path, caption: str) -> Picture:
    """Read a picture as a data URI.

    Raises:
        UserError: it is missing, no picture, or too large for a page.
    """
    kind = _PICTURES.get(path.suffix.lower())
    if kind is None:
        raise UserError(f"figure: expected one of {', '.join(_PICTURES)}, got {path}")
    if not path.is_file():
        raise UserError(f"figure: expected a picture at {path}, got no file")
    content = path.read_bytes()
    if not content.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8")):
        raise UserError(f"figure: expected a PNG or JPEG picture, got other content in {path}")
    if len(content) > _MAX_PICTURE_MB * 1e6:
        raise UserError(
            f"figure: expected at most {_MAX_PICTURE_MB} MB, got {len(content) / 1e6:.0f} in {path}"
        )
    data = base64.b64encode(content).decode()
    return Picture(source=f"data:{kind};base64,{data}", caption=caption)
