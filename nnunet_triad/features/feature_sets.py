"""Matrices of features, one row a case: the encoder's, and the floors beside it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nnunet_triad.features.first_order import EXTENTS, VOLUME
from nnunet_triad.features.regions import WHOLE
from nnunet_triad.features.table import FeatureTable

ENCODER = "encoder"
RANDOM_FLOOR = "random weights"
FLOORS = {
    RANDOM_FLOOR: "the same network with its initial weights",
    "intensity statistics": "mean, deviation, percentiles, skewness and kurtosis of the image",
    "image size": "the image's extent in mm: what a crop gives away",
    "mask volumes": "volume of each label in mm^3",
}


def feature_sets(
    encoder: FeatureTable, random: FeatureTable, cases: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """Return name -> (cases, numbers): the encoder's features, then the floors.

    Regions stand side by side; what one lacks is NaN, but a missing label has the volume 0.

    Args:
        encoder: features of the encoder.
        random: of the same network with random weights; of the same cases.
        cases: in the order that is wanted.
    """
    intensities = [name for name in encoder.first_order if name.startswith("intensity")]
    extents = encoder.rows.groupby("case")[list(EXTENTS)].first()
    sets = {
        ENCODER: side_by_side(encoder.rows, encoder.features, cases),
        RANDOM_FLOOR: side_by_side(random.rows, random.features, cases),
        "intensity statistics": side_by_side(encoder.rows, intensities, cases),
        "image size": extents.loc[list(cases)].to_numpy(),
    }
    if set(encoder.rows["region"]) != {WHOLE}:
        volumes = side_by_side(encoder.rows, [VOLUME], cases)
        sets["mask volumes"] = np.nan_to_num(volumes, nan=0.0)
    return sets


def side_by_side(
    rows: pd.DataFrame, columns: Sequence[str], cases: Sequence[str]
) -> NDArray[np.float64]:
    """Return (cases, regions x columns), NaN where a case lacks a region."""
    regions = sorted(set(rows["region"]))
    parts = []
    for region in regions:
        part = rows[rows["region"] == region].set_index("case")[list(columns)]
        parts.append(part.reindex(list(cases)).to_numpy(np.float64))
    return np.concatenate(parts, axis=1)
