"""The five datasets of the paper, from their published layouts to manifests."""

from classification.datasets.prepare import DATASETS, prepare_dataset

__all__ = ["DATASETS", "prepare_dataset"]
