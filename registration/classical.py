"""Register two images without a model: alignment, then a field optimised for this pair."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from nnunet_triad.errors import UserError
from nnunet_triad.images import Grid, Volume
from nnunet_triad.pretrained import PretrainedEncoder
from registration.affine import align
from registration.apply import Registration
from registration.deform import Maps, Sampler, Similarity, deform
from registration.losses.lncc import lncc_loss
from registration.losses.mind import mind_loss
from registration.pairs import normalize_intensity, prepare_pair
from registration.similarity import mutual_information
from registration.spatial import invert_displacement

_SAMPLED_SHARE = 0.2  # of the voxels, by the alignment; ANTs' SyN has it
_NUM_SAMPLES = (10_000, 40_000)  # at least and at most
NUM_FEATURE_MAPS = 8
_MIN_STEP_MM = 0.01  # of the alignment
_PERCENTILE = 99.9  # of the intensities, becomes 1
_NUM_INVERSIONS = 15  # steps of the fixed point
_WINDOW = 3  # voxels, of the local correlation
_EPSILON = 1e-9  # with more, an image moves towards itself where it is nearly flat
_MAX_FEATURE_VOXELS = 200_000  # that the principal components are found from

_LARGE_MILLIONS = 1.0  # voxels
_COST = {"lncc": (0.3, 0.5), "mind": (1.0, 1.0)}  # minutes of one thread, GiB; by a million voxels

SIMILARITIES: dict[str, Similarity] = {
    "lncc": partial(lncc_loss, window=_WINDOW, epsilon=_EPSILON),
    "mind": mind_loss,
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """How two images are registered without a model."""

    alignment: str = "affine"
    similarity: str = "lncc"  # or mind
    has_deformation: bool = True  # False: the alignment alone
    has_inverse: bool = False
    device: str = "cpu"


def register_pair(
    moving: Volume,
    fixed: Volume,
    options: Options | None = None,
    *,
    encoder: PretrainedEncoder | None = None,
    say: Callable[[str], None] | None = None,
) -> Registration:
    """Register a moving image to a fixed one.

    Args:
        moving: any orientation, spacing and size.
        fixed: any orientation, spacing and size.
        options: the defaults, if None.
        encoder: whose feature maps the similarity sees beside the images.
        say: is told of what is chosen and done, a line at a time.

    Raises:
        UserError: an image has one value everywhere, or the two do not overlap.
    """
    options, say = options or Options(), say or (lambda line: None)
    moving, fixed = moving.to_ras(), fixed.to_ras()
    for name, image in (("moving", moving), ("fixed", fixed)):
        _check_contrast(image, name)
    matrix = _alignment(moving, fixed, options.alignment, say)
    pair = prepare_pair(moving, fixed, percentile=_PERCENTILE, matrix=matrix)
    if not options.has_deformation:
        nothing = torch.zeros(1, 3, *pair.grid.shape)
        inverse = nothing if options.has_inverse else None
        return Registration(pair=pair, displacement=nothing, inverse=inverse)
    maps = [[image_maps(image, SIMILARITIES[options.similarity])] for image in (moving, fixed)]
    if encoder is not None:
        features = feature_maps(encoder.to(options.device), moving, fixed)
        maps = [[*own, more] for own, more in zip(maps, features, strict=True)]
    found = deform(*maps, grid=pair.grid, matrix=matrix, device=options.device, say=say).cpu()
    inverse = (
        invert_displacement(found, num_iterations=_NUM_INVERSIONS) if options.has_inverse else None
    )
    return Registration(pair=pair, displacement=found, inverse=inverse)


def expected_cost(grid: Grid, options: Options) -> str:
    """Say what a large pair takes on a CPU; nothing of a small one.

    Estimated from pairs of 0.1 and 0.3 million voxels; a head of 7 million took half of it.
    """
    millions = float(np.prod(grid.shape)) / 1e6
    if millions < _LARGE_MILLIONS or options.device != "cpu" or not options.has_deformation:
        return ""
    minutes, gib = _COST[options.similarity]
    return (
        f"expect up to {max(1, round(minutes * millions / torch.get_num_threads()))} min on "
        f"{torch.get_num_threads()} thread(s) and about {1 + gib * millions:.1f} GiB"
    )


def _check_contrast(image: Volume, name: str) -> None:
    low, high = float(image.voxels.min()), float(image.voxels.max())
    if not low < high:
        raise UserError(
            f"{image.name or name}: expected an image with some contrast, got {low:g} in every "
            "voxel; choose another image"
        )


def _alignment(
    moving: Volume, fixed: Volume, alignment: str, say: Callable[[str], None]
) -> np.ndarray:
    """Return the map, or that of the centres of mass where it makes the images no more alike."""
    if alignment in ("none", "moments"):
        return align(moving, fixed, alignment)
    start = align(moving, fixed, "moments")
    least, most = _NUM_SAMPLES
    num_samples = int(np.clip(_SAMPLED_SHARE * fixed.voxels.size, least, most))
    for number in (num_samples, 4 * num_samples):  # a second try costs little
        matrix = align(moving, fixed, alignment, num_samples=number, min_step_mm=_MIN_STEP_MM)
        if _information(moving, fixed, matrix, start) > _information(moving, fixed, start, matrix):
            return matrix
    say(f"alignment: the {alignment} one is worse than that of the centres of mass, which is taken")
    return start


def _information(moving: Volume, fixed: Volume, matrix: np.ndarray, other: np.ndarray) -> float:
    """Return the mutual information through a map, where another one finds the image, too."""
    pulled, is_inside = pull(moving, fixed.grid, matrix)
    _, is_inside_other = pull(moving, fixed.grid, other)
    still = normalize_intensity(fixed.voxels, percentile=_PERCENTILE)
    return mutual_information(pulled, still, is_inside & is_inside_other)


def pull(
    moving: Volume, grid: Grid, matrix: np.ndarray, displacement: Tensor | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Sample an image through a transform.

    Args:
        moving: any grid.
        grid: where to sample.
        matrix: (4, 4), world of the grid to world of the image, mm.
        displacement: (1, 3, x, y, z), voxels of the grid, before the matrix; None: none.

    Returns:
        (x, y, z) in [0, 1], and where there is something of the image: (x, y, z) bool.
    """
    nothing = torch.zeros(1, 3, *grid.shape)
    found, is_inside = Sampler(image_maps(moving), grid, matrix)(
        nothing if displacement is None else displacement
    )
    return found[0, 0].numpy(), is_inside[0, 0].numpy()


