"""What curation works on: a series that can say who it is and load itself.

A source of another format yields its own subclass of `Series`; nothing else changes.
"""

import abc
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pretraining.curation.settings import QualityRules
from pretraining.descriptions import ImagingFields


class RejectedSeriesError(Exception):
    """A series that is set aside; the message is the reason, without paths or personal data."""


@dataclass(frozen=True, kw_only=True)
class HeaderFacts:
    """What the quality rules ask of a header.

    Attributes:
        modality: such as "MR" or "CT"; None where the source does not tell.
        derived: what an image that no scanner acquired is, such as "subtraction"; else None.
    """

    modality: str | None = None
    derived: str | None = None


@dataclass(frozen=True, kw_only=True)
class LoadedSeries:
    """A series in memory, as its source has it.

    Attributes:
        volume: (x, y, z); of a series with time points the middle one.
        affine: (4, 4), voxel to world (RAS) in mm, invertible.
        fields: what the header says about the acquisition.
        original_shape: of the source, with its time axis.
        time_point: index of the volume among the source's time points; None without a time axis.
        notes: what was mended, such as "2 duplicate slices dropped".
    """

    volume: np.ndarray
    affine: np.ndarray
    fields: ImagingFields
    original_shape: tuple[int, ...]
    time_point: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Series(abc.ABC):
    """One series of a source.

    Attributes:
        dataset, subject, study, series: the four parts of its id, each a safe file name.
        path: where it lies: its file, or the folder of its first file.
        source: what the store says about where it came from.
        source_bytes: size of its files, to notice others of the same name; -1 if unreadable.
    """

    dataset: str
    subject: str
    study: str
    series: str
    path: Path
    source: str
    source_bytes: int

    @property
    def series_id(self) -> str:
        """DATASET/SUBJECT/STUDY/SERIES."""
        return f"{self.dataset}/{self.subject}/{self.study}/{self.series}"

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold it."""
        return (self.path,)

    @abc.abstractmethod
    def load(self, rules: QualityRules) -> LoadedSeries:
        """Read the header, apply the rules that need nothing else, and read the voxels.

        Raises:
            RejectedSeriesError: it is damaged, not a 3D or 4D image, or its header breaks a rule.
        """


@dataclass(frozen=True, kw_only=True)
class BadFile:
    """Something in a source that belongs to no series.

    Attributes:
        source: what the store says about where it lies.
        path: where it lies.
        reason: why it is set aside.
    """

    source: str
    path: Path
    reason: str


@dataclass(frozen=True, kw_only=True)
class FoundSeries:
    """What a look through a source found; each of its files is in one of these.

    Attributes:
        series: what is to be curated.
        bad_files: what is set aside without a series.
        skipped: labels and derivatives.
        others: how many other files there are, by ending.
    """

    series: list[Series] = field(default_factory=list)
    bad_files: list[BadFile] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: "FoundSeries") -> "FoundSeries":
        """Return what both found."""
        return FoundSeries(
            series=self.series + other.series,
            bad_files=self.bad_files + other.bad_files,
            skipped=self.skipped + other.skipped,
            others=self.others + other.others,
        )
