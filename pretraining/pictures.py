"""Pictures of a run: fixed crops beside their reconstructions, and the losses over the steps."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn

from nnunet_triad.files import write_atomically
from nnunet_triad.training.training_log import LOG_NAME
from pretraining.sampling import CropDataset, hide_blocks, plan_centre_crop, plan_mask, read_crop

NUM_PICTURED = 4
_GREY_RANGE = (-2.0, 4.0)  # standard deviations around the volume's mean


def draw_reconstructions(
    output: Path,
    *,
    model: nn.Module,
    dataset: CropDataset,
    names: Sequence[str],
    device: torch.device,
    step: int,
) -> Path:
    """Draw the middle axial slice of fixed crops: input, reconstruction, absolute difference.

    The crops are the centres of up to four volumes spread over the store, the same at each call.
    With masking, the input is drawn as the network sees it.

    Returns:
        OUTPUT/reconstructions.png.
    """
    volumes = np.linspace(0, len(names) - 1, min(NUM_PICTURED, len(names))).astype(int).tolist()
    x, y, _ = dataset.crop_size
    figure = Figure(figsize=(9, 0.5 + (2.8 * y / x + 0.3) * len(volumes)), layout="constrained")
    figure.suptitle(f"Reconstructions after {step} steps (middle slice of a centre crop)")
    axes = figure.subplots(len(volumes), 3, squeeze=False)
    for row, volume in zip(axes, volumes, strict=True):
        columns = _reconstruct(model, dataset, volume, device=device)
        for axis, (title, volume_slice) in zip(row, columns.items(), strict=True):
            low, high = (0.0, 2.0) if title == "difference" else _GREY_RANGE
            axis.imshow(volume_slice.T, cmap="gray", vmin=low, vmax=high, origin="lower")
            axis.set_title(title, fontsize=9)
            axis.set_xticks([])
            axis.set_yticks([])
        row[0].set_ylabel(names[volume].replace("/", "\n"), fontsize=7)
    return _save(figure, output / "reconstructions.png")


def draw_losses(output: Path) -> Path:
    """Draw the losses of OUTPUT/log.csv: every step faintly, and a running mean.

    Returns:
        OUTPUT/loss.png.
    """
    table = pd.read_csv(output / LOG_NAME).dropna(axis="columns", how="all")
    names = [name for name in ("loss", "l1", "log_ratio") if name in table]
    figure = Figure(figsize=(4 * len(names), 3.5), layout="constrained")
    window = max(1, len(table) // 50)
    for axis, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        smooth = table[name].rolling(window, min_periods=1).mean()
        axis.plot(table["step"], table[name], color="tab:blue", alpha=0.3, linewidth=0.8)
        axis.plot(table["step"], smooth, color="tab:blue")
        axis.set_title(name)
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
    return _save(figure, output / "loss.png")


@torch.no_grad()
def _reconstruct(
    model: nn.Module, dataset: CropDataset, volume: int, *, device: torch.device
) -> dict[str, np.ndarray]:
    """Return the middle axial slices (x, y) of a volume's centre crop, by column title."""
    size = dataset.crop_size
    plan = plan_centre_crop(dataset.source, volume, size=size)
    image = torch.from_numpy(read_crop(dataset.source, plan, size=size))[None, None].to(device)
    network_input = image
    if dataset.mask_ratio > 0:
        mask = plan_mask(dataset.seed, 0, k=volume, size=size, ratio=dataset.mask_ratio)
        network_input = hide_blocks(image, torch.from_numpy(mask)[None].to(device))
    reconstruction, _ = model(network_input)
    return {
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
