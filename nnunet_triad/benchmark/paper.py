"""The paper's comparison as data: its datasets, its runs, and every result that its text prints.

Source: Wang et al., Triad: Vision Foundation Model for 3D Magnetic Resonance Imaging, 2025; each
row of the three tables in `data/` names its section. The figures' bars and curves carry no printed
numbers, and none is read off them here.
"""

import functools
from dataclasses import dataclass
from importlib import resources
from typing import Literal

from nnunet_triad.tables import parse_table, rows_of
from nnunet_triad.weights.origins import ORIGINS

TASKS = ("segmentation", "classification", "registration")

# What the paper averages over; each is a set of datasets of one task.
GROUPS = {
    "within-domain": "Within-domain",  # organs and modalities of the pre-training
    "out-of-domain": "Out-of-domain",
    "msd-ct": "MSD, CT (Fig. 4a)",  # the six that the paper calls CT
    "all": "All datasets",
}

ARCHITECTURES = {
    "unet": "nnU-Net (31M)",
    "swin_t": "Swin-T (not in the paper)",
    "swin_b": "Swin-B",
    "swin_l": "Swin-L",
    "swin_h": "Swin-H",
    "transmorph_l": "TransMorph, Swin-L",
    "swinunetr_b": "SwinUNETR, Swin-B",
}

SCRATCH = "scratch"


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A downstream dataset of the paper."""

    task: str
    name: str
    nnunet_id: int | None  # segmentation only
    groups: tuple[str, ...]
    modality: str  # what the data are; section 2.1.3 swaps MSD-Liver and MSD-Hippocampus
    organ: str
    num_cases: int | None  # as printed in `section`
    num_train: int | None
    num_validation: int | None
    num_test: int | None
    section: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One architecture, with the initialisations that the paper compares on some groups."""

    task: str
    architecture: str
    initializations: tuple[str, ...]
    groups: tuple[str, ...]
    section: str


@dataclass(frozen=True, kw_only=True)
class Published:
    """One number that the paper's text prints, in percent (a count where `kind` says so)."""

    task: str
    kind: Literal["value", "difference", "count"]
    metric: str  # dice, accuracy, experiments
    scope: str  # a dataset, or a key of GROUPS
    label: str  # empty: the mean over the labels
    architecture: str
    initialization: str
    minus_architecture: str  # a difference: what is subtracted
    minus_initialization: str
    value: float
    section: str
    figure: str
    note: str


@functools.cache
def datasets() -> tuple[Dataset, ...]:
    """Return the 17 + 5 + 3 downstream datasets, in the paper's order."""
    counts = ("nnunet_id", "num_cases", "num_train", "num_validation", "num_test")
    return tuple(
        Dataset(
            **{  # type: ignore[arg-type]
                **row,
                **{name: int(row[name]) if row[name] else None for name in counts},
                "groups": (*row["groups"].split(), "all"),
            }
        )
        for row in _rows("datasets.csv")
    )


@functools.cache
def comparisons() -> tuple[Comparison, ...]:
    """Return which initialisations the paper compares, by task and architecture."""
    return tuple(
        Comparison(
            **{  # type: ignore[arg-type]
                **row,
                "initializations": tuple(row["initializations"].split()),
                "groups": tuple(row["groups"].split()),
            }
        )
        for row in _rows("comparisons.csv")
    )


@functools.cache
def initializations() -> dict[str, str]:
    """Return the paper's initialisations and how they are shown, in the order of a report."""
    titles = {SCRATCH: "Scratch", **{o.initialization: o.title for o in ORIGINS}}
    compared = {name for comparison in comparisons() for name in comparison.initializations}
    return {name: title for name, title in titles.items() if name in compared}


@functools.cache
def published() -> tuple[Published, ...]:
    """Return every result that the paper's text prints."""
    return tuple(
        Published(**{**row, "value": float(row["value"])})  # type: ignore[arg-type]
        for row in _rows("published.csv")
    )


def find_dataset(task: str, name: str) -> Dataset | None:
    """Return the paper's dataset of that name, in any case, or of a name like Dataset501_X."""
    for dataset in datasets():
        if dataset.task != task:
            continue
        prefix = f"dataset{dataset.nnunet_id:03d}_" if dataset.nnunet_id else None
        if name.lower() == dataset.name.lower() or (prefix and name.lower().startswith(prefix)):
            return dataset
    return None


def members(task: str, scope: str) -> tuple[str, ...]:
    """Return the names of the datasets of a group; of a dataset, its own name."""
    if scope not in GROUPS:
        return (scope,)
    return tuple(d.name for d in datasets() if d.task == task and scope in d.groups)


def _rows(name: str) -> list[dict[str, str]]:
    text = (
        resources.files("nnunet_triad.benchmark").joinpath("data", name).read_text(encoding="utf-8")
    )
    return [row for _, row in rows_of(parse_table(text, f"{name}: expected a table"))]
