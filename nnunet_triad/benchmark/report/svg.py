"""matplotlib's figures as inline SVG whose colours are the page's, in light and in dark.

Figures are drawn in stand-in colours, which become CSS variables afterwards. Text stays text, so
that it can be selected and scales with the page.
"""

import io
import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from nnunet_triad.benchmark.paper import initializations

INK, MUTED, LINE = "#010101", "#020202", "#030303"
# One stand-in for each of the paper's initialisations; the page says which colour it has.
_SERIES = ("#0a0a01", "#0a0a02", "#0a0a03", "#0a0a04", "#0a0a05")
_NUM_OTHERS = 4  # colours of the page for further ones; those after them are made
_GOLDEN_ANGLE = 137.508  # degrees: hues that follow each other by it stay apart
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    **{colour: f"--series-{number}" for number, colour in enumerate(_SERIES, 1)},
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "triad",  # the same figure gives the same bytes
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "grid.color": LINE,
    "legend.frameon": False,
}


class SvgMaker:
    """Makes the SVGs of one page; the ids inside them are distinct, and so are the colours."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._colours = dict(zip(initializations(), _SERIES, strict=True))
        self._variables = dict(_VARIABLES)

    def colour(self, initialization: str) -> str:
        """Return the stand-in colour of an initialisation; one that is not the paper's gets one."""
        if initialization not in self._colours:
            number = len(self._colours) - len(_SERIES) + 1
            self._colours[initialization] = f"#0b{number:04x}"
            self._variables[f"#0b{number:04x}"] = f"--other-{number}"
        return self._colours[initialization]

    def css_variable(self, initialization: str) -> str:
        """Return the CSS variable of an initialisation's colour."""
        return self._variables[self.colour(initialization)]

    @property
    def made_hues(self) -> dict[str, float]:
        """CSS variable -> hue, degrees, of the colours that the page's style has not."""
        others = range(_NUM_OTHERS + 1, len(self._colours) - len(_SERIES) + 1)
        return {f"--other-{number}": round(number * _GOLDEN_ANGLE % 360, 1) for number in others}

    @contextmanager
    def figure(self, width: float, height: float) -> Iterator[Figure]:
        """Yield a figure to draw on, of a size in inches, in the page's style."""
        with mpl.rc_context(_STYLE):
            yield Figure(figsize=(width, height), layout="constrained")

    def render(self, figure: Figure, *, label: str) -> str:
        """Return a figure as an SVG element; `label` is what a screen reader says."""
        with mpl.rc_context(_STYLE):
            buffer = io.StringIO()
            FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
        text = buffer.getvalue()
        text = text[text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        text = re.sub(r"<style[^>]*>\*\{.*?\}</style>", "", text, flags=re.DOTALL)
        text = self._unique_ids(text)
        for colour, variable in self._variables.items():
            text = text.replace(colour, f"var({variable})")
        return self._as_image(text, label)

    def _unique_ids(self, text: str) -> str:
        prefix = f"g{next(self._numbers)}-"
        text = re.sub(r'\bid="', f'id="{prefix}', text)
        text = re.sub(r"url\(#", f"url(#{prefix}", text)
        return re.sub(r'href="#', f'href="#{prefix}', text)

    def _as_image(self, text: str, label: str) -> str:
        """Give the element a name, and a width that follows the page."""
        end = text.index(">")
        head = re.sub(r'\s(?:width|height|version|xmlns|xmlns:xlink)="[^"]*"', "", text[:end])
        width = re.search(r'\swidth="([\d.]+)pt"', text[:end])
        size = f"{float(width[1]) * 4 / 3:.0f}px" if width else "100%"
        attributes = f'role="img" aria-label="{escape(label, quote=True)}"'
        return f'{head} {attributes} style="width:100%;max-width:{size};height:auto"{text[end:]}'
