"""Phantom brains aligned by the registration's own affine alignment: small, truth known.

As in IXI's published form, every subject is aligned affinely to the atlas and lies on its grid:
here 32x32x32 voxels of 6 mm, which the networks take without padding. So only the smooth
deformation is left, and a step takes a fraction of a second. Its true displacement follows from the
phantom's own and from the alignment.
"""

from pathlib import Path

import numpy as np

from nnunet_triad.images import Grid, Volume, write_labels, write_volume
from registration.affine import align
from registration.manifest import Pair, read_manifest, write_manifest
from registration.pairs import read_image, read_labels, resample
from registration.transform_file import (
    TransformField,
    grid_points,
    pull_points,
    read_field,
    write_field,
)

SPACING_MM = 6.0
SIZE = 32  # voxels along each axis


def write_aligned(manifest: Path, folder: Path) -> None:
    """Align and resample atlas and subjects; write FOLDER/manifest.csv with true displacements.

    Args:
        manifest: of `triad-phantom registration`: one atlas to each subject.
        folder: receives images, labels, displacements, and the manifest last.
    """
    raw = read_manifest(manifest)
    atlas = read_image(raw[0].moving)
    grid = _grid_around(atlas)
    moving = _write_aligned(raw[0].moving, raw[0].moving_labels, np.eye(4), grid, folder)
    pairs = []
    for pair in raw:
        assert pair.fixed is not None
        matrix = align(read_image(pair.fixed), atlas, "affine")
        fixed = _write_aligned(pair.fixed, pair.fixed_labels, matrix, grid, folder)
        pairs.append(
            Pair(
                moving=moving[0],
                fixed=fixed[0],
                moving_labels=moving[1],
                fixed_labels=fixed[1],
                displacement=_write_truth(pair.displacement, matrix, grid, folder),
                split=pair.split,
            )
        )
    write_manifest(folder / "manifest.csv", pairs)


def _grid_around(image: Volume) -> Grid:
    """Return the small grid whose centre is that of the brain's bounding box."""
    index = np.argwhere(image.voxels > 0.05 * image.voxels.max())
    middle = (index.min(axis=0) + index.max(axis=0)) / 2
    affine = np.diag([SPACING_MM] * 3 + [1.0])
    centre = (image.affine @ np.append(middle, 1))[:3]
    affine[:3, 3] = centre - SPACING_MM * (SIZE - 1) / 2
    return Grid(shape=(SIZE, SIZE, SIZE), affine=affine)


def _write_aligned(
    image: Path, labels: Path | None, matrix: np.ndarray, grid: Grid, folder: Path
) -> tuple[Path, Path]:
    """Write images/NAME and labels/NAME, seen through an affine map; return both paths."""
    assert labels is not None
    paths = folder / "images" / image.name, folder / "labels" / labels.name
    write_volume(paths[0], resample(read_image(image), grid, matrix=matrix), grid.affine)
    warped = resample(read_labels(labels), grid, matrix=matrix, order=0)
    write_labels(paths[1], warped, grid.affine)
    return paths


def _write_truth(displacement: Path | None, matrix: np.ndarray, grid: Grid, folder: Path) -> Path:
    assert displacement is not None
    path = folder / "displacements" / displacement.name
    path.parent.mkdir(exist_ok=True)
    write_field(path, aligned_truth(read_field(displacement), matrix, grid))
    return path


def aligned_truth(truth: TransformField, matrix: np.ndarray, grid: Grid) -> TransformField:
    """Return the true displacement that is left after the fixed image's affine alignment.

    A voxel p of the aligned fixed image shows the fixed subject's point A p, whose tissue lies in
    the moving image at T(A p).

    Args:
        truth: T, on the raw fixed image's grid; points outside it move as its border does.
        matrix: A, (4, 4), world of `grid` to that of the raw fixed image, mm.
        grid: of the aligned images.
    """
    points = grid_points(grid).reshape(3, -1)
    seen = matrix[:3, :3] @ points + matrix[:3, 3:]
    corners = truth.affine @ np.array([(0, 0, 0, 1), (*(np.array(truth.grid.shape) - 1), 1)]).T
    inside = np.clip(seen, corners[:3, :1], corners[:3, 1:])
    displacement = seen + (pull_points(inside.T, truth).T - inside) - points
    return TransformField(
        displacement_mm=np.moveaxis(displacement.reshape(3, *grid.shape), 0, -1).astype(np.float32),
        affine=grid.affine,
    )
