"""Registration data: pairs, their labels and true displacements, and a manifest."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage

from nnunet_triad.errors import UserError
from nnunet_triad.files import write_table
from nnunet_triad.images import write_volume
from nnunet_triad.images.displacement import write_displacement
from nnunet_triad.phantom.acquisition import Acquisition, acquire, icbm_t1
from nnunet_triad.phantom.deformation import STORED_STEP_MM
from nnunet_triad.phantom.grid import FloatArray
from nnunet_triad.phantom.population import Population
from nnunet_triad.phantom.sequences import SEQUENCES
from nnunet_triad.phantom.subject import Subject
from nnunet_triad.phantom.writers.brain_extraction import strip_skull
from nnunet_triad.phantom.writers.classification import MANIFEST_FILE
from nnunet_triad.phantom.writers.folder import open_folder, track

ICBM_MANIFEST_FILE = "icbm152.csv"
_COLUMNS = ["moving", "fixed", "moving_labels", "fixed_labels", "split", "displacement"]
PAIRS = ("atlas", "subjects")
Box = tuple[slice, slice, slice]
_MARGIN_MM = 6.0
_SPLITS = ("train", "train", "train", "val", "test")


def write_registration(
    folder: Path,
    population: Population,
    *,
    pairs: str = "atlas",
    sequence_name: str = "T1w",
    show_progress: bool = False,
) -> Path:
    """Write images, labels, displacements and the manifest.

    The manifest has moving, fixed, moving_labels, fixed_labels, split and displacement. With
    "atlas", subject 0 (the template's anatomy, imaged like the others) is moved to every other
    subject. With "subjects", each subject is moved to the next one of its split. Brains have no
    skull. The ICBM152 T1 volume itself, at its 1 mm, is the moving image of one more pair, in
    icbm152.csv: the manifest's own images share one grid. An aligned population's grid is cut to
    the atlas's tissue and a margin, as collections that are published aligned have it.

    Args:
        folder: new, empty, or begun by the same call.
        population: healthy subjects make sense: a lesion has no counterpart.
        pairs: "atlas" or "subjects".
        sequence_name: of all images.
        show_progress: a bar on the terminal.

    Returns:
        FOLDER/manifest.csv.

    Raises:
        UserError: unknown pairs, several anatomies, or too few subjects for all splits.
    """
    _check(population, pairs)
    with open_folder(
        folder, population, layout="registration", pairs=pairs, sequence_name=sequence_name
    ) as folder:
        total = population.num_subjects
        box = _box(population)
        for number in track(range(total), total, "images", is_shown=show_progress):
            _write_volume(folder, cut_volume(_image(population, number, sequence_name), box))
        rows = []
        numbered = _pairs(total, pairs)
        for index in track(range(len(numbered)), len(numbered), "fields", is_shown=show_progress):
            moving, fixed, split = numbered[index]
            rows.append(_write_pair(folder, population, moving, fixed, split, box))
        write_table(folder / MANIFEST_FILE, pd.DataFrame(rows, columns=_COLUMNS))
        if population.is_template(0):
            icbm = [_write_icbm_pair(folder, population, box)]
            write_table(folder / ICBM_MANIFEST_FILE, pd.DataFrame(icbm, columns=_COLUMNS))
    return folder / MANIFEST_FILE


def displacement_between(moving: Subject, fixed: Subject) -> npt.NDArray[np.float32]:
    """Return the true displacement that aligns one subject to another.

    The tissue of `fixed` at p is that of `moving` at p + displacement(p): the map to the template,
    followed by the inverse of the other's.

    Returns:
        (3, x, y, z) float32, mm, on the grid of `fixed`.
    """
    shape, affine = fixed.labels.shape, fixed.affine
    backward = moving.deformation.inverse_displacement_mm(moving.labels.shape, moving.affine)
    to_template = fixed.displacement_mm
    spacing_mm = np.diag(affine)[:3, None, None, None]
    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")) + to_template / spacing_mm
    onward = [ndimage.map_coordinates(part, voxels, order=1, mode="nearest") for part in backward]
    return (to_template + np.stack(onward)).astype(np.float32)


def cut_volume(volume: Acquisition, box: Box) -> Acquisition:
    """Return the part of a volume in a box of voxels."""
    return dataclasses.replace(
        volume,
        image=volume.image[box],
        labels=volume.labels[box],
        affine=_affine_of_box(volume.affine, box),
    )


def _box(population: Population) -> Box:
    """Return the voxels to write: all, or those of the aligned subjects' tissue and a margin."""
    labels = population.subject(0).labels
    if not population.is_aligned:
        x, y, z = (slice(0, size) for size in labels.shape)
        return x, y, z
    margin = round(_MARGIN_MM / population.spacing_mm)
    inside = np.argwhere(labels > 0)
    x, y, z = (
        slice(max(0, int(low) - margin), min(size, int(high) + 1 + margin))
        for low, high, size in zip(inside.min(0), inside.max(0), labels.shape, strict=True)
    )
    return x, y, z


def _affine_of_box(affine: FloatArray, box: Box) -> FloatArray:
    result = affine.copy()
    result[:3, 3] += affine[:3, :3] @ [part.start for part in box]
    return result


def _check(population: Population, pairs: str) -> None:
    if pairs not in PAIRS:
        raise UserError(f"pairs: expected one of {', '.join(PAIRS)}, got {pairs!r}")
    if len(population.anatomies) != 1:
        raise UserError(f"anatomy: expected one, got {', '.join(population.anatomies)}")
    least = 1 + len(_SPLITS) if pairs == "atlas" else 2 * len(_SPLITS)
    if population.num_subjects < least:
        raise UserError(
            f"subjects: expected {least} or more, so that each split has a pair, "
            f"got {population.num_subjects}"
        )


def _pairs(num_subjects: int, pairs: str) -> list[tuple[int, int, str]]:
    """Return (moving, fixed, split); a subject is in one split, except the atlas."""
    if pairs == "atlas":
        return [(0, n, _SPLITS[(n - 1) % len(_SPLITS)]) for n in range(1, num_subjects)]
    result = []
    for split in dict.fromkeys(_SPLITS):
        members = [n for n in range(num_subjects) if _SPLITS[n % len(_SPLITS)] == split]
        result += [(a, b, split) for a, b in itertools.pairwise(members)]
    return result


def _image(population: Population, number: int, sequence_name: str) -> Acquisition:
    volume = acquire(
        population.subject(number),
        SEQUENCES[sequence_name],
        population.scanner(number),
        seed=population.seed,
    )
    return strip_skull(volume) if volume.anatomy == "brain" else volume


def _write_volume(folder: Path, volume: Acquisition, name: str | None = None) -> None:
    name = name or volume.subject_name
    write_volume(folder / "images" / f"{name}.nii.gz", volume.stored, volume.affine)
    write_volume(folder / "labels" / f"{name}.nii.gz", volume.labels, volume.affine)


def _write_pair(
    folder: Path, population: Population, moving: int, fixed: int, split: str, box: Box
) -> tuple[str, ...]:
    a, b = population.subject(moving), population.subject(fixed)
    path = f"displacements/{a.name}_to_{b.name}.nii.gz"
    _write_field(folder / path, displacement_between(a, b), b.affine, box)
    return _row(a.name, b.name, split, path)


def _write_icbm_pair(folder: Path, population: Population, box: Box) -> tuple[str, ...]:
    """Write the unchanged template as a moving image; the field is that of the atlas."""
    _write_volume(folder, icbm_t1(), "icbm152")
    fixed = population.subject(1)
    path = f"displacements/icbm152_to_{fixed.name}.nii.gz"
    _write_field(folder / path, fixed.displacement_mm, fixed.affine, box)
    return _row("icbm152", fixed.name, "train", path)


def _write_field(
    path: Path,
    displacement_mm: npt.NDArray[np.float32],
    affine: FloatArray,
    box: Box,
) -> None:
    field = np.moveaxis(displacement_mm[(slice(None), *box)], 0, -1)
    write_displacement(path, field, _affine_of_box(affine, box), step_mm=STORED_STEP_MM)


def _row(moving: str, fixed: str, split: str, displacement: str) -> tuple[str, ...]:
    images = (f"images/{moving}.nii.gz", f"images/{fixed}.nii.gz")
    labels = (f"labels/{moving}.nii.gz", f"labels/{fixed}.nii.gz")
    return (*images, *labels, split, displacement)
