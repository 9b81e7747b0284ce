"""The summary page of a store: what is in it, what was set aside and why, and how it looks."""

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pandas as pd

from nnunet_triad import __version__
from nnunet_triad.files import write_atomically
from pretraining.curation.montage import save_montage
from pretraining.store import VolumeStore, read_rejected

SUMMARY_FILE = "summary.html"
_MOST_ROWS = 20  # of a table of counts; the rest is added up


@dataclass(frozen=True, kw_only=True)
class Count:
    """One row of a table of counts."""

    name: str
    number: int
    share: float  # of the whole table


@dataclass(frozen=True, kw_only=True)
class DatasetSummary:
    """One dataset of a store."""

    name: str
    num_series: int
    num_subjects: int
    num_studies: int
    num_rejected: int
    sequences: list[Count]
    manufacturers: list[Count]
    reasons: list[Count]
    montage: str  # PNG in base64, "" without series


def save_summary(store: VolumeStore) -> Path:
    """Write the page and the montages.

    Returns:
        The page's path, STORE/summary.html. It needs no other file and no network.
    """
    template = _environment().get_template("summary.html.j2")
    page = template.render(
        version=__version__,
        name=store.path.name,
        shape=" x ".join(map(str, store.volume_shape)),
        datasets=summarize(store),
        dtypes=counts(store.records["dtype"] + ": " + store.records["dtype_reason"]),
    )
    path = store.path / SUMMARY_FILE
    with write_atomically(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def summarize(store: VolumeStore) -> list[DatasetSummary]:
    """Count what is in a store and what was set aside, by dataset."""
    records, rejected = store.records, read_rejected(store.path)
    names = sorted({*records["dataset"], *rejected["dataset"]})
    return [
        _summarize(store, name, records[records["dataset"] == name], rejected) for name in names
    ]


def counts(values: Iterable[str]) -> list[Count]:
    """Count values, the most frequent first; what is rare is added up."""
    numbers = pd.Series(list(values), dtype=str).value_counts(sort=False)
    ordered = sorted(numbers.items(), key=lambda one: (-one[1], one[0]))
    total = sum(number for _, number in ordered)
    shown = ordered[:_MOST_ROWS]
    if rest := sum(number for _, number in ordered[_MOST_ROWS:]):
        shown.append((f"{len(ordered) - _MOST_ROWS} others", rest))
    return [
        Count(name=str(name), number=int(number), share=number / total) for name, number in shown
    ]


def kind_of_reason(reason: str) -> str:
    """Return a reason without what tells one image from another: its numbers and names."""
    if reason.startswith("same "):
        return f"{' '.join(reason.split()[:2])} as another series"
    if reason.startswith("derived:"):
        return reason
    return re.split(r"[:,(]", reason)[0].strip()


def _summarize(
    store: VolumeStore, name: str, records: pd.DataFrame, rejected: pd.DataFrame
) -> DatasetSummary:
    reasons = rejected[rejected["dataset"] == name]["reason"]
    words = records["description"].str.split(". ", regex=False)
    return DatasetSummary(
        name=name,
        num_series=len(records),
        num_subjects=records["subject"].nunique(),
        num_studies=len(records[["subject", "study"]].drop_duplicates()),
        num_rejected=len(reasons),
        sequences=counts(text[0].removeprefix("MRI, ").rstrip(".") for text in words),
        manufacturers=counts(_manufacturer(text) for text in words),
        reasons=counts(map(kind_of_reason, reasons)),
        montage=_base64(save_montage(store, name)) if len(records) else "",
    )


def _manufacturer(words: list[str]) -> str:
    labelled = (word for word in words if word.startswith("Manufacturer: "))
    return next(labelled, "not told").removeprefix("Manufacturer: ").rstrip(".")


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode("ascii")


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("pretraining.curation"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
