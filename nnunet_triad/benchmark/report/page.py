"""The report's template and the filters that it uses."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from nnunet_triad.benchmark.report.data import architecture_name, initialization_name
from nnunet_triad.benchmark.report.svg import SvgMaker
from nnunet_triad.benchmark.report.tables import (
    show_difference,
    show_p,
    show_pair,
    show_scope,
    show_signed,
    show_value,
)


def render_page(svg: SvgMaker, **content: Any) -> str:
    """Return the page; a name that the template needs and `content` lacks is an error.

    Args:
        svg: has drawn its figures, and knows the colours.
        content: of the template.
    """
    templates = Environment(
        loader=PackageLoader("nnunet_triad.benchmark.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(
        value=show_value,
        difference=show_difference,
        signed=show_signed,
        p=show_p,
        scope=show_scope,
        pair=show_pair,
        architecture=architecture_name,
        initialization=initialization_name,
        variable=svg.css_variable,
        consecutive=consecutive,
    )
    return templates.get_template("report.html").render(hues=svg.made_hues, **content)


def consecutive(rows: Iterable[Any], name: str) -> Iterator[list[Any]]:
    """Yield rows that follow each other with the same value of an attribute (dots go deeper)."""

    def value(row: Any) -> Any:
        for part in name.split("."):
            row = getattr(row, part)
        return row

    for _, group in itertools.groupby(rows, key=value):
        yield list(group)
