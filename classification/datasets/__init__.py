"""The five datasets of the paper, from their published layouts to manifests."""

from classification.datasets.prepare import DATASETS, PrepareOptions, prepare_dataset

__all__ = ["DATASETS", "PrepareOptions", "prepare_dataset"]
