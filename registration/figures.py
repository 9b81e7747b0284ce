"""Pictures: one registration, a training's fixed pair, and box plots by structure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from nnunet_triad.errors import UserError
from nnunet_triad.files import save_figure
from registration.spatial import jacobian_determinant

_NUM_TILES = 8  # of the checkerboard along the longer side
_GRID_STEP = 6  # voxels between drawn grid lines
_SOFTWARE = "triad-register"  # written into each picture, so that no other one is replaced
_VIEWS = (("axial", 2), ("coronal", 1))


def draw_registration(
    moving: Tensor,
    fixed: Tensor,
    warped: Tensor,
    displacement: Tensor,
    *,
    title: str = "",
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
) -> Figure:
    """Draw a registration: both images, checkerboard, differences before and after, deformed grid.

    Args:
        moving: (1, 1, x, y, z) in [0, 1], on the fixed grid, before the network.
        fixed: the same shape.
        warped: the same shape, after the network.
        displacement: (1, 3, x, y, z), voxels.
        title: above all.
        spacing_mm: of the grid, for the aspect.
    """
    volumes = [image[0, 0].detach().cpu().numpy() for image in (moving, fixed, warped)]
    field = displacement[0].detach().cpu().numpy()
    folds = jacobian_determinant(displacement.detach())[0].cpu().numpy() <= 0
    place = _most_filled(volumes[1])
    figure = Figure(figsize=(15, 5.6), layout="constrained")
    figure.suptitle(title, fontsize=11)
    rows = figure.subplots(len(_VIEWS), 6, squeeze=False)
    for row, (view, axis) in zip(rows, _VIEWS, strict=True):
        slices = [_slice(volume, axis, place) for volume in volumes]
        lengths = [length for number, length in enumerate(spacing_mm) if number != axis]
        aspect = lengths[1] / lengths[0]
        _draw_row(row, slices, aspect=aspect)
        _draw_grid(row[5], slices[1], field, folds, view=axis, place=place, aspect=aspect)
        row[0].set_ylabel(view)
    return figure


def _draw_row(row: Sequence[Axes], slices: Sequence[np.ndarray], *, aspect: float) -> None:
    moving, fixed, warped = slices
    _show(row[0], moving, "moving, aligned", aspect=aspect)
    _show(row[1], fixed, "fixed", aspect=aspect)
    _show(row[2], checkerboard(warped, fixed), "checkerboard warped / fixed", aspect=aspect)
    for axis, image, when in ((row[3], moving, "before"), (row[4], warped, "after")):
        gap = image - fixed
        title = f"difference {when} (mean {np.abs(gap).mean():.3f})"
        _show(axis, gap, title, aspect=aspect, cmap="RdBu_r", limits=(-0.6, 0.6))


def _draw_grid(
    axis: Axes,
    image: np.ndarray,
    field: np.ndarray,
    folds: np.ndarray,
    *,
    view: int,
    place: Sequence[int],
    aspect: float,
) -> None:
    """Draw the fixed grid's lines where they lie in the moving image; folded voxels in red."""
    in_plane = [number for number in range(3) if number != view]
    sizes = [field.shape[1 + number] for number in in_plane]
    _show(axis, image * 0.5, "where the grid comes from", aspect=aspect)
    columns, rows = np.meshgrid(*map(np.arange, sizes), indexing="ij")
    moved = [
        base + _slice(field[number], view, place)
        for base, number in zip((columns, rows), in_plane, strict=True)
    ]
    style: dict[str, Any] = {"color": "gold", "linewidth": 0.6}
    for number in range(0, sizes[0], _GRID_STEP):
        axis.plot(moved[0][number], moved[1][number], **style)
    for number in range(0, sizes[1], _GRID_STEP):
        axis.plot(moved[0][:, number], moved[1][:, number], **style)
    padded = np.pad(folds, 1)
    where = np.argwhere(_slice(padded, view, place))
    if len(where):
        axis.plot(where[:, 0], where[:, 1], "r.", markersize=1.5)
    axis.set_xlim(-0.5, sizes[0] - 0.5)
    axis.set_ylim(-0.5, sizes[1] - 0.5)


