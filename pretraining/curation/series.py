"""What curation works on: a series that can say who it is and load itself.

A source of another format yields its own subclass of `Series`; nothing else changes.
"""

import abc
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pretraining.descriptions import ImagingFields


class RejectedSeriesError(Exception):
    """A series that is set aside; the message is the reason, without paths or personal data."""


@dataclass(frozen=True, kw_only=True)
class LoadedSeries:
    """A series in memory, as its source has it.

    Attributes:
        volume: (x, y, z), finite; of a series with time points the middle one.
        affine: (4, 4), voxel to world (RAS) in mm, invertible.
        fields: what the header says about the acquisition.
        original_shape: of the source, with its time axis.
        time_point: index of the volume among the source's time points; None without a time axis.
    """

    volume: np.ndarray
    affine: np.ndarray
    fields: ImagingFields
    original_shape: tuple[int, ...]
    time_point: int | None = None


@dataclass(frozen=True, kw_only=True)
class Series(abc.ABC):
    """One series of a source.

    Attributes:
        dataset, subject, study, series: the four parts of its id, each a safe file name.
        path: where it lies.
        source: the same, relative to the source's root.
        source_bytes: size of its file, to notice another one of the same name; -1 if unreadable.
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

    @abc.abstractmethod
    def load(self) -> LoadedSeries:
        """Read the voxels and the header.

        Raises:
            RejectedSeriesError: it is damaged, or not a 3D or 4D image.
        """


@dataclass(frozen=True, kw_only=True)
class FoundSeries:
    """What a look through a source found: the series, and how many images were skipped."""

    series: list[Series] = field(default_factory=list)
    num_skipped: int = 0
