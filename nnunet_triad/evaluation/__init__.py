"""Metrics and figures on one tidy results table."""

from nnunet_triad.evaluation.results import Result, append_results, read_results
from nnunet_triad.evaluation.segmentation import dice, score_folder

__all__ = ["Result", "append_results", "dice", "read_results", "score_folder"]
