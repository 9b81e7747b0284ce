"""What every layout asks of a folder before its files are opened."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from nnunet_triad.errors import UserError

_PARTIAL_SUFFIXES = (".part", ".partial", ".crdownload", ".download", ".aria2", ".tmp", ".filepart")
_NUM_NAMED = 3


def all_files(source: Path) -> Iterator[Path]:
    """Yield every file below `source` in a fixed order, without hidden ones and macOS's copies.

    Raises:
        UserError: `source` is not a folder.
    """
    if not source.is_dir():
        raise UserError(
            f"--source: expected a folder, got {source}; name the folder into which the archives "
            "were unpacked"
        )
    for folder, folders, names in os.walk(source, followlinks=True):
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        for name in sorted(names):
            if not _is_hidden(name):
                yield Path(folder, name)


def refuse_partial_downloads(files: Iterable[Path]) -> None:
    """Raise when a download is still under way or broke off.

    Raises:
        UserError: a file has the ending of an unfinished download.
    """
    partial = [path for path in files if path.suffix.lower() in _PARTIAL_SUFFIXES]
    if partial:
        raise UserError(
            f"{partial[0]}: expected finished downloads, got {len(partial)} unfinished; finish "
            "the download, or delete what is left of it"
        )


def refuse_missing(paths: Iterable[Path], listed_in: Path) -> None:
    """Raise when files that a dataset's own list names are not there.

    Raises:
        UserError: it names how many, and the first ones.
    """
    paths = list(paths)
    missing = [path for path in paths if not path.is_file()]
    if missing:
        names = [os.path.relpath(path, listed_in.parent) for path in missing]
        raise UserError(
            f"{listed_in}: expected the {len(paths)} files that it lists, got "
            f"{len(paths) - len(missing)} ({join_some(names)} missing); finish the download, or "
            "unpack the archive again"
        )


def join_some(names: Iterable[str]) -> str:
    """Join the first names, and say how many more there are."""
    names = list(names)
    more = len(names) - _NUM_NAMED
    return ", ".join(names[:_NUM_NAMED]) + (f" and {more} more" if more > 0 else "")


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"
