"""Pictures of a run: what it makes of fixed crops, and its numbers over the steps."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from nnunet_triad.files import save_figure
from nnunet_triad.training.training_log import LOG_NAME
from pretraining.network import PretrainNetwork
from pretraining.objective import Column, Objective
from pretraining.pretrain_data import PretrainData

PROGRESS_NAME = "progress.png"
NUM_PICTURED = 4
_PANELS = {  # column of the log -> title, beside the loss and the objective's figures
    "alignment": "alignment (Spearman, held-out volumes)",
    "rank": "effective rank (held-out volumes)",
    "gradient_norm": "gradient norm, before clipping",
    "learning_rate": "learning rate",
}
_PANELS_A_ROW = 4


def crops_path(output: Path, objective: Objective) -> Path | None:
    """Return where the pictures of an objective are drawn; None: it has none."""
    return output / f"{objective.picture_name}.png" if objective.picture_name else None


def draw_crops(
    output: Path, *, network: PretrainNetwork, data: PretrainData, device: torch.device, step: int
) -> Path | None:
    """Draw what an objective makes of fixed crops: their middle axial slices.

    The crops are the centres of up to four volumes, the same at each call: of the held-out ones
    where there are enough.

    Returns:
        The picture; None where the objective has none.
    """
    path = crops_path(output, network.objective)
    if path is None:
        return None
    volumes = pictured_volumes(data)
    rows = [_columns(network, data, volume, device=device) for volume in volumes]
    x, y, _ = data.dataset.crop_size
    height = 0.4 + (2.15 * y / x + 0.22) * len(rows)
    figure = Figure(figsize=(2.3 * len(rows[0]), height), layout="constrained")
    name = network.objective.picture_name.capitalize()
    figure.suptitle(f"{name} after {step} steps (middle slice of a centre crop)")
    axes = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    for columns, row, volume in zip(rows, axes, volumes, strict=True):
        for axis, column in zip(row, columns, strict=True):
            image = _middle_slice(column.images).T
            axis.imshow(image, cmap="gray", vmin=column.black, vmax=column.white, origin="lower")
            axis.set_title(column.title, fontsize=9)
            axis.set_xticks([])
            axis.set_yticks([])
        row[0].set_ylabel(data.table.names[volume].replace("/", "\n"), fontsize=7)
    return save_figure(figure, path)


def pictured_volumes(data: PretrainData) -> list[int]:
    """Return the indices of up to four volumes, spread over those that are held out, or all."""
    pool = data.held_out if len(data.held_out) >= NUM_PICTURED else np.arange(len(data.table))
    places = np.linspace(0, len(pool) - 1, min(NUM_PICTURED, len(pool))).astype(int)
    return pool[places].tolist()


def draw_progress(output: Path, objective: Objective) -> Path:
    """Draw the numbers of OUTPUT/log.csv, a panel a column.

    Every step is drawn faintly below a running median; what is measured now and then has dots.

    Returns:
        OUTPUT/progress.png.
    """
    table = pd.read_csv(output / LOG_NAME).dropna(axis="columns", how="all")
    titles = {"loss": "loss (weighted sum)", **objective.figures, **_PANELS}
    names = [name for name in titles if name in table]
    num_rows = -(-len(names) // _PANELS_A_ROW)
    figure = Figure(figsize=(3.6 * _PANELS_A_ROW, 2.9 * num_rows), layout="constrained")
    axes = list(figure.subplots(num_rows, _PANELS_A_ROW, squeeze=False).flat)
    for name, axis in zip(names, axes[: len(names)], strict=True):
        _draw_panel(axis, table[["step", name]].dropna(), name)
        axis.set_title(titles[name], fontsize=10)
    for axis in axes[len(names) :]:
        axis.set_axis_off()
    return save_figure(figure, output / PROGRESS_NAME)


def _draw_panel(axis: Axes, table: pd.DataFrame, name: str) -> None:
    steps, values = table["step"], table[name]
    if name in ("alignment", "rank", "learning_rate"):
        marker = None if name == "learning_rate" else "o"
        axis.plot(steps, values, color="tab:blue", marker=marker, markersize=4)
    else:
        window = max(1, len(values) // 50)
        axis.plot(steps, values, color="tab:blue", alpha=0.3, linewidth=0.8)
        axis.plot(steps, values.rolling(window, min_periods=1).median(), color="tab:blue")
    if name == "alignment":
        axis.axhline(0, color="grey", linewidth=0.8)
        axis.set_ylim(min(-0.2, values.min() - 0.1), 1)
    if name == "rank":
        axis.axhline(1, color="grey", linewidth=0.8)
        axis.set_ylim(0, 1.1 * values.max())
    if name == "gradient_norm" and (values > 0).all():
        axis.set_yscale("log")
    axis.set_xlabel("step")
    axis.grid(alpha=0.3)


@torch.no_grad()
def _columns(
    network: PretrainNetwork, data: PretrainData, volume: int, *, device: torch.device
) -> list[Column]:
    """Return the pictures of a volume's centre crop."""
    sample = data.dataset[data.sampler.plan_centre(volume)]
    batch = {name: value[None].to(device) for name, value in sample.items()}
    return network.objective.pictures(network(batch), batch)


def _middle_slice(image: Tensor) -> np.ndarray:
    return image[0, 0, :, :, image.shape[-1] // 2].float().cpu().numpy()
