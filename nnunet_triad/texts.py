"""The one reader of texts and JSON: regular files of a bounded size.

Tables have a reader of their own, `nnunet_triad.tables`.
"""

import json
import stat
from pathlib import Path
from typing import Any

from nnunet_triad.errors import UserError

# A hundred times the largest that is known of such files; JSON takes some twenty times its size.
MOST_BYTES = 1 << 26
MOST_OF_A_LIST = 1 << 29  # of files of ours and of nnU-Net's that grow with a data set


class TextError(UserError):
    """A file that is no text of a bounded size, or no JSON."""


def read_short_text(
    path: Path, *, most_bytes: int = MOST_BYTES, encoding: str = "utf-8-sig", errors: str = "strict"
) -> str:
    """Read a text file; what is no regular file is not opened, as a pipe would block for ever.

    Args:
        path: the file.
        most_bytes: that it may have.
        encoding: of the text; by default UTF-8, with or without a byte order mark.
        errors: what becomes of other bytes, as for `open`.

    Raises:
        OSError: it cannot be opened.
        TextError: it is no regular file, too large, or of another encoding.
    """
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise TextError(f"{path}: expected a file, got a folder")
    if not stat.S_ISREG(status.st_mode):
        raise TextError(f"{path}: expected a regular file, got a pipe, device or socket")
    if status.st_size > most_bytes:
        got = f"{status.st_size / 2**20:.3g}"
        raise TextError(f"{path}: expected at most {most_bytes / 2**20:.3g} MiB of text, got {got}")
    try:
        return path.read_text(encoding=encoding, errors=errors)
    except UnicodeDecodeError as error:
        raise TextError(f"{path}: expected text in UTF-8, got other bytes ({error})") from None


def read_json(path: Path, *, most_bytes: int = MOST_BYTES) -> Any:
    """Read a JSON file; see `read_short_text`.

    Raises:
        OSError: it cannot be opened.
        TextError: it is no such file, or no JSON.
    """
    return parse_json(read_short_text(path, most_bytes=most_bytes), str(path))


def parse_json(text: str, name: str) -> Any:
    """Read JSON from a text.

    Args:
        text: of any content.
        name: of where it stands, for the message.

    Raises:
        TextError: it is no JSON, or nested without end.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise TextError(f"{name}: expected JSON, got some that is nested without end") from None
    except ValueError as error:
        raise TextError(f"{name}: expected JSON, got something else ({error})") from None
