"""The paper's 17 segmentation datasets: what they are, and how they become nnU-Net datasets."""

from nnunet_triad.datasets.catalogue import DATASETS, find_dataset
from nnunet_triad.datasets.spec import DatasetSpec

__all__ = ["DATASETS", "DatasetSpec", "find_dataset"]
