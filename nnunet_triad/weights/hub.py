"""Names of weights on the Hugging Face hub: `hf://ORG/NAME[/FILE][@REVISION]`."""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_triad.errors import UserError

_FORM = "hf://ORG/NAME[/FILE][@REVISION]"
# `Path` makes hf:/ of hf://, so that a name survives options that are typed as paths.
_PATTERN = re.compile(
    r"hf:/{1,2}(?P<repository>[\w.-]+/[\w.-]+)(?:/(?P<file>[^@]+))?(?:@(?P<revision>[\w./-]+))?"
)
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")


@dataclass(frozen=True, kw_only=True)
class HubName:
    """Where a file is on the hub; `file` is None for a whole repository."""

    repository: str
    file: str | None = None
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> "HubName":
        """Read `hf://ORG/NAME[/FILE][@REVISION]`.

        Raises:
            UserError: the text has another form.
        """
        match = _PATTERN.fullmatch(text)
        if not match:
            raise UserError(f"weights: expected {_FORM}, got {text!r}")
        return cls(**match.groupdict())

    def __str__(self) -> str:
        file = f"/{self.file}" if self.file else ""
        revision = f"@{self.revision}" if self.revision else ""
        return f"hf://{self.repository}{file}{revision}"


def is_hub_name(path: Path | str) -> bool:
    """Say whether a text names something on the hub, and not a file here."""
    return str(path).startswith("hf:/")


def download(path: Path | str, *, wanted: Sequence[str] = ()) -> Path:
    """Return the local copy of a file on the hub; the hub's cache is asked first.

    Without a network, or with HF_HUB_OFFLINE=1, the cache alone is asked.

    Args:
        path: `hf://ORG/NAME[/FILE][@REVISION]`.
        wanted: names to look for, the first one first, where the name has no FILE. Without any,
            the repository must hold one weights file.

    Raises:
        UserError: the name is wrong, or there is no such repository, revision or file.
    """
    name = HubName.parse(str(path))
    file = name.file or _choose(name, wanted)
    return Path(_ask(name, "hf_hub_download", filename=file))


def _choose(name: HubName, wanted: Sequence[str]) -> str:
    files = _list_files(name)
    for candidate in wanted:
        if candidate in files:
            return candidate
    weights = [file for file in files if file.endswith(SUFFIXES)]
    if not wanted and len(weights) == 1:
        return weights[0]
    rule = " or ".join(wanted) if wanted else "one weights file"
    raise UserError(
        f"{name}: expected {rule}, got {', '.join(weights[:5]) or 'no weights file'}; "
        f"name the file: {_FORM}"
    )


def _list_files(name: HubName) -> list[str]:
    """The repository's files, or those of them in the cache when the hub cannot be reached."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return HfApi().list_repo_files(name.repository, revision=name.revision)
    except HfHubHTTPError as error:
        raise _unavailable(name, error) from error
    except Exception:  # offline, in one of many ways: the cache answers, or says why not
        folder = Path(_ask(name, "snapshot_download", local_files_only=True))
        return [str(file.relative_to(folder)) for file in sorted(folder.rglob("*"))]


def _ask(name: HubName, function: str, **arguments: Any) -> str:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        ask = getattr(huggingface_hub, function)
        return str(ask(repo_id=name.repository, revision=name.revision, **arguments))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise _unavailable(name, error) from error


def _unavailable(name: HubName, error: Exception) -> UserError:
    return UserError(
        f"{name}: expected a file that the hub or its cache gives, got: {first_sentence(error)}; "
        "check the name and the network, or download the file and name its path"
    )


def first_sentence(error: Exception) -> str:
    """Return how an error's text begins: what comes later is for programmers."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return textwrap.shorten(line.split(". ")[0].rstrip("."), 200, placeholder=" ...")
