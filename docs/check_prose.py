"""Readability of the documentation, page by page, and the sentences that are too long to read once.

`python docs/check_prose.py` warns, and fails nothing: a list of names is long and still easy.
Code, tables and headings are left out. LIX counts letters alone, so that no dictionary has to be
downloaded; the library that has it installs a package called `tests`, which hides this project's.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import markdown

ROOT = Path(__file__).parents[1]
PAGES = ("*.md", "docs/**/*.md", "studies/*.md")
MAX_LIX = 50  # above: harder than newspapers (Bjoernsson 1968)
MAX_WORDS = 40  # in one sentence
LEFT_OUT = {"code", "pre", "table", "h1", "h2", "h3", "h4"}
BLOCKS = {"p", "li"}


class Prose(HTMLParser):
    """Collects the text of paragraphs and items, one string each."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = [""]
        self._inside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in LEFT_OUT:
            self._inside.append(tag)
            self.blocks[-1] += "NAME" if tag == "code" else ""
        elif tag in BLOCKS:
            self.blocks.append("")

    def handle_endtag(self, tag: str) -> None:
        if self._inside and tag == self._inside[-1]:
            self._inside.pop()
        elif tag in BLOCKS:
            self.blocks.append("")

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.blocks[-1] += data


def read_sentences(page: Path) -> list[str]:
    """Return the sentences of a page's prose."""
    prose = Prose()
    extensions = ["tables", "fenced_code", "admonition"]
    prose.feed(markdown.markdown(page.read_text(encoding="utf-8"), extensions=extensions))
    blocks = (" ".join(block.split()) for block in prose.blocks)
    parts = (part for block in blocks for part in re.split(r"(?<=[.?!])\s+", block))
    return [part for part in parts if re.search("[a-z]", part)]


def measure_lix(sentences: list[str]) -> float:
    """Return words a sentence + the percentage of words with more than six letters."""
    words = [word for sentence in sentences for word in re.findall(r"[^\W\d_]+", sentence)]
    long = sum(len(word) > 6 for word in words)
    return len(words) / len(sentences) + 100 * long / len(words) if words else 0.0


def main() -> None:
    """Warn of each page that is hard to read, and of each long sentence."""
    found = [page for pattern in PAGES for page in sorted(ROOT.glob(pattern))]
    pages = [page for page in found if page.name != "api.md"]  # a list of names
    for page in pages:
        name = page.relative_to(ROOT)
        sentences = read_sentences(page)
        if (lix := measure_lix(sentences)) > MAX_LIX:
            print(f"{name}: readability (LIX) {lix:.0f}, above {MAX_LIX}", file=sys.stderr)
        for sentence in sentences:
            if (length := len(sentence.split())) > MAX_WORDS:
                print(f"{name}: {length} words: {sentence[:120]} ...", file=sys.stderr)


if __name__ == "__main__":
    main()
