"""What the documentation shows, for tests that run it."""

import re
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "docs"


def code_block(page: str, heading: str, *, language: str = "python") -> str:
    """Return the first block of code below a heading of a page."""
    text = (FOLDER / page).read_text(encoding="utf-8")
    section = re.split(r"^## ", text, flags=re.MULTILINE)
    (found,) = (part for part in section if part.startswith(f"{heading}\n"))
    match = re.search(rf"```{language}\n(.*?)```", found, flags=re.DOTALL)
    assert match is not None, f"{page}: expected code below {heading}"
    return match[1]
