"""What is known of one segmentation dataset, as data.

The folders and file names are the layout's (`nnunet_triad.datasets.layouts`); everything that a
user or nnU-Net asks for beyond that is here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from nnunet_triad.datasets.case import Case
from nnunet_triad.datasets.published import Volume

Labels = Mapping[str, int | tuple[int, ...]]


class Layout(Protocol):
    """How a dataset lies on the disk once its archives are unpacked, as published."""

    @property
    def description(self) -> str:
        """Folders and file names, for `triad-dataset list ID`."""

    def find_cases(self, source: Path) -> list[Case]:
        """Return all cases below `source`; raise UserError when files are missing."""

    def load_images(self, case: Case) -> list[Volume]:
        """Return one volume a channel."""

    def load_label(self, case: Case) -> Volume:
        """Return the label with the values of the source."""

    def write_images(self, case: Case, paths: list[Path], *, is_copied: bool) -> None:
        """Bring the channels to `paths`: links where the files can be used as they are."""

    def label_file(self, case: Case) -> Path | None:
        """Return the file that holds the label as it is, or None where it has to be made."""


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """One of the paper's 17 segmentation datasets.

    Attributes:
        id: in nnU-Net's folders.
        name: nnU-Net's name is `DatasetID_NAME`.
        anatomy: what is segmented, in words.
        modality: MRI or CT, of the data themselves; the paper errs on two of the datasets.
        is_within_domain: the paper's division, by organ and modality of the pre-training data.
        channels: nnU-Net's channel names, in order. "CT" makes nnU-Net normalise as for CT.
        labels: name to value in the converted labels, or to the values of a region.
        regions_class_order: nnU-Net's, for regions only.
        source_values: value in the published label files to value in the converted ones.
        num_cases: labelled cases, as the paper counts them (section 4.2.1).
        layout: where the files are.
        licence: as published.
        url: where to get it.
        access: what has to be done to get it.
        reference: the publication to cite.
        notes: what a user should know; one that begins with "Not verified" says what could not
            be checked against the data themselves.
    """

    id: int
    name: str
    anatomy: str
    modality: str
    is_within_domain: bool
    channels: tuple[str, ...]
    labels: Labels
    source_values: Mapping[int, int]
    num_cases: int
    layout: Layout
    licence: str
    url: str
    access: str
    reference: str
    regions_class_order: tuple[int, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        """Check what nnU-Net demands: consecutive values from 0, and an order for regions.

        Raises:
            ValueError: the fields contradict each other.
        """
        values = set(self.source_values.values())
        if values != set(range(len(values))):
            raise ValueError(f"{self.name}: expected values 0 to n without gaps, got {values}")
        if self.label_values != values:
            raise ValueError(f"{self.name}: expected labels for {values}, got {self.label_values}")
        has_regions = any(isinstance(value, tuple) for value in self.labels.values())
        if has_regions != bool(self.regions_class_order):
            raise ValueError(f"{self.name}: expected regions_class_order with regions only")

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

    @property
    def domain(self) -> str:
        """The paper's division in words."""
        return "within" if self.is_within_domain else "out of"
