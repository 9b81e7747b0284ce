"""Whether a registration can be trusted: what speaks for it, and what against."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nnunet_triad.images import Volume
from registration.apply import Registration
from registration.classical import pull
from registration.losses.lncc import lncc_loss
from registration.similarity import mutual_information
from registration.spatial import inverse_error

MAX_FOLDING_PERCENT = 0.1
MAX_INVERSE_ERROR_VOXELS = 0.5
MIN_OVERLAP = 0.5  # of the fixed image's voxels that the moving image covers
MAX_STRETCH = 1.6  # of the affine map along any direction, and its inverse
_MIN_GAIN = 1e-4  # of the mutual information


@dataclass(frozen=True, kw_only=True)
class Trust:
    """Similarities at each stage, and doubts.

    Attributes:
        similarity: stage (before, aligned, deformed) -> measure -> value. Mutual information, 1 to
            2, which no field is optimised for, and the mean squared local correlation, 0 to 1. A
            stage at which the images have nothing in common is left out.
        doubts: one sentence each, with what to do; none: nothing speaks against the result.
    """

    similarity: dict[str, dict[str, float]]
    doubts: tuple[str, ...]


@torch.no_grad()
def assess(found: Registration, *, moving: Volume, fixed: Volume) -> Trust:
    """Judge a registration by its images.

    Args:
        found: the registration, whose pair's grid is the fixed image's.
        moving: the image that it moved.
        fixed: the image that it was moved to.
    """
    moving = moving.to_ras()
    grid, matrix = found.pair.grid, found.pair.matrix
    still = found.pair.fixed
    has_field = bool(found.displacement.any())
    stages: dict[str, tuple[np.ndarray, Tensor | None]] = {
        "before": (np.eye(4), None),
        "aligned": (matrix, None),
    }
    if has_field:
        stages["deformed"] = (matrix, found.displacement)
    pulled = {name: pull(moving, grid, *through) for name, through in stages.items()}
    shared = np.logical_and.reduce(
        [is_inside for name, (_, is_inside) in pulled.items() if name != "before"]
    )
    similarity = {}
    for name, (image, is_inside) in pulled.items():
        mask = is_inside if name == "before" else shared
        if mask.any():
            warped = torch.from_numpy(np.where(is_inside, image, 0))[None, None]
            similarity[name] = {
                "mutual_information": mutual_information(image, still[0, 0].numpy(), mask),
                "local_correlation": -float(lncc_loss(warped, still)),
            }
    overlap = float(pulled["aligned"][1].mean())
    return Trust(similarity=similarity, doubts=tuple(_doubts(found, similarity, overlap)))


def _doubts(
    found: Registration, similarity: dict[str, dict[str, float]], overlap: float
) -> list[str]:
    doubts = []
    gains = {name: values["mutual_information"] for name, values in similarity.items()}
    if "deformed" in gains and gains["deformed"] < gains["aligned"] + _MIN_GAIN:
        doubts.append(
            "the deformation makes the images no more alike than the alignment: use "
            "--no-deformation"
        )
    if "before" in gains and gains.get("aligned", 1.0) < gains["before"] - _MIN_GAIN:
        doubts.append("the images were more alike before the alignment: try --affine none or rigid")
    stretches = np.linalg.svd(found.pair.matrix[:3, :3], compute_uv=False)
    largest = max(stretches.max(), 1 / stretches.min())
    if largest > MAX_STRETCH:
        doubts.append(
            f"the affine map stretches or shrinks by a factor of {largest:.2f}: try --affine rigid"
        )
    if overlap < MIN_OVERLAP:
        doubts.append(
            f"the moving image covers {overlap:.0%} of the fixed one: look at the picture"
        )
    if found.folding_percent > MAX_FOLDING_PERCENT:
        doubts.append(f"the field folds in {found.folding_percent:.2f} % of the voxels")
    if found.inverse is not None:
        error = float(inverse_error(found.displacement, found.inverse).mean())
        if error > MAX_INVERSE_ERROR_VOXELS:
            doubts.append(f"the field and its inverse leave {error:.2f} voxels: it is hardly one")
    return doubts
