"""What the documentation shows, for tests that run it."""

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "docs"
PAGES = (FOLDER.parent / "README.md", *sorted(FOLDER.rglob("*.md")))


def code_block(page: str, heading: str, *, language: str = "python") -> str:
    """Return the first block of code below a heading of a page."""
    text = (FOLDER / page).read_text(encoding="utf-8")
    section = re.split(r"^## ", text, flags=re.MULTILINE)
    (found,) = (part for part in section if part.startswith(f"{heading}\n"))
    match = re.search(rf"```{language}\n(.*?)```", found, flags=re.DOTALL)
    assert match is not None, f"{page}: expected code below {heading}"
    return match[1]


def code_blocks(page: str, language: str) -> list[str]:
    """Return all blocks of code of a page in one language."""
    text = (FOLDER / page).read_text(encoding="utf-8")
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the command lines of a page's blocks of code that call a program of this project.

    Each is split into words as a shell does it, from the program's name on.
    """
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```(\w*)\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)
    for block in (code for language, code in blocks if language in ("", "bash")):
        for line in block.replace("\\\n", " ").splitlines():
            if re.search(r"\btriad-[a-z]+ ", line) and not line.startswith("error:"):
                yield from _calls(line.strip().removeprefix("$ "))


def _calls(line: str) -> Iterator[list[str]]:
    words = shlex.shlex(line, posix=True, punctuation_chars=";|&()")
    words.whitespace_split = True
    for is_end, part in itertools.groupby(words, key=lambda word: set(word) <= set(";|&()")):
        found = itertools.dropwhile(lambda word: not re.fullmatch("triad-[a-z]+", word), part)
        if not is_end and (call := list(found)):
            yield call
