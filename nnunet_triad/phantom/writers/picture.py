"""One page that shows a population: anatomies and lesions by sequences, with the truth."""

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from nnunet_triad.files import save_figure
from nnunet_triad.phantom.acquisition import acquire, icbm_t1
from nnunet_triad.phantom.lesions import LESIONS
from nnunet_triad.phantom.population import Population
from nnunet_triad.phantom.subject import Subject
from nnunet_triad.phantom.writers.folder import track

SHOWN_SEQUENCES = ("T1w", "T1ce", "T2w", "FLAIR", "STIR")
_COLOURS = ("#4477aa", "#bbbbbb", "#f4f4f0", "#aa3377", "#ccbb44", "#ee6677")
_GRID_MM = 16.0  # between the lines of the deformed grid


def draw_population(path: Path, population: Population, *, show_progress: bool = False) -> Path:
    """Draw every kind of lesion of the population's anatomies, one subject a row.

    Columns: sequences (each row with a scanner of its own), the labels, and the template's grid
    as the subject's deformation bends it. A brain population begins with the unchanged ICBM152 T1.

    Args:
        path: of the picture.
        population: seed, spacing and anatomies; its number of subjects and lesion do not matter.
        show_progress: a bar on the terminal.

    Returns:
        The path.
    """
    rows = [(anatomy, kind) for anatomy in population.anatomies for kind in LESIONS[anatomy]]
    has_icbm = "brain" in population.anatomies
    num_rows, num_columns = len(rows) + has_icbm, len(SHOWN_SEQUENCES) + 2
    figure = Figure(figsize=(2 * num_columns, 2.1 * num_rows), layout="constrained")
    grid = figure.subplots(num_rows, num_columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    if has_icbm:
        _draw_template(grid[0], population)
    for index in track(range(len(rows)), len(rows), "picture", is_shown=show_progress):
        anatomy, kind = rows[index]
        chosen = dataclasses.replace(population, anatomies=(anatomy,), lesion=kind)
        _draw_visit(grid[index + has_icbm], chosen, index + 1)
    return save_figure(figure, Path(path), dpi=110, facecolor="white")


def _draw_template(row: npt.NDArray[np.object_], population: Population) -> None:
    """Draw the unchanged T1 volume, and the template's anatomy in the other sequences."""
    template = dataclasses.replace(population, anatomies=("brain",))
    z_mm = 3.0
    z = round((z_mm - template.subject(0).affine[2, 3]) / population.spacing_mm)
    _draw_visit(row, template, 0, z)
    real = icbm_t1()
    row[0].clear()
    row[0].axis("off")
    _show(row[0], real.image, round(z_mm - real.affine[2, 3]))
    row[0].set_title("ICBM152 T1,\nunchanged", fontsize=9)


def _draw_visit(
    row: npt.NDArray[np.object_], population: Population, number: int, z: int | None = None
) -> None:
    subject, scanner = population.subject(number), population.scanner(number)
    z = _slice_of_lesion(subject) if z is None else z
    for axes, sequence in zip(row[:-2], population.sequences(number, SHOWN_SEQUENCES), strict=True):
        volume = acquire(subject, sequence, scanner, seed=population.seed)
        _show(axes, volume.image, z)
        axes.set_title(f"{sequence.name}, {scanner.field_strength_t:g} T", fontsize=9)
    _show_labels(row[-2], subject.labels, z)
    row[-2].set_title(f"labels: {subject.anatomy},\n{subject.lesion or 'template'}", fontsize=9)
    _show_deformation(row[-1], subject, z)
    row[-1].set_title("deformation", fontsize=9)


def _slice_of_lesion(subject: Subject) -> int:
    names = ("necrotic_core", "oedema", "enhancing_rim", "lesion")
    values = [subject.label_names[name] for name in names if name in subject.label_names]
    return int(np.isin(subject.labels, values).sum(axis=(0, 1)).argmax())


def _show(axes: Axes, image: npt.NDArray[np.float32], z: int) -> None:
    top = float(np.percentile(image[:, :, z], 99.5))
    axes.imshow(image[:, :, z].T, cmap="gray", origin="lower", vmin=0, vmax=top)


def _show_labels(axes: Axes, labels: npt.NDArray[np.uint8], z: int) -> None:
    shown = np.ma.masked_equal(labels[:, :, z].T, 0)
    axes.imshow(np.zeros_like(labels[:, :, z].T), cmap="gray", origin="lower")
    axes.imshow(
        shown,
        cmap=ListedColormap(_COLOURS),
        vmin=1,
        vmax=len(_COLOURS),
        origin="lower",
        interpolation="nearest",
    )


def _show_deformation(axes: Axes, subject: Subject, z: int) -> None:
    """Draw the template's grid lines where they lie in the subject."""
    axes.imshow(subject.labels[:, :, z].T > 0, cmap="gray", origin="lower", vmin=-1, vmax=4)
    for axis in (0, 1):
        start, step = subject.affine[axis, 3], subject.affine[axis, axis]
        index = np.arange(subject.labels.shape[axis])
        index = index[:, None] if axis == 0 else index[None]
        in_template_mm = start + step * index + subject.displacement_mm[axis, :, :, z]
        lines = np.arange(-400, 400, _GRID_MM)
        axes.contour(
            in_template_mm.T, levels=lines, colors="#66ccee", linewidths=0.6, linestyles="solid"
        )
    axes.set_aspect("equal")
