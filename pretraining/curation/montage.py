"""A picture of a store: the middle axial slices of some of its series."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from nnunet_triad.files import write_atomically
from pretraining.store import VolumeStore

MONTAGE_FILE = "montage.png"
_NUM_COLUMNS = 6
_MAX_SERIES = 24


def save_montage(store: VolumeStore) -> Path:
    """Draw up to 24 series, evenly spread over the store; the patient's right is on the right.

    Returns:
        The picture's path, STORE/montage.png.
    """
    chosen = np.unique(np.linspace(0, len(store) - 1, min(len(store), _MAX_SERIES)).astype(int))
    num_columns = min(_NUM_COLUMNS, len(chosen))
    num_rows = -(-len(chosen) // num_columns)
    figure = Figure(figsize=(2.2 * num_columns, 2.5 * num_rows), layout="constrained")
    axes = figure.subplots(num_rows, num_columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, index in zip(axes.flat, chosen, strict=False):
        image = _middle_slice(store, int(index))
        low, high = np.percentile(image, (1, 99.5))
        axis.imshow(image.T, cmap="gray", origin="lower", vmin=low, vmax=max(high, low + 1e-6))
        axis.set_title(store.records["series"].iloc[index][-32:], fontsize=6)
    path = store.path / MONTAGE_FILE
    with write_atomically(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return path


def _middle_slice(store: VolumeStore, index: int) -> np.ndarray:
    x, y, z = store.shape(index)
    return store.read_crop(index, (0, 0, z // 2), (x, y, 1))[:, :, 0]
