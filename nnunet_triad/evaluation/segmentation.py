"""Dice of label maps, by case and label."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from nnunet_triad.errors import UserError
from nnunet_triad.images import read_labels


def dice(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Return the Dice similarity coefficient of two masks.

    Source: the paper, section 4.6, equation 2: 2|X n Y| / (|X| + |Y|).

    Args:
        prediction: bool, any shape.
        truth: bool, the same shape.

    Returns:
        0 to 1; NaN when both masks are empty, where the coefficient is undefined.

    Raises:
        ValueError: the shapes differ.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction: expected shape {truth.shape}, got {prediction.shape}")
    total = int(prediction.sum()) + int(truth.sum())
    return 2.0 * int((prediction & truth).sum()) / total if total else float("nan")


def score_folder(
    predictions: Path, truths: Path, labels: Mapping[str, int | Sequence[int]]
) -> Iterator[tuple[str, str, float]]:
    """Score each predicted NIfTI label map against the one of its name.

    Args:
        predictions: folder of CASE.nii.gz.
        truths: folder of CASE.nii.gz.
        labels: name -> label value, or the values that make up a region.

    Yields:
        (case, label, Dice).

    Raises:
        UserError: there is no prediction, or one has no truth, or lies on another grid.
    """
    files = sorted(predictions.glob("*.nii.gz"))
    if not files:
        raise UserError(f"{predictions}: expected CASE.nii.gz files, got none; predict first")
    for file in files:
        case = file.name.removesuffix(".nii.gz")
        if not (truths / file.name).is_file():
            raise UserError(f"{case}: expected its truth at {truths / file.name}, got no file")
        predicted, truth = (read_labels(path) for path in (file, truths / file.name))
        truth.grid.check_covers(
            predicted.grid, name=case, of="its truth", advice="predict from the original image"
        )
        for label, values in labels.items():
            masks = (np.isin(volume.voxels, values) for volume in (predicted, truth))
            yield case, label, dice(*masks)
