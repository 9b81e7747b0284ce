"""Skull stripping of head MRI: plain morphology, or NPPY in a Python of its own.

The package `nppy` pins versions (torch 2.1, numpy 1.24) that cannot be installed beside this one,
so it runs in another environment, named by its interpreter; its weights are given by path and
never downloaded.
"""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from classification.preprocess import read_image
from classification.settings import PrepareOptions
from nnunet_triad.errors import UserError
from nnunet_triad.images import Nan, Volume, read_volume, write_volume

_WORKER = Path(__file__).parent / "nppy_worker.py"
_OPENING_MM = 4.0  # radius that cuts the brain from the skull
_HISTOGRAM_BINS = 256


def strip_all(files: Mapping[str, Path], output: Path, options: PrepareOptions) -> dict[str, Path]:
    """Strip images that are not stripped yet into OUTPUT/stripped.

    Args:
        files: name -> image.
        output: of the manifest.
        options: which way, and where NPPY and its weights are.

    Returns:
        Name -> image to use: itself where nothing is to be done.

    Raises:
        UserError: NPPY or its weights are missing, or it failed.
    """
    if options.skull_strip == "none":
        return dict(files)
    folder = output / "stripped" / options.skull_strip
    targets = {name: folder / f"I{name}.nii.gz" for name in files}
    todo = {name: path for name, path in targets.items() if not path.exists()}
    if options.skull_strip == "nppy" and todo:
        _run_nppy([(files[name], path) for name, path in todo.items()], options)
    elif todo:
        for name, path in todo.items():
            image = read_image(files[name])
            values = np.where(plain_brain_mask(image), image.voxels, np.float32(0))
            write_volume(path, values, image.affine)
    return targets


def plain_brain_mask(image: Volume) -> NDArray[np.bool_]:
    """Return a rough brain mask without any registration.

    Otsu's threshold finds the head's bright tissue; an opening of 4 mm cuts the bridges to skull
    and scalp; the largest piece is grown back, closed and filled.

    Differs: not NPPY's normalisation, and no standard space. It may keep parts of neck and eyes.
    """
    spacing = image.grid.spacing_mm
    bright = image.voxels > otsu_threshold(np.asarray(image.voxels, dtype=np.float64))
    ball = _ball(_OPENING_MM, spacing)
    core = _largest(ndimage.binary_erosion(bright, ball))
    grown = ndimage.binary_dilation(core, _ball(_OPENING_MM + spacing.max(), spacing)) & bright
    closed = ndimage.binary_closing(np.pad(grown, ball.shape[0]), ball)
    inner = tuple(slice(ball.shape[0], -ball.shape[0]) for _ in range(3))
    return ndimage.binary_fill_holes(closed[inner])


def otsu_threshold(values: NDArray[np.float64]) -> float:
    """Return the threshold that parts a histogram with the largest variance between both sides.

    Source: Otsu, IEEE Transactions on Systems, Man, and Cybernetics 9, 1979.
    """
    low, high = np.percentile(values, (0.5, 99.5))
    counts, edges = np.histogram(values, bins=_HISTOGRAM_BINS, range=(low, high))
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = counts.sum() - below
    mean_below = np.cumsum(counts * centres) / np.maximum(below, 1)
    total = (counts * centres).sum()
    mean_above = (total - np.cumsum(counts * centres)) / np.maximum(above, 1)
    return float(edges[1 + np.argmax(below * above * (mean_below - mean_above) ** 2)])


def _ball(radius_mm: float, spacing: NDArray) -> NDArray[np.bool_]:
    reach = np.maximum(1, np.ceil(radius_mm / spacing)).astype(int)
    grid = np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij")
    distance = sum((g * s) ** 2 for g, s in zip(grid, spacing, strict=True))
    return np.asarray(distance <= max(radius_mm, spacing.max()) ** 2)


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    labels, number = ndimage.label(mask)
    if number == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels == sizes.argmax()


def _run_nppy(jobs: list[tuple[Path, Path]], options: PrepareOptions) -> None:
    weights, python = options.nppy_weights, options.nppy_python
    assert weights is not None and python is not None
    if not weights.is_file():
        raise UserError(
            f"nppy_weights: expected the file npp_v1.pth, got nothing at {weights}",
            setting="nppy_weights",
        )
    for _, target in jobs:
        target.parent.mkdir(parents=True, exist_ok=True)
    listing = [[str(source.resolve()), str(target.resolve())] for source, target in jobs]
    content = json.dumps({"weights": str(weights.resolve()), "jobs": listing})
    try:
        run = subprocess.run(
            [str(python), str(_WORKER)], input=content, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise UserError(
            f"nppy_python: expected a Python with nppy, got {python} ({error})",
            setting="nppy_python",
        ) from None
    if run.returncode:
        reason = (run.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(
            f"nppy_python: expected a Python that runs nppy, got {python}, which said: {reason}; "
            "install nppy in an environment of its own, and name its interpreter",
            setting="nppy_python",
        )
    for _, target in jobs:
        read_volume(target, nan=Nan.KEEP)  # a damaged one fails here and not in a training
