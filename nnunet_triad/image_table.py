"""What tables whose rows name images have in common: paths, subjects, and names of cases."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nnunet_triad.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

CHANNEL_SEPARATOR = "|"  # between the paths of an image of several channels


def natural_key(name: str) -> list[tuple[int, float, str]]:
    """Return a sort key in which numbers inside a name count as numbers."""
    parts = re.split(r"(\d+)", name)
    return [
        (0, float(part), "") if part.isdecimal() else (1, 0.0, part.lower())
        for part in parts
        if part
    ]


def image_paths(path: Path, names: Sequence[str], base: Path) -> tuple[tuple[Path, ...], ...]:
    """Return the files of each image, one a channel, whether they are there or not.

    Args:
        path: of the table, for messages.
        names: cells of its column `image`.
        base: the folder that relative paths start at.

    Raises:
        UserError: a cell is empty, or images differ in their number of channels.
    """
    if "" in names:
        raise UserError(
            f"{path}: expected a path in each row of the column image, got an empty one"
        )
    images = tuple(
        tuple(base / part.strip().replace("\\", "/") for part in name.split(CHANNEL_SEPARATOR))
        for name in names
    )
    numbers = sorted({len(image) for image in images})
    if len(numbers) > 1:
        raise UserError(
            f"{path}: expected the same number of channels for each image, got {numbers}; "
            f"give each as many paths, joined by {CHANNEL_SEPARATOR}"
        )
    return images


def read_subjects(path: Path, table: "pd.DataFrame") -> NDArray[np.str_]:
    """Return the subject of each row, (n,): its image where there is no such column.

    Raises:
        UserError: a row has none.
    """
    if "subject" not in table:
        return table["image"].to_numpy(dtype=str)
    if (table["subject"] == "").any():
        line = table.index[table["subject"] == ""][0]
        raise UserError(f"{path}: expected a subject in each row, got none in line {line}")
    return table["subject"].to_numpy(dtype=str)


def name_cases(table: "pd.DataFrame") -> NDArray[np.str_]:
    """Return the image's path as it is in the table, with a number where it is there twice."""
    names = table["image"]
    repeats = names.groupby(names, sort=False).cumcount()
    is_repeated = names.duplicated(keep=False)
    if not is_repeated.any():
        return names.to_numpy(dtype=str)
    return names.where(~is_repeated, names + "#" + repeats.astype(str)).to_numpy(dtype=str)
