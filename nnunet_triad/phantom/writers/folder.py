"""A folder of phantoms remembers its settings, so that two populations never mix."""

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nnunet_triad.errors import UserError
from nnunet_triad.files import is_blank, only_process, remove_leftovers, write_json
from nnunet_triad.phantom.population import Population
from nnunet_triad.texts import read_json

SETTINGS_FILE = ".phantom.json"


@contextlib.contextmanager
def open_folder(folder: Path, population: Population, **more: Any) -> Iterator[Path]:
    """Hold a new folder for a population, or one that an equal call began.

    What a killed call left half-written is removed. Beside the folder stays an empty `.NAME.lock`.

    Args:
        folder: new, empty, or begun by the same call.
        population, **more: the settings; what is written must depend on nothing else.

    Yields:
        The folder.

    Raises:
        UserError: the folder holds something else, or another process writes there.
    """
    folder = Path(folder)
    settings = json.loads(json.dumps({**asdict(population), **more}))  # tuples become lists
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: expected a folder, got a file; name another path")
    _check_own(folder, settings)
    folder.mkdir(parents=True, exist_ok=True)
    refusal = (
        f"{folder}: expected a folder that no other triad-phantom writes to, got one that one "
        "does; wait until it ends"
    )
    # resolved, as "." has no name
    lock = folder.resolve().with_name(f".{folder.resolve().name}.lock")
    with only_process(lock, refusal=refusal):
        remove_leftovers(folder, is_deep=True)
        write_json(folder / SETTINGS_FILE, settings)
        yield folder


def _check_own(folder: Path, settings: dict[str, Any]) -> None:
    found = _read_settings(folder)
    if found is None and folder.is_dir() and not is_blank(folder):
        raise UserError(
            f"{folder}: expected a new or empty folder, got other files; name another folder"
        )
    if found is not None and found != settings:
        names = sorted(n for n in {*found, *settings} if found.get(n) != settings.get(n))
        raise UserError(
            f"{folder}: expected the settings of the phantoms that it holds, got another "
            f"{', '.join(names)}; name another folder, or delete this one"
        )


def track(numbers: Iterable[int], total: int, title: str, *, is_shown: bool) -> Iterator[int]:
    """Iterate over subjects with a progress bar: rate and time to go."""
    return iter(tqdm(numbers, total=total, desc=title, unit="subject", disable=not is_shown))


def _read_settings(folder: Path) -> dict[str, Any] | None:
    path = folder / SETTINGS_FILE
    if not path.is_file():
        return None
    try:
        content = read_json(path)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected JSON, got something else; delete {folder}")
    return content