def checkerboard(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return tiles of two images (x, y) in turn."""
    tile = max(1, -(-max(one.shape) // _NUM_TILES))
    rows, columns = (np.arange(size) // tile for size in one.shape)
    return np.where((rows[:, None] + columns[None]) % 2 == 0, one, other)


def draw_overlay(
    fixed: np.ndarray,
    fixed_labels: np.ndarray,
    rows: Sequence[tuple[str, np.ndarray, np.ndarray]],
    *,
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
) -> Figure:
    """Draw warped images and labels with the fixed labels' outlines, as Figure 6b and d.

    Args:
        fixed: (x, y, z) in [0, 1].
        fixed_labels: (x, y, z), whole numbers.
        rows: for each method its name, the warped image and the warped labels.
        spacing_mm: of the grid, for the aspect.
    """
    columns = [("fixed", fixed, fixed_labels), *rows]
    place = _most_filled((fixed_labels > 0).astype(float))
    figure = Figure(figsize=(3 * len(columns), 6.2), layout="constrained")
    cells = figure.subplots(len(_VIEWS), len(columns), squeeze=False)
    number = int(max(labels.max() for _, _, labels in columns))
    for row, (view, axis) in zip(cells, _VIEWS, strict=True):
        lengths = [length for which, length in enumerate(spacing_mm) if which != axis]
        truth = _slice(fixed_labels, axis, place)
        for cell, (name, image, labels) in zip(row, columns, strict=True):
            _show(cell, _slice(image, axis, place), name, aspect=lengths[1] / lengths[0])
            shown = np.ma.masked_equal(_slice(labels, axis, place), 0)
            colours = {"cmap": "tab20", "vmin": 0, "vmax": max(number, 1), "alpha": 0.45}
            cell.imshow(shown.T, origin="lower", aspect=lengths[1] / lengths[0], **colours)
            for value in np.unique(truth[truth > 0]):
                cell.contour((truth == value).T, [0.5], colors="white", linewidths=0.5)
        row[0].set_ylabel(view)
    return figure


def draw_box_plots(table: pd.DataFrame, *, metric: str) -> Figure:
    """Draw a box a structure and model, as Figure 6e.

    Args:
        table: a results table; rows of other metrics are left out.
        metric: dice, dice_linear or hd95.
    """
    rows = table[(table["metric"] == metric) & table["value"].notna()].copy()
    rows["model"] = rows["architecture"] + " " + rows["initialization"]
    order = rows.groupby("label")["value"].median().sort_values(ascending=False).index.tolist()
    figure = Figure(figsize=(max(6.0, 1.5 + 0.55 * len(order)), 5), layout="constrained")
    axis = figure.subplots()
    models = rows["model"].unique().tolist()
    for place, model in enumerate(models):
        by_label = rows[rows["model"] == model].groupby("label")["value"]
        _draw_boxes(
            axis,
            [by_label.get_group(label) if label in by_label.groups else [] for label in order],
            shift=0.8 * ((place + 0.5) / len(models) - 0.5),
            width=0.72 / len(models),
            colour=f"C{place % 10}",
            name=model,
        )
    axis.set_xticks(range(len(order)), order)
    units = {"hd95": "HD95, mm"}
    axis.set_ylabel(units.get(metric, "Dice"))
    axis.tick_params(axis="x", rotation=90)
    axis.grid(axis="y", alpha=0.3)
    axis.legend(fontsize=8, loc="lower left" if metric.startswith("dice") else "upper left")
    return figure


def _draw_boxes(
    axis: Axes, values: Sequence[Any], *, shift: float, width: float, colour: str, name: str
) -> None:
    """Draw a box of one colour at each whole number, `shift` beside it."""
    axis.boxplot(
        values,
        positions=[number + shift for number in range(len(values))],
        widths=width,
        patch_artist=True,
        label=name,
        boxprops={"facecolor": colour, "linewidth": 0.8},
        medianprops={"color": "black", "linewidth": 0.8},
        whiskerprops={"linewidth": 0.8},
        capprops={"linewidth": 0.8},
        flierprops={"marker": "o", "markersize": 2},
    )


def save_picture(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG that `check_picture` knows again."""
    return save_figure(figure, path, metadata={"Software": _SOFTWARE})


def check_picture(path: Path) -> None:
    """Refuse to replace a picture that `save_picture` did not write.

    Raises:
        UserError: something else is there.
    """
    if path.is_file():
        with path.open("rb") as file:
            is_ours = b"tEXtSoftware\x00" + _SOFTWARE.encode() in file.read(4096)
    else:
        is_ours = not path.exists()
    if not is_ours:
        raise UserError(
            f"{path}: expected no file, or a picture that {_SOFTWARE} drew, got another one; "
            "move it away, or choose another output"
        )


def _most_filled(volume: np.ndarray) -> tuple[int, int, int]:
    """Return along each axis the centre of mass, where most is to be seen."""
    total = float(volume.sum())
    if total <= 0 or not np.isfinite(total):
        x, y, z = (size // 2 for size in volume.shape)
        return x, y, z
    places = []
    for axis in range(3):
        profile = volume.sum(axis=tuple(other for other in range(3) if other != axis))
        places.append(round(float((profile * np.arange(len(profile))).sum() / total)))
    x, y, z = places
    return x, y, z


def _slice(volume: np.ndarray, axis: int, place: Sequence[int]) -> np.ndarray:
    return np.take(volume, place[axis], axis=axis)


def _show(
    axis: Axes,
    image: np.ndarray,
    title: str,
    *,
    aspect: float,
    cmap: str = "gray",
    limits: tuple[float, float] = (0.0, 1.0),
) -> None:
    low, high = limits
    axis.imshow(image.T, cmap=cmap, vmin=low, vmax=high, origin="lower", aspect=aspect)
    axis.set_title(title, fontsize=9)
    axis.set_xticks([])
    axis.set_yticks([])
