"""What a trained model is compared with: no registration, affine only, ANTs' SyN, uniGradICON.

Each method is one adapter: two images in, a `TransformField` on the fixed image's grid out. SyN and
uniGradICON are imported when they are asked for; neither belongs to this project's dependencies.
"""

import importlib.util
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnunet_triad.errors import UserError
from nnunet_triad.images import Grid, Volume, write_volume
from registration.affine import align
from registration.apply import register
from registration.model_file import load_model
from registration.pairs import prepare_pair
from registration.transform_file import TransformField, grid_points, read_field, whole_field

_UNIGRADICON_WEIGHTS = "network_weights/unigradicon1.0/ in the working folder"


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to register a pair, with the names under which its results are filed."""

    architecture: str
    initialization: str
    register: Callable[[Volume, Volume], TransformField]  # (moving, fixed)
    seed: int = 0


def model_method(
    path: Path, *, alignment: str, num_refinements: int = 0, device: str = "cpu"
) -> Method:
    """Return a trained model as a method."""
    network, info = load_model(path)

    def run(moving: Volume, fixed: Volume) -> TransformField:
        found = register(
            network,
            info,
            moving=moving,
            fixed=fixed,
            alignment=alignment,
            num_refinements=num_refinements,
            device=device,
        )
        return found.field(fixed.grid)

    suffix = f" + {num_refinements} refinements" if num_refinements else ""
    return Method(
        architecture=info.settings.network + suffix,
        initialization=info.initialization,
        seed=info.settings.seed,
        register=run,
    )


def affine_method(alignment: str) -> Method:
    """Return the affine alignment alone as a method; `none` leaves the images where they are."""

    def run(moving: Volume, fixed: Volume) -> TransformField:
        matrix = align(moving.to_ras(), fixed.to_ras(), alignment)
        nothing = np.zeros((3, *fixed.grid.shape))
        return whole_field(fixed.grid, working=fixed.grid, displacement=nothing, matrix=matrix)

    name = "before" if alignment == "none" else f"{alignment} only"
    return Method(architecture=name, initialization="none", register=run)


def syn_method(alignment: str = "none") -> Method:
    """Return ANTs' SyN by antspyx as a method.

    Source: the settings with which TransMorph's authors report SyN on IXI and OASIS: SyNOnly, mean
    squares, 160, 80 and 40 iterations from coarse to fine, on affinely aligned images in [0, 1].

    Args:
        alignment: beforehand; see `registration.affine.align`.

    Raises:
        UserError: antspyx is not installed.
    """
    _require("ants", package="antspyx", name="syn")

    def run(moving: Volume, fixed: Volume) -> TransformField:
        matrix = align(moving.to_ras(), fixed.to_ras(), alignment)
        pair = prepare_pair(moving, fixed, matrix=matrix)
        found = _run_syn(pair.moving[0, 0].numpy(), pair.fixed[0, 0].numpy(), pair.grid)
        return whole_field(
            fixed.grid,
            working=pair.grid,
            displacement=voxel_displacement(found)[0].double().numpy(),
            matrix=matrix,
        )

    return Method(architecture="SyN (ANTs)", initialization="none", register=run)


def _run_syn(moving: np.ndarray, fixed: np.ndarray, grid: Grid) -> TransformField:
    """Register two arrays on one grid; ANTs writes its transforms to files."""
    import ants

    with tempfile.TemporaryDirectory() as name:
        images = []
        for role, data in (("moving", moving), ("fixed", fixed)):
            path = Path(name) / f"{role}.nii.gz"
            write_volume(path, data, grid.affine)
            images.append(ants.image_read(str(path)))
        mover, still = images
        found = ants.registration(
            fixed=still,
            moving=mover,
            type_of_transform="SyNOnly",
            syn_metric="meansquares",
            reg_iterations=(160, 80, 40),
            outprefix=f"{name}/syn_",
        )
        composed = ants.apply_transforms(
            fixed=still,
            moving=mover,
            transformlist=found["fwdtransforms"],
            compose=f"{name}/whole_",
        )
        return read_field(Path(composed))


def unigradicon_method() -> Method:
    """Return uniGradICON's published network as a method, without instance optimisation.

    Its package looks for the weights below the working folder and downloads them into it otherwise.

    Raises:
        UserError: unigradicon is not installed, or its weights are not there and cannot be loaded.
    """
    _require("unigradicon", package="unigradicon", name="unigradicon")
    from unigradicon import get_unigradicon

    try:
        network = get_unigradicon()
    except OSError as error:  # no connection, or nothing at that address
        raise UserError(
            f"reference unigradicon: expected its weights, got none ({error}); download "
            f"Step_2_final.trch from its releases to {_UNIGRADICON_WEIGHTS}"
        ) from error

    def run(moving: Volume, fixed: Volume) -> TransformField:
        return _run_unigradicon(network, moving, fixed)

    return Method(architecture="uniGradICON", initialization="published", register=run)


def _run_unigradicon(network: Any, moving: Volume, fixed: Volume) -> TransformField:
    """Register a pair; the package's transform takes points of the fixed image, in LPS."""
    import itk
    from icon_registration.itk_wrapper import register_pair
    from unigradicon import preprocess

    with tempfile.TemporaryDirectory() as name:
        images = []
        for role, image in (("moving", moving), ("fixed", fixed)):
            path = Path(name) / f"{role}.nii.gz"
            write_volume(path, image.voxels, image.affine)
            images.append(preprocess(itk.imread(str(path)), modality="mri"))
        forward, _ = register_pair(network, *images, finetune_steps=None)
    points = np.moveaxis(grid_points(fixed.grid), 0, -1).reshape(-1, 3)
    lps = np.array([-1.0, -1.0, 1.0])
    moved = np.array([forward.TransformPoint(tuple(point)) for point in points * lps]) * lps
    shape = (*fixed.grid.shape, 3)
    return TransformField(
        displacement_mm=(moved - points).reshape(shape).astype(np.float32),
        affine=fixed.grid.affine,
    )


def _require(module: str, *, package: str, name: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise UserError(
            f"reference {name}: expected the package {package}, got none; pip install {package}"
        )


def reference_method(name: str, *, alignment: str = "none") -> Method:
    """Return a reference by name.

    Args:
        name: before, moments, rigid, affine, syn or unigradicon.
        alignment: before SyN; uniGradICON takes the images as they are.

    Raises:
        UserError: there is none of that name, or its package is not installed.
    """
    if name == "syn":
        return syn_method(alignment)
    if name == "unigradicon":
        return unigradicon_method()
    alignments = {"before": "none", "moments": "moments", "rigid": "rigid", "affine": "affine"}
    if name not in alignments:
        known = ", ".join([*alignments, "syn", "unigradicon"])
        raise UserError(f"reference: expected one of {known}, got {name}")
    return affine_method(alignments[name])


def voxel_displacement(field: TransformField) -> torch.Tensor:
    """Return a field as a displacement in voxels of its own grid: (1, 3, x, y, z) float32."""
    inverse = np.linalg.inv(field.affine[:3, :3])
    voxels = np.einsum("ij,xyzj->ixyz", inverse, field.displacement_mm.astype(np.float64))
    return torch.from_numpy(voxels.astype(np.float32))[None]
