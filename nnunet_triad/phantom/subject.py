"""Subjects: one anatomy, varied, with a lesion; and all that is true about it."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnunet_triad.phantom.deformation import (
    Deformation,
    identity_deformation,
    jacobian_determinant,
    random_deformation,
)
from nnunet_triad.phantom.grid import FloatArray
from nnunet_triad.phantom.lesions import LESIONS, add_lesion
from nnunet_triad.phantom.template import (
    ANATOMIES,
    Template,
    icbm_fractions,
    label_map,
    label_values,
    load_template,
)
from nnunet_triad.phantom.ventricles import widen_ventricles

_SLAB = 24  # voxels


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One simulated person.

    Attributes:
        name: "sub-001".
        anatomy: one of `ANATOMIES`.
        fractions: tissue -> (x, y, z) float32, adding up to at most 1; the rest is air.
        labels: (x, y, z) uint8, the label that fills most of each voxel.
        label_names: label -> value; background is 0.
        affine: (4, 4), RAS, mm; the template's grid.
        displacement_mm: (3, x, y, z) float32. Sampling the template at p + displacement(p) gives
            the subject's tissue at p, before the lesion: a pull displacement, subject to template.
        deformation: the map behind it, which also knows its inverse.
        lesion: its kind, or None.
    """

    name: str
    anatomy: str
    fractions: Mapping[str, npt.NDArray[np.float32]]
    labels: npt.NDArray[np.uint8]
    label_names: Mapping[str, int]
    affine: FloatArray
    displacement_mm: npt.NDArray[np.float32]
    deformation: Deformation
    lesion: str | None

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Of the subject's own grid."""
        x, y, z = np.diag(self.affine)[:3].tolist()
        return x, y, z


def make_subject(
    seed: int,
    number: int,
    *,
    anatomy: str = "brain",
    spacing_mm: float = 2.0,
    lesion: str | None = "tumour",
    is_template: bool = False,
    ventricle_growth: float = 0.0,
    is_aligned: bool = False,
) -> Subject:
    """Make one subject; the same arguments give the same bytes.

    Args:
        seed: of the population.
        number: of the subject in it, from 0; with the seed it decides anatomy and lesion.
        anatomy: one of `ANATOMIES`.
        spacing_mm: of the isotropic grid, 1 to 8.
        lesion: one of `LESIONS[anatomy]`, or None for a healthy subject.
        is_template: leave the anatomy as it is: no deformation and no lesion.
        ventricle_growth: 0 for none; 0.4 gives the brain's lateral ventricles about a quarter
            more volume, for which the rest of the brain makes room.
        is_aligned: leave out the affine part of the deformation.

    Raises:
        ValueError: an unknown anatomy or lesion, a spacing or growth out of range.
    """
    _check(number, anatomy, lesion, ventricle_growth)
    template = load_template(anatomy, float(spacing_mm))
    # One stream each, so that a lesion does not change the anatomy.
    root = np.random.SeedSequence([seed, number, ANATOMIES.index(anatomy)])
    for_deformation, for_lesion = (np.random.default_rng(s) for s in root.spawn(2))
    if is_template:
        deformation = identity_deformation(template.shape, template.affine)
    else:
        deformation = random_deformation(for_deformation, template.shape, template.affine)
        if is_aligned:
            deformation = dataclasses.replace(deformation, matrix=np.eye(4))
    if ventricle_growth and not is_template:
        deformation = widen_ventricles(deformation, ventricle_growth)
    displacement = deformation.displacement_mm(template.shape, template.affine)
    _assert_no_folding(displacement, template.affine)
    fractions = warp_template(template, displacement)
    if lesion is not None and not is_template:
        add_lesion(fractions, template.affine, anatomy=anatomy, kind=lesion, generator=for_lesion)
    return Subject(
        name=f"sub-{number:03d}",
        anatomy=anatomy,
        fractions=fractions,
        labels=label_map(fractions, anatomy),
        label_names=label_values(anatomy),
        affine=template.affine,
        displacement_mm=displacement,
        deformation=deformation,
        lesion=None if is_template else lesion,
    )


def icbm_subject() -> Subject:
    """Return the template's brain at 1 mm without skull, which is what the ICBM152 T1 shows."""
    parts, affine = icbm_fractions()
    fractions = dict(zip(("csf", "grey_matter", "white_matter"), parts, strict=True))
    shape = parts.shape[1:]
    return Subject(
        name="sub-000",
        anatomy="brain",
        fractions=fractions,
        labels=label_map(fractions, "brain"),
        label_names=label_values("brain"),
        affine=affine,
        displacement_mm=np.broadcast_to(np.float32(0), (3, *shape)),
        deformation=identity_deformation(shape, affine),
        lesion=None,
    )


def warp_template(
    template: Template, displacement_mm: npt.NDArray[np.float32]
) -> dict[str, npt.NDArray[np.float32]]:
    """Sample the template's tissues linearly at each voxel plus its displacement.

    The border's value counts outside: a neck that the template cuts goes on.
    """
    if not displacement_mm.any():
        return dict(zip(template.tissues, template.fractions.copy(), strict=True))
    import torch  # slow to import, and only needed here

    shape = template.shape
    spacing_mm = np.diag(template.affine)[:3]
    axes = np.meshgrid(*[np.arange(n, dtype=np.float32) for n in shape], indexing="ij")
    # grid_sample wants x, y, z last, reversed, and in -1 to 1 between the centres of the corners.
    grid = np.stack(
        [
            (axis + part / step) * (2 / (n - 1)) - 1
            for axis, part, step, n in zip(
                axes, displacement_mm, spacing_mm.tolist(), shape, strict=True
            )
        ][::-1],
        axis=-1,
    ).astype(np.float32)
    with torch.no_grad():
        warped = torch.nn.functional.grid_sample(
            torch.tensor(template.fractions)[None],
            torch.from_numpy(grid)[None],
            mode="bilinear",
            padding_mode="border",
            align_corners=True,
        )
    return dict(zip(template.tissues, warped[0].numpy(), strict=True))


def _check(number: int, anatomy: str, lesion: str | None, ventricle_growth: float) -> None:
    if number < 0:
        raise ValueError(f"number: expected 0 or more, got {number}")
    if anatomy not in ANATOMIES:
        raise ValueError(f"anatomy: expected one of {', '.join(ANATOMIES)}, got {anatomy!r}")
    if lesion is not None and lesion not in LESIONS[anatomy]:
        kinds = ", ".join(LESIONS[anatomy])
        raise ValueError(f"lesion: expected None or one of {kinds} for {anatomy}, got {lesion!r}")
    if not 0 <= ventricle_growth <= 0.5:
        raise ValueError(f"ventricle_growth: expected 0 to 0.5, got {ventricle_growth}")
    if ventricle_growth and anatomy != "brain":
        raise ValueError(f"ventricle_growth: expected 0 for {anatomy}, got {ventricle_growth}")


def _assert_no_folding(displacement_mm: npt.NDArray[np.float32], affine: FloatArray) -> None:
    """Check that the Jacobian determinant is positive; in slabs, which take little memory."""
    for start in range(0, displacement_mm.shape[1], _SLAB):
        slab = displacement_mm[:, max(0, start - 1) : start + _SLAB + 1]
        smallest = jacobian_determinant(slab, affine).min()
        assert smallest > 0, f"the deformation folds: smallest Jacobian determinant {smallest:.3f}"
