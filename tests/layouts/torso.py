"""A torso of ellipsoids: chest and abdomen for datasets of organs that the phantom does not have.

It exercises programs and nothing else: proportions and intensities are rough.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnunet_triad.phantom.analytic import Painting
from tests.layouts.case import PhantomCase

_Triple = tuple[float, float, float]
_NOISE_HU, _NOISE_MRI = 12.0, 15.0


@dataclass(frozen=True, kw_only=True)
class _Organ:
    """An ellipsoid in RAS mm, with a CT number and a signal in MRI."""

    centre_mm: _Triple
    radii_mm: _Triple
    hu: int
    signal: int


def _organ(centre: _Triple, radii: _Triple, hu: int, signal: int) -> _Organ:
    return _Organ(centre_mm=centre, radii_mm=radii, hu=hu, signal=signal)


# Painted in this order, later ones over earlier ones; +x is the patient's right.
_ORGANS: Mapping[str, _Organ] = {
    "body": _organ((0, 0, 0), (150, 105, 1000), 45, 250),
    "left_lung": _organ((-75, 0, 95), (48, 62, 75), -820, 30),
    "right_lung": _organ((75, 0, 95), (48, 62, 75), -820, 30),
    "lung_tumour": _organ((72, 8, 90), (16, 16, 16), 30, 220),
    "myocardium": _organ((-30, 25, 62), (34, 34, 40), 100, 320),
    "left_ventricle": _organ((-30, 25, 62), (22, 22, 28), 250, 700),
    "right_ventricle": _organ((8, 38, 60), (20, 18, 26), 230, 650),
    "left_atrium": _organ((-22, -8, 100), (24, 19, 18), 250, 720),
    "right_atrium": _organ((22, 12, 92), (18, 18, 20), 230, 660),
    "aorta": _organ((8, 20, 128), (13, 13, 24), 260, 740),
    "pulmonary_artery": _organ((-20, 32, 128), (13, 13, 20), 240, 690),
    "liver": _organ((65, 8, -10), (72, 66, 52), 110, 420),
    "liver_vessel": _organ((58, 4, -6), (52, 10, 10), 190, 800),
    "liver_tumour": _organ((84, 22, -20), (18, 18, 18), 60, 250),
    "spleen": _organ((-98, -28, 0), (30, 38, 42), 125, 380),
    "pancreas": _organ((-18, 12, -45), (52, 15, 15), 90, 360),
    "pancreas_tumour": _organ((12, 12, -45), (12, 11, 11), 55, 240),
    "left_kidney": _organ((-62, -48, -62), (24, 22, 44), 180, 520),
    "right_kidney": _organ((62, -48, -62), (24, 22, 44), 180, 520),
    "kidney_tumour": _organ((76, -48, -80), (15, 14, 15), 70, 260),
    "renal_vein": _organ((28, -38, -58), (26, 8, 8), 200, 760),
    "renal_artery": _organ((28, -56, -58), (26, 6, 6), 260, 850),
    "colon": _organ((-80, 30, -100), (24, 24, 54), 20, 200),
    "colon_tumour": _organ((-80, 34, -95), (16, 15, 18), 60, 270),
}


def torso_case(
    seed: int,
    number: int,
    *,
    centre_mm: _Triple,
    extent_mm: _Triple,
    spacing_mm: _Triple,
    is_ct: bool,
) -> PhantomCase:
    """Return a box of a varied torso, as CT or as MRI.

    Args:
        seed: of the population.
        number: of the subject.
        centre_mm: of the box; the origin lies between the kidneys and the heart.
        extent_mm: of the box.
        spacing_mm: of the voxels; the torso is painted with the finest and averaged.
        is_ct: Hounsfield units instead of a signal.
    """
    generator = np.random.default_rng([seed, number])
    finest = min(spacing_mm)
    steps = [max(1, round(spacing / finest)) for spacing in spacing_mm]
    shape = tuple(
        step * round(extent / finest / step) for extent, step in zip(extent_mm, steps, strict=True)
    )
    painting = _paint(generator, shape, finest, centre_mm)  # type: ignore[arg-type]
    fractions = {name: _average(part, steps) for name, part in painting.fractions.items()}
    names = list(fractions)
    stack = np.stack([fractions[name] for name in names])
    winner = stack.argmax(axis=0)
    regions = {name: (winner == i) & (stack.max(axis=0) > 0) for i, name in enumerate(names)}
    affine = np.diag([*(finest * step for step in steps), 1.0])
    affine[:3, 3] = np.array(centre_mm) + painting.origin_mm + finest * (np.array(steps) - 1) / 2
    return PhantomCase(
        channels=(_image(generator, fractions, is_ct=is_ct),), regions=regions, affine=affine
    )


def _paint(
    generator: np.random.Generator,
    shape: tuple[int, int, int],
    spacing_mm: float,
    centre_mm: _Triple,
) -> Painting:
    painting = Painting(shape=shape, spacing_mm=spacing_mm)
    common = generator.normal(0, 3, size=3)
    for name, organ in _ORGANS.items():
        x, y, z = np.array(organ.centre_mm) - centre_mm + common + generator.normal(0, 1, size=3)
        scale = generator.uniform(0.95, 1.1)
        a, b, c = (radius * scale for radius in organ.radii_mm)
        inside = painting.soft(painting.ellipsoid_mm((x, y, z), (a, b, c)))
        if inside.any():
            painting.paint(name, inside)
    return painting


def _average(part: npt.NDArray[np.float32], steps: list[int]) -> npt.NDArray[np.float32]:
    x, y, z = (size // step for size, step in zip(part.shape, steps, strict=True))
    blocks = part.reshape(x, steps[0], y, steps[1], z, steps[2])
    return blocks.mean(axis=(1, 3, 5))


def _image(
    generator: np.random.Generator, fractions: Mapping[str, npt.NDArray], *, is_ct: bool
) -> npt.NDArray[np.int16]:
    values = [_ORGANS[name].hu if is_ct else _ORGANS[name].signal for name in fractions]
    parts = np.stack(list(fractions.values()))
    total = parts.sum(axis=0)
    air = -1000.0 if is_ct else 10.0
    image = np.tensordot(np.array(values, np.float64), parts, axes=1) + air * (1 - total)
    image = image + generator.normal(0, _NOISE_HU if is_ct else _NOISE_MRI, size=total.shape)
    lowest = -1024 if is_ct else 0
    return np.rint(np.maximum(image, lowest)).astype(np.int16)
