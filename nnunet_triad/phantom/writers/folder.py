"""A folder of phantoms remembers its settings, so that two populations never mix."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nnunet_triad.errors import UserError
from nnunet_triad.files import write_json
from nnunet_triad.phantom.population import Population

SETTINGS_FILE = ".phantom.json"


def open_folder(folder: Path, population: Population, **more: Any) -> Path:
    """Make a folder for a population, or accept one that an equal call began.

    Args:
        folder: new, empty, or begun by the same call.
        population, **more: the settings; what is written must depend on nothing else.

    Returns:
        The folder.

    Raises:
        UserError: the folder holds something else.
    """
    folder = Path(folder)
    settings = json.loads(json.dumps({**asdict(population), **more}))  # tuples become lists
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: expected a folder, got a file; name another path")
    found = _read_settings(folder)
    if found is None and folder.is_dir() and any(folder.iterdir()):
        raise UserError(
            f"{folder}: expected a new or empty folder, got other files; name another folder"
        )
    if found is not None and found != settings:
        names = sorted(n for n in {*found, *settings} if found.get(n) != settings.get(n))
        raise UserError(
            f"{folder}: expected the settings of the phantoms that it holds, got another "
            f"{', '.join(names)}; name another folder, or delete this one"
        )
    write_json(folder / SETTINGS_FILE, settings)
    return folder


def track(numbers: Iterable[int], total: int, title: str, *, is_shown: bool) -> Iterator[int]:
    """Iterate over subjects with a progress bar: rate and time to go."""
    return iter(tqdm(numbers, total=total, desc=title, unit="subject", disable=not is_shown))


def _read_settings(folder: Path) -> dict[str, Any] | None:
    path = folder / SETTINGS_FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected JSON, got something else; delete {folder}")
    return content
