"""One case of a dataset, before its files have been opened."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Case:
    """The files that make one training or test case.

    Attributes:
        name: nnU-Net's case identifier.
        images: one file a channel, or one file with all channels.
        labels: the files that make up its label; empty for a test case.
        patient: who was scanned; cases of one patient stay on one side of a split.
        split: the dataset's own division, as published: train, valid or test.
    """

    name: str
    images: tuple[Path, ...]
    labels: tuple[Path, ...]
    patient: str
    split: str = "train"

    @property
    def has_label(self) -> bool:
        """Whether it is a training case for nnU-Net."""
        return bool(self.labels)

    @property
    def files(self) -> tuple[Path, ...]:
        """All source files."""
        return (*self.images, *self.labels)
