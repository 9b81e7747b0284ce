"""Pictures of a run: fixed crops beside their reconstructions, and its numbers over the steps."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn

from nnunet_triad.files import write_atomically
from nnunet_triad.training.training_log import LOG_NAME
from pretraining.pretrain_data import PretrainData
from pretraining.sampling import hide_blocks, plan_mask, read_crop

RECONSTRUCTIONS_NAME = "reconstructions.png"
PROGRESS_NAME = "progress.png"
NUM_PICTURED = 4
_GREY_RANGE = (-2.0, 4.0)  # standard deviations around the volume's mean
_PANELS = {  # column of the log -> title
    "loss": "loss (weighted sum)",
    "l1": "L1 of the reconstruction",
    "log_ratio": "log-ratio loss",
    "alignment": "alignment (Spearman, held-out volumes)",
    "rank": "effective rank (held-out volumes)",
    "gradient_norm": "gradient norm, before clipping",
    "learning_rate": "learning rate",
}
_PANELS_A_ROW = 4


def draw_reconstructions(
    output: Path, *, model: nn.Module, data: PretrainData, device: torch.device, step: int
) -> Path:
    """Draw the middle axial slice of fixed crops: input, reconstruction, absolute difference.

    The crops are the centres of up to four volumes, the same at each call: of the held-out ones
    where there are enough. With masking, the input is drawn as the network sees it, after the
    whole image.

    Returns:
        OUTPUT/reconstructions.png.
    """
    volumes = pictured_volumes(data)
    num_columns = 4 if data.dataset.mask_ratio > 0 else 3
    x, y, _ = data.dataset.crop_size
    height = 0.4 + (2.15 * y / x + 0.22) * len(volumes)
    figure = Figure(figsize=(2.3 * num_columns, height), layout="constrained")
    figure.suptitle(f"Reconstructions after {step} steps (middle slice of a centre crop)")
    axes = figure.subplots(len(volumes), num_columns, squeeze=False)
    for row, volume in zip(axes, volumes, strict=True):
        columns = _reconstruct(model, data, volume, device=device)
        for axis, (title, volume_slice) in zip(row, columns.items(), strict=True):
            low, high = (0.0, 2.0) if title == "difference" else _GREY_RANGE
            axis.imshow(volume_slice.T, cmap="gray", vmin=low, vmax=high, origin="lower")
            axis.set_title(title, fontsize=9)
            axis.set_xticks([])
            axis.set_yticks([])
        row[0].set_ylabel(data.table.names[volume].replace("/", "\n"), fontsize=7)
    return _save(figure, output / RECONSTRUCTIONS_NAME)


def pictured_volumes(data: PretrainData) -> list[int]:
    """Return the indices of up to four volumes, spread over those that are held out, or all."""
    pool = data.held_out if len(data.held_out) >= NUM_PICTURED else np.arange(len(data.table))
    places = np.linspace(0, len(pool) - 1, min(NUM_PICTURED, len(pool))).astype(int)
    return pool[places].tolist()


def draw_progress(output: Path) -> Path:
    """Draw the numbers of OUTPUT/log.csv: every step faintly, a running median, what is
    measured now and then with dots.

    Returns:
        OUTPUT/progress.png.
    """
    table = pd.read_csv(output / LOG_NAME).dropna(axis="columns", how="all")
    names = [name for name in _PANELS if name in table]
    num_rows = -(-len(names) // _PANELS_A_ROW)
    figure = Figure(figsize=(3.6 * _PANELS_A_ROW, 2.9 * num_rows), layout="constrained")
    axes = figure.subplots(num_rows, _PANELS_A_ROW, squeeze=False).flat
    for name, axis in zip(names, axes, strict=False):  # names first: zip drops no axis then
        _draw_panel(axis, table[["step", name]].dropna(), name)
    for axis in list(axes):
        axis.set_axis_off()
    return _save(figure, output / PROGRESS_NAME)


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
    axis.set_title(_PANELS[name], fontsize=10)
    axis.set_xlabel("step")
    axis.grid(alpha=0.3)


@torch.no_grad()
def _reconstruct(
    model: nn.Module, data: PretrainData, volume: int, *, device: torch.device
) -> dict[str, np.ndarray]:
    """Return the middle axial slices (x, y) of a volume's centre crop, by column title."""
    dataset, plan = data.dataset, data.sampler.plan_centre(volume)
    size = dataset.crop_size
    image = torch.from_numpy(read_crop(dataset.source, plan, size=size))[None, None].to(device)
    network_input = image
    if dataset.mask_ratio > 0:
        mask = plan_mask(dataset.seed, plan.step, k=plan.k, size=size, ratio=dataset.mask_ratio)
        network_input = hide_blocks(image, torch.from_numpy(mask)[None].to(device))
    reconstruction, _ = model(network_input)
    whole = {"image": _middle_slice(image)} if dataset.mask_ratio > 0 else {}
    return {
        **whole,
        "input": _middle_slice(network_input),
        "reconstruction": _middle_slice(reconstruction),
        "difference": _middle_slice((reconstruction - image).abs()),
    }


def _middle_slice(image: Tensor) -> np.ndarray:
    return image[0, 0, :, :, image.shape[-1] // 2].float().cpu().numpy()


def _save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, atomically and without a display."""
    FigureCanvasAgg(figure)
    with write_atomically(path) as temporary:
        figure.savefig(temporary, dpi=120)
    return path
