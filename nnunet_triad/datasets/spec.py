"""What is known of one segmentation dataset, as data.

The folders and file names are the layout's (`nnunet_triad.datasets.layouts`); everything that a
user or nnU-Net asks for beyond that is here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from nnunet_triad.datasets.case import Case
from nnunet_triad.datasets.published import place, read_nifti
from nnunet_triad.images import Volume

Labels = Mapping[str, int | tuple[int, ...]]


class Layout(Protocol):
    """How a dataset lies on the disk once its archives are unpacked, as published.

    Where nothing else is said, a case is one NIfTI file a channel and one for the label.
    """

    @property
    def description(self) -> str:
        """Folders and file names, for `triad-dataset list ID`."""

    def find_cases(self, source: Path, spec: "DatasetSpec") -> list[Case]:
        """Return all cases below `source`; raise UserError when files are missing."""

    def load_images(self, case: Case) -> list[Volume]:
        """Return one volume a channel."""
        return [read_nifti(path) for path in case.images]

    def load_label(self, case: Case) -> Volume:
        """Return the label with the values of the source."""
        return read_nifti(case.labels[0], is_label=True)

    def write_images(self, case: Case, paths: list[Path], *, is_copied: bool) -> None:
        """Bring the channels to `paths`: links where the files can be used as they are."""
        for source, path in zip(case.images, paths, strict=True):
            place(source, path, is_copied=is_copied)

    def label_file(self, case: Case) -> Path | None:
        """Return the file that holds the label as it is, or None where it has to be made."""
        return case.labels[0]


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """A segmentation dataset: a file in `data/`, or one of the user's own.

    Attributes:
        id: in nnU-Net's folders, 1 to 999.
        name: nnU-Net's name is `DatasetID_NAME`.
        channels: nnU-Net's channel names, in order. "CT" makes nnU-Net normalise as for CT.
        labels: name to value in the converted labels, or to the values of a region.
        layout: where the files are.
        source_values: value in the published label files to value in the converted ones; the same
            values when left out.
        regions_class_order: nnU-Net's, for regions only.
        num_cases: labelled cases that there should be, 0 where nobody counted; in `data/`, as the
            paper counts them (section 4.2.1).
        anatomy: what is segmented, in words.
        modality: MRI or CT, of the data themselves; the paper errs on two of the datasets.
        licence: as published.
        url: where to get it.
        access: what has to be done to get it.
        reference: the publication to cite.
        notes: what a user should know; one that begins with "Not verified" says what could not
            be checked against the data themselves.
    """

    id: int
    name: str
    channels: tuple[str, ...]
    labels: Labels
    layout: Layout
    source_values: Mapping[int, int] = field(default_factory=dict)
    regions_class_order: tuple[int, ...] = ()
    num_cases: int = 0
    anatomy: str = ""
    modality: str = ""
    licence: str = ""
    url: str = ""
    access: str = ""
    reference: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check what nnU-Net demands: consecutive values from 0, and an order for regions.

        Raises:
            ValueError: the fields contradict each other.
        """
        if not 1 <= self.id <= 999:
            raise ValueError(f"id: expected 1 to 999, got {self.id}")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", self.name):
            raise ValueError(f"name: expected letters, digits, - and _, got {self.name!r}")
        if not self.channels:
            raise ValueError("channels: expected at least one, got none")
        if not self.source_values:
            same = {value: value for value in sorted(self.label_values)}
            object.__setattr__(self, "source_values", same)
        self._check_labels()

    def _check_labels(self) -> None:
        values = set(self.source_values.values())
        if self.labels.get("background") != 0:
            raise ValueError(f"labels: expected background = 0, got {self.labels}")
        if values != set(range(len(values))):
            raise ValueError(f"labels: expected values 0 to n without gaps, got {sorted(values)}")
        if self.label_values != values:
            raise ValueError(f"labels: expected names for {sorted(values)}, got {self.labels}")
        single = [value for value in self.labels.values() if not isinstance(value, tuple)]
        if len(single) > len(set(single)):
            raise ValueError(f"labels: expected a value of its own for each, got {self.labels}")
        if (len(single) < len(self.labels)) != bool(self.regions_class_order):
            raise ValueError("regions_class_order: expected with regions, and with regions only")

    @property
    def folder_name(self) -> str:
        """The name of the dataset's folder in each of nnU-Net's three places."""
        return f"Dataset{self.id:03d}_{self.name}"

    @property
    def label_values(self) -> set[int]:
        """All values of the converted labels, background included."""
        values: set[int] = set()
        for value in self.labels.values():
            values |= set(value) if isinstance(value, tuple) else {value}
        return values