def image_maps(image: Volume, similarity: Similarity = lncc_loss) -> Maps:
    """Return an image with intensities in [0, 1]."""
    scaled = normalize_intensity(image.voxels, percentile=_PERCENTILE)
    return Maps(values=torch.from_numpy(scaled)[None, None], grid=image.grid, similarity=similarity)


def feature_maps(encoder: PretrainedEncoder, moving: Volume, fixed: Volume) -> list[Maps]:
    """Return the main feature maps of both images, those of one component on one scale.

    Source: anatomix (Dey et al., ICLR 2025) registers by the feature maps of a network that was
    trained for nothing else, with the image's own similarity.
    Differs: the encoder's finest level, of which the first eight principal components of both
    images' voxels are kept, each scaled by its standard deviation.

    Args:
        encoder: from `load_encoder`, of one input channel.
        moving: any grid.
        fixed: any grid.
    """
    found = [encoder.features(image) for image in (moving, fixed)]
    tables = [features.levels[0].reshape(len(features.levels[0]), -1).T for features in found]
    basis, mean = _principal_components(tables)
    maps = []
    for features, table in zip(found, tables, strict=True):
        x, y, z = features.levels[0].shape[1:]
        values = ((table - mean) @ basis).T.reshape(1, -1, x, y, z)
        maps.append(
            Maps(
                values=torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)),
                grid=Grid(shape=(x, y, z), affine=features.affines[0]),
                similarity=SIMILARITIES["lncc"],
            )
        )
    return maps


def _principal_components(tables: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return (c, k) directions, scaled to unit variance, and the mean (c,)."""
    step = -(-sum(map(len, tables)) // _MAX_FEATURE_VOXELS)
    rows = np.concatenate([table[::step] for table in tables]).astype(np.float64)
    mean = rows.mean(axis=0)
    variances, directions = np.linalg.eigh(np.atleast_2d(np.cov(rows, rowvar=False)))
    chosen = [n for n in range(len(variances))[::-1] if variances[n] > 1e-9 * variances[-1]]
    chosen = chosen[:NUM_FEATURE_MAPS]
    return directions[:, chosen] / np.sqrt(variances[chosen]), mean
