"""Anatomies before any variation: fractions of tissue on a grid, cached by spacing."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

import numpy as np
import numpy.typing as npt

from nnunet_triad.images import Nan, read_volume
from nnunet_triad.phantom.analytic import FloatMap, Painting, make_breast, make_pelvis
from nnunet_triad.phantom.grid import FloatArray, average_to_grid, coarser_grid, make_affine
from nnunet_triad.phantom.head import add_shells

ANATOMIES = ("brain", "pelvis", "breast")
# What each label holds. "oedema": all of a brain lesion that neither is dead nor enhances.
LABEL_TISSUES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "brain": {
        "CSF": ("csf",),
        "grey_matter": ("grey_matter",),
        "white_matter": ("white_matter",),
        "necrotic_core": ("necrotic_core",),
        "oedema": ("oedema", "plaque"),
        "enhancing_rim": ("enhancing_rim",),
    },
    "pelvis": {
        "peripheral_zone": ("peripheral_zone",),
        "transition_zone": ("transition_zone",),
        "bladder": ("urine",),
        "lesion": ("prostate_lesion",),
    },
    "breast": {
        "fat": ("breast_fat",),
        "fibroglandular": ("fibroglandular",),
        "lesion": ("breast_lesion",),
    },
}
_PACKAGE = "nilearn.datasets"
_FILE = "data/mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"


@dataclass(frozen=True, kw_only=True)
class Template:
    """An anatomy without variation.

    Attributes:
        anatomy: one of `ANATOMIES`.
        tissues: names, in the order of the first axis of `fractions`.
        fractions: (t, x, y, z) float32, 0 to 1, adding up to at most 1; the rest is air.
        affine: (4, 4), RAS, mm.
    """

    anatomy: str
    tissues: tuple[str, ...]
    fractions: npt.NDArray[np.float32]
    affine: FloatArray

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along x, y and z."""
        x, y, z = self.fractions.shape[1:]
        return x, y, z


def label_values(anatomy: str) -> dict[str, int]:
    """Return the integer of each label, with background 0."""
    names = ("background", *LABEL_TISSUES[anatomy])
    return {name: value for value, name in enumerate(names)}


def label_map(
    fractions: Mapping[str, npt.NDArray[np.float32]], anatomy: str
) -> npt.NDArray[np.uint8]:
    """Return the label that fills most of each voxel; background is all that has no label.

    Args:
        fractions: (x, y, z) a tissue.
        anatomy: decides the labels.

    Returns:
        (x, y, z) uint8.
    """
    shape = next(iter(fractions.values())).shape
    rest = np.ones(shape, np.float32)
    largest, labels = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
    for value, tissues in enumerate(LABEL_TISSUES[anatomy].values(), start=1):
        part = sum((fractions[t] for t in tissues if t in fractions), start=np.float32(0))
        rest -= part
        labels[part > largest] = value
        largest = np.maximum(largest, part)
    labels[rest >= largest] = 0
    return labels


@functools.lru_cache(maxsize=4)
def load_template(anatomy: str, spacing_mm: float) -> Template:
    """Return an anatomy on an isotropic grid.

    The brain is the ICBM152 2009a template (Fonov et al., NeuroImage 2011) with nilearn's grey- and
    white-matter maps; cerebrospinal fluid is what they leave of the brain mask, skull and scalp are
    shells around it. Pelvis and breast are analytic.

    Args:
        anatomy: one of `ANATOMIES`.
        spacing_mm: at least 1 for the brain, whose maps have 1 mm.

    Raises:
        ValueError: an unknown anatomy, or a spacing out of range.
    """
    if anatomy not in ANATOMIES:
        raise ValueError(f"anatomy: expected one of {', '.join(ANATOMIES)}, got {anatomy!r}")
    if not 1 <= spacing_mm <= 8:
        raise ValueError(f"spacing_mm: expected 1 to 8, got {spacing_mm}")
    if anatomy == "brain":
        return _brain(spacing_mm)
    painting = (make_pelvis if anatomy == "pelvis" else make_breast)(spacing_mm)
    return _from_painting(anatomy, painting)


@functools.cache
def load_icbm(name: str) -> tuple[npt.NDArray[np.uint8], FloatArray]:
    """Return (volume, affine) of the ICBM152 2009a's "t1", "gm" or "wm", 1 mm, 0 to 255."""
    with resources.as_file(resources.files(_PACKAGE) / _FILE.format(name)) as path:
        volume = read_volume(path, nan=Nan.REFUSE, dtype=None)
    return volume.voxels, volume.affine


def icbm_fractions() -> tuple[npt.NDArray[np.float32], FloatArray]:
    """Return (CSF, grey, white) fractions (3, x, y, z) at 1 mm, and their affine.

    The T1 volume is zero outside the brain. Inside, what is neither grey nor white is fluid.
    """
    t1, affine = load_icbm("t1")
    inside = (t1 > 0).astype(np.float32)
    grey, white = (load_icbm(name)[0] * (inside / 255) for name in ("gm", "wm"))
    total = np.maximum(grey + white, 1)  # rounding leaves up to 1/255 too much
    grey, white = grey / total, white / total
    return np.stack([inside - grey - white, grey, white]).clip(0, 1), affine


def _brain(spacing_mm: float) -> Template:
    fine, fine_affine = icbm_fractions()
    shape, affine = coarser_grid(fine.shape[1:], fine_affine, spacing_mm)
    parts = average_to_grid(fine, fine_affine, shape, affine)
    maps: FloatMap = dict(zip(("csf", "grey_matter", "white_matter"), parts, strict=True))
    add_shells(maps, spacing_mm)
    return _template("brain", maps, affine)


def _from_painting(anatomy: str, painting: Painting) -> Template:
    affine = make_affine(painting.spacing_mm, painting.origin_mm)
    return _template(anatomy, painting.fractions, affine)


def _template(anatomy: str, maps: FloatMap, affine: FloatArray) -> Template:
    fractions = np.stack(list(maps.values())).astype(np.float32)
    assert fractions.sum(axis=0).max() < 1 + 1e-4, "fractions of tissue add up to more than 1"
    fractions.setflags(write=False)  # the cache hands it to everybody
    return Template(anatomy=anatomy, tissues=tuple(maps), fractions=fractions, affine=affine)
