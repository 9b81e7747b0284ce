"""A picture of a dataset in a store: the middle axial slices of some of its series."""

import re
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from nnunet_triad.files import write_atomically
from pretraining.store import VolumeStore

MONTAGE_FOLDER = "montages"
_NUM_COLUMNS = 6
_MAX_SERIES = 24


def montage_path(store: VolumeStore, dataset: str) -> Path:
    """Return where the picture of a dataset lies."""
    return store.path / MONTAGE_FOLDER / f"{dataset}.png"


def save_montage(store: VolumeStore, dataset: str) -> Path:
    """Draw up to 24 series, evenly spread over the dataset; the patient's right is on the right.

    Returns:
        The picture's path, STORE/montages/DATASET.png.
    """
    rows = np.flatnonzero(store.records["dataset"].to_numpy() == dataset)
    spread = np.linspace(0, len(rows) - 1, min(len(rows), _MAX_SERIES)).astype(int)
    chosen = rows[np.unique(spread)]
    num_columns = min(_NUM_COLUMNS, len(chosen))
    num_rows = -(-len(chosen) // num_columns)
    figure = Figure(figsize=(2.2 * num_columns, 2.6 * num_rows), layout="constrained")
    axes = figure.subplots(num_rows, num_columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, index in zip(axes.flat, chosen, strict=False):
        image = _middle_slice(store, int(index))
        low, high = np.percentile(image, (1, 99.5))
        axis.imshow(image.T, cmap="gray", origin="lower", vmin=low, vmax=max(high, low + 1e-6))
        axis.set_title(_title(store, int(index)), fontsize=7)
    path = montage_path(store, dataset)
    with write_atomically(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return path


def _title(store: VolumeStore, index: int) -> str:
    """Return the sequence, by its short name where it has one, and the end of the series' name."""
    sequence = store.records["description"].iloc[index].split(".")[0].removeprefix("MRI, ")
    short = re.search(r"\((\w+)\)", sequence)
    name = short[1] if short else sequence
    return f"{name[:30]}\n{store.records['series'].iloc[index][-26:]}"


def _middle_slice(store: VolumeStore, index: int) -> np.ndarray:
    x, y, z = store.shape(index)
    return store.read_crop(index, (0, 0, z // 2), (x, y, 1))[:, :, 0]
