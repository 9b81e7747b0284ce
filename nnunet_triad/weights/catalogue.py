"""Published encoders by name: what there is, and how a file of it comes here."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nnunet_triad.architectures import encoder_spec, family_of
from nnunet_triad.errors import UserError
from nnunet_triad.files import copy_atomically, disk_full_at, only_process, sha256, write_json
from nnunet_triad.texts import read_json
from nnunet_triad.weights.download import fetch_from_drive, fetch_url, is_on_drive
from nnunet_triad.weights.hub import download
from nnunet_triad.weights.origins import ORIGINS, Origin, PublishedFile

_PINS = "sha256.json"  # of what was fetched, by URL
_PACKAGED = Path(__file__).parent / "data"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A published file, and what is to be known before it is used."""

    name: str  # such as voco-b
    origin: Origin
    file: PublishedFile

    @property
    def licence(self) -> str:
        """Of the weights."""
        return self.file.licence or self.origin.licence

    def to_dict(self) -> dict[str, str]:
        """Return the columns of the catalogue's table."""
        spec = encoder_spec(self.file.encoder)
        return {
            "name": self.name,
            "source": self.origin.title,
            "file": self.file.name,
            "encoder": f"{spec.name} ({family_of(spec).title(spec)})",
            "size": f"{self.file.size_mb} MB" if self.file.size_mb else "not stated",
            "data": self.file.data or "not stated",
            "licence": self.licence or "not stated",
            "where": self._where(),
        }

    def _where(self) -> str:
        if self.file.is_packaged:
            return "in this package"
        return self.file.url or f"not published as a link: {self.origin.page}"

    @property
    def path(self) -> Path:
        """Where it is, or will be once it is fetched."""
        return (_PACKAGED if self.file.is_packaged else cache_folder()) / self.file.name


def entries() -> Iterator[Entry]:
    """Yield all published files that have a name, publisher by publisher."""
    for origin in ORIGINS:
        for file in origin.files:
            if file.short:
                yield Entry(name=file.short, origin=origin, file=file)


def is_catalogued(text: str) -> bool:
    """Say whether a text is the name of a published file."""
    return any(entry.name == text.lower() for entry in entries())


def find_entry(name: str) -> Entry:
    """Return the entry of a name, in upper or lower case.

    Raises:
        UserError: there is none.
    """
    found = [entry for entry in entries() if entry.name == name.lower()]
    if not found:
        known = ", ".join(entry.name for entry in entries())
        raise UserError(f"NAME: expected one of {known}, got {name}; see triad-weights catalogue")
    return found[0]


def cache_folder() -> Path:
    """Return where fetched files are kept: $TRIAD_CACHE, or the user's cache."""
    own = os.environ.get("TRIAD_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(own or f"{base}/triad-nnunet").expanduser() / "weights"


def find_fetched(path: Path) -> Entry | None:
    """Return the entry of a file that lies where `fetch` keeps it, None of any other file."""
    return next((one for one in entries() if path == one.path), None)


def fetch(name: str, *, folder: Path | None = None, accepts_licence: bool = False) -> Path:
    """Return the local copy of a published file, fetched where it is not here yet.

    What was begun is resumed, and another process that fetches the same file is waited for. The
    content is checked against the SHA-256 that is published, else against that of the first time it
    was fetched, which is kept beside the files.

    Args:
        name: of the catalogue.
        folder: where it goes; None: the cache, from which trainings take it.
        accepts_licence: needed once where the licence forbids something.

    Raises:
        DiskFullError: there is no room for it.
        UserError: there is no such name or no link, the licence is not accepted, the network does
            not give the file, or it is another one than before.
    """
    entry = find_entry(name)
    target = folder / entry.file.name if folder else entry.path
    if target.is_file():
        return _checked(target, entry)
    if entry.file.is_packaged:
        target.parent.mkdir(parents=True, exist_ok=True)
        copy_atomically(entry.path, target)
        return target
    if entry.file.url is None:
        raise UserError(
            f"{entry.name}: expected a link, got none that is known; download "
            f"{entry.file.name} from {entry.origin.page} and name its path"
        )
    if entry.origin.restricts and not accepts_licence:
        raise UserError(
            f"{entry.name}: expected its licence to be accepted ({entry.licence}); read it on "
            f"{entry.origin.page}, then: triad-weights fetch {entry.name} --accept-licence"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = only_process(target.with_name(f".{target.name}.lock"), refusal=None)
    with lock, disk_full_at(target):
        if not target.is_file():
            _download(entry.file.url, target)
        _checked(target, entry)
        pins = _read_pins()
        if entry.file.sha256 is None and entry.file.url not in pins:
            write_json(_pins_path(), pins | {entry.file.url: sha256(target)})
    return target


def _download(url: str, target: Path) -> None:
    if url.startswith("hf://"):
        copy_atomically(download(url), target)
    elif is_on_drive(url):
        fetch_from_drive(url, target)
    else:
        fetch_url(url, target)


def _checked(target: Path, entry: Entry) -> Path:
    expected = entry.file.sha256 or _read_pins().get(entry.file.url or "")
    if expected is not None and sha256(target) != expected:
        whose = "its publisher's" if entry.file.sha256 else "that of the first time"
        raise UserError(
            f"{target}: expected SHA-256 {expected} ({whose}), got {sha256(target)}; remove the "
            f"file and fetch {entry.name} again"
        )
    return target


def _pins_path() -> Path:
    return cache_folder() / _PINS


def _read_pins() -> dict[str, str]:
    path = _pins_path()
    try:
        pins = read_json(path) if path.is_file() else {}
        return {str(url): str(digest) for url, digest in pins.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: expected JSON of hashes, got {error}; remove it") from error
