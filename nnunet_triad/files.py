"""Files that are either whole or not there: atomic writes, content hashes, and one writer."""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_triad.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@contextlib.contextmanager
def write_atomically(path: Path, *, num_bytes: int = 0) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block succeeds.

    The bytes are synced before the rename, so that after a crash or a full disk `path` holds
    either its old content or all of the new one. On an error the temporary file is removed.

    Args:
        path: the final file; its folder is made when missing.
        num_bytes: that it will have, where that is known, for the message of a full disk.

    Yields:
        A path in the same folder, with the same suffix, to write to.

    Raises:
        DiskFullError: there is no room for it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _sync(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except Exception as error:
        if is_disk_full(error):  # whatever a library makes of it, and whichever file it names
            written = temporary.stat().st_size if temporary.exists() else 0
            raise DiskFullError(path, written, num_bytes) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def copy_atomically(source: Path, target: Path) -> None:
    """Copy a file's content; see `write_atomically`."""
    with write_atomically(target, num_bytes=source.stat().st_size) as temporary:
        shutil.copyfile(source, temporary)


@contextlib.contextmanager
def disk_full_at(path: Path) -> Iterator[None]:
    """Let a full disk in the block name `path`, which a library that writes there does not.

    Raises:
        DiskFullError: the disk is full.
    """
    try:
        yield
    except Exception as error:
        if is_disk_full(error):
            raise DiskFullError(path) from error
        raise


class DiskFullError(OSError):
    """There is no room for a file.

    Args:
        path: the file that was to be written.
        num_bytes: how much of it was.
        needed: bytes of the whole file; 0: not known.
    """

    def __init__(self, path: Path, num_bytes: int = 0, needed: int = 0) -> None:
        self._values = path, num_bytes, needed
        more = f" of {_mib(needed)}" if needed else ""
        more = f" after {_mib(num_bytes)}{more}" if num_bytes or needed else ""
        super().__init__(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}{more}", str(path))

    def __reduce__(self) -> tuple[Any, ...]:
        """Come out of a worker process as it went in."""
        return type(self), self._values


def _mib(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:.3g} MiB"


# no space, a quota, and a limit on the size of a file
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_WORDS = re.compile(
    r"No space left|os error (27|28)\b|quota exceeded|File too large"
    r"|PytorchStreamWriter failed writing|unexpected pos \d+ vs \d+",  # of PyTorch's own writer
    re.IGNORECASE,
)


def is_disk_full(error: BaseException | None) -> bool:
    """Tell whether an error, or one that it came from, says that a disk or a quota is full.

    safetensors and PyTorch say so in words of their own, which are no OSError.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if _FULL_WORDS.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def check_folder(path: Path) -> None:
    """Raise a UserError where a folder cannot be: a file is there, or the name is no text."""
    check_name(path)
    if path.exists() and not path.is_dir():
        raise UserError(f"{path}: expected a folder, got a file; choose another OUTPUT")


def check_name(path: Path) -> None:
    """Refuse a path that is not UTF-8, which libraries that read and write files cannot take.

    Raises:
        UserError: it is not.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError(f"{path}: expected a name in UTF-8, got other bytes; rename it") from None


def check_outputs(outputs: Iterable[Path | None], inputs: Iterable[Path | None]) -> None:
    """Refuse files to be written that are also read, by whatever path or link, or written twice.

    Args:
        outputs: all files that will be written; None is left out.
        inputs: the files that are read; None, and what is not there, is left out.

    Raises:
        UserError: an output is one of the inputs, or another output.
    """
    read = {_identity(path): path for path in inputs if path is not None and path.exists()}
    written = set()
    for path in outputs:
        if path is None:
            continue
        if path.exists() and (source := read.get(_identity(path))):
            raise UserError(
                f"{path}: expected an output that is none of the inputs, got the input {source}; "
                "choose another output"
            )
        if path.resolve() in written:
            raise UserError(
                f"{path}: expected a file of its own for each output, got one for two; choose "
                "another output"
            )
        written.add(path.resolve())


def remove_leftovers(
    folder: Path, *, of: str = "", min_age_s: float = 0, is_deep: bool = False
) -> None:
    """Remove the temporary files of `write_atomically` that a killed process could not remove.

    Args:
        folder: nobody else is writing there, or not what `of` names.
        of: name of a file in it; empty: any.
        min_age_s: younger ones stay, where others may be writing.
        is_deep: in the folders below it, too.
    """
    for path in folder.rglob(".*") if is_deep else folder.glob(".*"):
        name = leftover_of(path)
        if name and of in ("", name):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime >= min_age_s:
                    path.unlink()


def leftover_of(path: Path) -> str:
    """Return the name of the file that a temporary one was to become; "" for any other file."""
    # .NAME.SUFFIX.RANDOM.SUFFIX, as mkstemp makes it
    name, _, random = path.name[1:].removesuffix(path.suffix).rpartition(".")
    is_one = path.name.startswith(".") and len(random) == 8 and name.endswith(path.suffix)
    return name if is_one else ""


def is_blank(folder: Path) -> bool:
    """Tell whether a folder holds nothing but a lock and what a killed process half wrote."""
    return all(leftover_of(path) or path.name == ".lock" for path in folder.iterdir())


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically; NaN and infinity, which JSON lacks, as null."""
    content = json.loads(json.dumps(content), parse_constant=lambda _: None)
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_table(path: Path, table: "pd.DataFrame", **options: Any) -> None:
    """Write a table without its index as CSV, atomically; floats keep every bit by default.

    Texts that a spreadsheet would take for a formula get an apostrophe, which
    `nnunet_triad.tables.read_table` takes away.

    Args:
        path: the final file.
        table: its columns become the header.
        options: of `DataFrame.to_csv`, such as float_format and sep.
    """
    from nnunet_triad.tables import quote_formulas

    with write_atomically(path) as temporary:
        quote_formulas(table).to_csv(temporary, index=False, **options)


def save_figure(figure: "Figure", path: Path, *, dpi: int = 120, **options: Any) -> Path:
    """Write a figure, atomically, in the format of the suffix; no display is needed.

    Args:
        figure: made without `pyplot`.
        path: the final file.
        dpi: dots per inch.
        options: of `Figure.savefig`, such as metadata.

    Returns:
        The path.
    """
    with write_atomically(path) as temporary:
        figure.savefig(temporary, dpi=dpi, **options)
    return path


_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


@contextlib.contextmanager
def only_process(
    path: Path, *, refusal: str | None, is_shared_within: bool = False
) -> Iterator[None]:
    """Hold a lock file; the system frees it when this process ends, however it ends.

    Nothing is held where the file system has no locks, as on some clusters.

    Args:
        path: the lock file, which stays; its folder is there.
        refusal: what to say when another process holds the lock; None: wait for it.
        is_shared_within: this process may hold it several times.

    Raises:
        UserError: another process holds it.
    """
    from filelock import FileLock, Timeout  # late: a command's --help needs none

    lock = FileLock(path, is_singleton=is_shared_within)
    try:
        with contextlib.suppress(NotImplementedError):
            lock.acquire(timeout=-1 if refusal is None else 0)
    except Timeout:
        raise UserError(refusal or "") from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    try:
        yield
    finally:
        lock.release()


def check_not_another(target: Path, source: Path) -> None:
    """Check that writing `source` to `target` would replace no file of other content.

    Raises:
        UserError: it would.
    """
    if target.exists() and (not target.is_file() or sha256(target) != sha256(source)):
        raise UserError(f"{target}: expected no file of that name, got another one; remove it")


def content_digest(path: Path) -> str:
    """Return a text that follows from a file's bytes, not from its name or time.

    A gzip file ends in the CRC-32 and the length of what is in it: nothing else is read of one.
    """
    if Path(path).suffix != ".gz":
        return sha256(path)
    with Path(path).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 8))
        return f"{size} {file.read().hex()}"


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
