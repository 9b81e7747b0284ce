"""Segmentation datasets, the paper's 17 and a user's own, and how they get into nnU-Net."""

from nnunet_triad.datasets.catalogue import find_dataset, known_datasets
from nnunet_triad.datasets.spec import DatasetSpec

__all__ = ["DatasetSpec", "find_dataset", "known_datasets"]
