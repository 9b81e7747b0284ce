"""A file from a URL or Google Drive: resumed, whole, and not a web page."""

import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from nnunet_triad.errors import UserError

_CHUNK = 2**20
_TIMEOUT_S = 30
_PAGES = (b"<!doctype html", b"<html", b"<?xml")
_DRIVE = "https://drive.google.com/file/d/"


def fetch_url(url: str, target: Path) -> None:
    """Download a file; what an interrupted download left is continued.

    The environment's proxies are used.

    Args:
        url: http or https.
        target: the file, which is there once it is whole; until then TARGET.part is.

    Raises:
        UserError: the server does not give it, gives a web page, or ends early.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        _continue(url, part)
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise UserError(
            f"{url}: expected a file, got: {str(error) or type(error).__name__}; check the "
            "network, and run again, which goes on where it stopped, or download it yourself to "
            f"{target}"
        ) from error
    _accept(part, target, url)


def is_on_drive(url: str) -> bool:
    """Say whether a URL is that of a page of Google Drive about one file."""
    return url.startswith(_DRIVE)


def fetch_from_drive(url: str, target: Path) -> None:
    """Download the file that a page of Google Drive is about, by gdown, which resumes.

    Args:
        url: https://drive.google.com/file/d/ID, as its owner shares it.
        target: the file, which is there once it is whole.

    Raises:
        UserError: Google does not give it, as when too many have asked for it today.
    """
    import gdown

    part = target.with_name(f"{target.name}.part")
    number = url.removeprefix(_DRIVE).split("/")[0]
    try:
        gdown.download(
            id=number, output=str(part), resume=True, use_cookies=False, timeout=_TIMEOUT_S
        )
    except Exception as error:  # of gdown, requests and urllib3, which share no class
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"{url}: expected a file, got: {reason}; check the network, and run again, or download "
            f"it in a browser to {target}"
        ) from error
    _accept(part, target, url)


def _accept(part: Path, target: Path, url: str) -> None:
    with part.open("rb") as file:
        start = file.read(16).lstrip().lower()
    if start.startswith(_PAGES):
        part.unlink()
        raise UserError(
            f"{url}: expected a weights file, got a web page; download it in a browser, and name "
            "its path"
        )
    part.replace(target)


def _continue(url: str, part: Path) -> None:
    begun = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={begun}-"} if begun else {})
    try:
        opener = urllib.request.build_opener()  # with the proxies of now
        answer = opener.open(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and begun:
            return  # it was whole already
        raise
    with answer:
        is_resumed = answer.status == http.HTTPStatus.PARTIAL_CONTENT
        begun = begun if is_resumed else 0  # a server that cannot resume sends all of it
        length = answer.headers.get("Content-Length")
        total = begun + int(length) if length else None
        progress = tqdm(
            total=total,
            initial=begun,
            unit="B",
            unit_scale=True,
            desc=part.stem,
            mininterval=1,
            disable=None,
        )
        with part.open("ab") as file, progress:
            if not is_resumed:
                file.truncate(0)
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                progress.update(len(chunk))
            file.flush()
            os.fsync(file.fileno())
    if total is not None and part.stat().st_size != total:
        raise OSError(f"it ended after {part.stat().st_size:,} of {total:,} bytes")
