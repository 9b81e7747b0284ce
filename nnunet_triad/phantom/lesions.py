"""Lesions: what is put into a subject's tissues, and where."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial.transform import Rotation

from nnunet_triad.phantom.grid import FloatArray, axis_coordinates_mm

FloatMap = dict[str, npt.NDArray[np.float32]]
# For each anatomy, the kinds of lesion; the first is the default.
LESIONS: Mapping[str, tuple[str, ...]] = {
    "brain": ("tumour", "infarct", "plaques"),
    "pelvis": ("tumour",),
    "breast": ("tumour",),
}
# The share of a voxel's tissue that must be of a kind, for a lesion to be centred there.
_LEAST_SHARE = 0.6
# Waves take at most half of the radius of a point away, so a blob reaches twice its radii.
_MAX_WAVE, _WAVE_REACH = 0.25, 2.0


@dataclass(frozen=True, kw_only=True)
class _Blob:
    """An ellipsoid with a wavy surface.

    `radius` of a point is 1 on the mean surface; `mean_radius_mm` scales it to a distance.
    """

    centre_mm: FloatArray
    radii_mm: FloatArray
    rotation: FloatArray
    waves: FloatArray

    @property
    def mean_radius_mm(self) -> float:
        return float(np.prod(self.radii_mm) ** (1 / 3))

    def radius(self, shape: tuple[int, ...], affine: FloatArray) -> npt.NDArray[np.floating]:
        x, y, z = axis_coordinates_mm(shape, affine)
        x, y, z = (
            (a - c).astype(np.float32) for a, c in zip((x, y, z), self.centre_mm, strict=True)
        )
        rows = (self.rotation.T / self.radii_mm[:, None]).astype(np.float32)
        parts = np.stack([a * x[:, None, None] + b * y[:, None] + c * z for a, b, c in rows])
        radius = np.sqrt((parts**2).sum(axis=0))
        # Low spherical waves: products of directions, so that the surface has lobes.
        u, v, w = parts / np.maximum(radius, 1e-6)
        a, b, c, d = self.waves.tolist()
        return radius * (1 + a * u * v + b * v * w + c * u * w + d * (u**3 - u * v**2))


def add_lesion(
    fractions: FloatMap,
    affine: FloatArray,
    *,
    anatomy: str,
    kind: str,
    generator: np.random.Generator,
) -> None:
    """Put one lesion (several plaques) into a subject's tissues, in place.

    Args:
        fractions: (x, y, z) a tissue; the lesion's tissues are added.
        affine: (4, 4) of the grid, mm.
        anatomy, kind: see `LESIONS`.
        generator: decides place, size and shape.
    """
    painters: dict[tuple[str, str], Callable[..., None]] = {
        ("brain", "tumour"): _add_brain_tumour,
        ("brain", "infarct"): _add_infarct,
        ("brain", "plaques"): _add_plaques,
        ("pelvis", "tumour"): _add_prostate_tumour,
        ("breast", "tumour"): _add_breast_tumour,
    }
    painters[anatomy, kind](fractions, affine, generator)


def _add_brain_tumour(
    fractions: FloatMap, affine: FloatArray, generator: np.random.Generator
) -> None:
    """Add a necrotic core, an enhancing rim around it, and oedema that spreads in white matter."""
    host = fractions["white_matter"]
    blob = _random_blob(generator, _place(host, affine, generator, depth_mm=8), 11, 17)
    outer = _random_blob(generator, blob.centre_mm, 19, 28)
    rim_mm = generator.uniform(3.0, 4.5)
    parts = ("oedema", "enhancing_rim", "necrotic_core")
    near, affine = _window(fractions, affine, outer, *parts)
    shape = near["white_matter"].shape
    brain = near["white_matter"] + near["grey_matter"] + 0.5 * near["csf"]
    brain = np.minimum(brain, 1)
    mostly_white = near["white_matter"] + 0.25 * near["grey_matter"]
    oedema = _soft(outer, shape, affine) * np.minimum(mostly_white * 1.3, 1)
    _replace(near, "oedema", oedema)
    _replace(near, "enhancing_rim", _soft(blob, shape, affine) * brain)
    _replace(near, "necrotic_core", _soft(blob, shape, affine, margin_mm=rim_mm) * brain)


def _add_infarct(fractions: FloatMap, affine: FloatArray, generator: np.random.Generator) -> None:
    """Add a region of swollen cortex and the white matter under it."""
    host = fractions["grey_matter"]
    blob = _random_blob(generator, _place(host, affine, generator, depth_mm=0), 14, 24)
    near, affine = _window(fractions, affine, blob, "oedema")
    brain = near["white_matter"] + near["grey_matter"]
    _replace(near, "oedema", _soft(blob, brain.shape, affine) * brain)


def _add_plaques(fractions: FloatMap, affine: FloatArray, generator: np.random.Generator) -> None:
    """Add 8 to 16 small ovoids in the white matter."""
    for _ in range(generator.integers(8, 17)):
        host = fractions["white_matter"]
        blob = _random_blob(generator, _place(host, affine, generator, depth_mm=0), 3, 6)
        near, near_affine = _window(fractions, affine, blob, "plaque")
        white = near["white_matter"] + 0.5 * near["grey_matter"]
        _replace(near, "plaque", _soft(blob, white.shape, near_affine) * white)


def _add_prostate_tumour(
    fractions: FloatMap, affine: FloatArray, generator: np.random.Generator
) -> None:
    gland = fractions["peripheral_zone"] + fractions["transition_zone"]
    blob = _random_blob(generator, _place(gland, affine, generator, depth_mm=3), 5, 9)
    near, affine = _window(fractions, affine, blob, "prostate_lesion")
    gland = near["peripheral_zone"] + near["transition_zone"]
    _replace(near, "prostate_lesion", _soft(blob, gland.shape, affine) * gland)


def _add_breast_tumour(
    fractions: FloatMap, affine: FloatArray, generator: np.random.Generator
) -> None:
    host = fractions["fibroglandular"]
    blob = _random_blob(generator, _place(host, affine, generator, depth_mm=0), 6, 12)
    near, affine = _window(fractions, affine, blob, "breast_lesion")
    breast = near["fibroglandular"] + near["breast_fat"]
    _replace(near, "breast_lesion", _soft(blob, breast.shape, affine) * breast)


def _window(
    fractions: FloatMap, affine: FloatArray, blob: _Blob, *tissues: str
) -> tuple[FloatMap, FloatArray]:
    """Return views of the tissues around a blob, and the affine of that box.

    Args:
        fractions: (x, y, z) a tissue.
        affine: (4, 4), mm.
        blob: all of it lies in the box.
        tissues: of the lesion; those that are not there yet are added, empty.
    """
    shape = next(iter(fractions.values())).shape
    for tissue in tissues:
        fractions.setdefault(tissue, np.zeros(shape, np.float32))
    spacing_mm = np.diag(affine)[:3]
    center = (blob.centre_mm - affine[:3, 3]) / spacing_mm
    reach = _WAVE_REACH * blob.radii_mm.max() / spacing_mm + 1
    low = np.maximum(np.floor(center - reach), 0).astype(int)
    high = np.minimum(np.ceil(center + reach) + 1, shape).astype(int)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    affine = affine.copy()
    affine[:3, 3] += low * spacing_mm
    return {name: fraction[box] for name, fraction in fractions.items()}, affine


def _place(
    host: npt.NDArray[np.float32],
    affine: FloatArray,
    generator: np.random.Generator,
    *,
    depth_mm: float,
) -> FloatArray:
    """Return a random point in mm, at least `depth_mm` inside the host where that exists."""
    inside = host >= _LEAST_SHARE
    if depth_mm:
        distance_mm = ndimage.distance_transform_edt(inside, sampling=np.diag(affine)[:3])
        inside = distance_mm >= min(depth_mm, 0.8 * distance_mm.max())
    candidates = np.argwhere(inside)
    assert len(candidates), "no tissue that could hold the lesion"
    voxel = candidates[generator.integers(len(candidates))]
    return affine[:3, :3] @ voxel + affine[:3, 3]


def _random_blob(
    generator: np.random.Generator, centre_mm: FloatArray, least_mm: float, most_mm: float
) -> _Blob:
    radius = generator.uniform(least_mm, most_mm)
    return _Blob(
        centre_mm=centre_mm,
        radii_mm=radius * generator.uniform(0.75, 1.25, size=3),
        rotation=Rotation.random(random_state=generator).as_matrix(),
        waves=generator.uniform(-_MAX_WAVE, _MAX_WAVE, size=4),
    )


def _soft(
    blob: _Blob, shape: tuple[int, ...], affine: FloatArray, *, margin_mm: float = 0.0
) -> npt.NDArray[np.float32]:
    """Return the fraction of each voxel inside the blob, less a margin."""
    spacing_mm = float(np.diag(affine)[:3].mean())
    distance_mm = (blob.radius(shape, affine) - 1) * blob.mean_radius_mm + margin_mm
    return np.clip(0.5 - distance_mm / spacing_mm, 0, 1).astype(np.float32)


def _replace(fractions: FloatMap, tissue: str, share: npt.NDArray[np.floating]) -> None:
    """Let a tissue take `share` of each voxel, in place; the others keep their proportions.

    What was air stays air: only the tissues give way.
    """
    share = np.clip(share, 0, 1).astype(np.float32)
    total = np.sum(list(fractions.values()), axis=0, dtype=np.float32)
    taken = np.minimum(share, total)
    keep = 1 - taken / np.maximum(total, 1e-6)
    for fraction in fractions.values():
        fraction *= keep
    fractions[tissue] += taken
