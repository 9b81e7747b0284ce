"""Volumes without skull, and several channels on one grid, as segmentation challenges have them."""

import dataclasses

import numpy as np
from scipy import ndimage

from nnunet_triad.phantom.acquisition import Volume, acquire, icbm_t1
from nnunet_triad.phantom.population import Population

_T1_LIKE = ("T1w", "T1ce")
_TEMPLATE_SPACING_MM = 1.0


def strip_skull(volume: Volume) -> Volume:
    """Return the volume with zeros outside the brain: what has a label, without holes."""
    brain = ndimage.binary_fill_holes(volume.labels > 0)
    return dataclasses.replace(volume, image=np.where(brain, volume.image, np.float32(0)))


def channels_of(
    population: Population,
    number: int,
    names: tuple[str, ...],
    *,
    is_stripped: bool,
) -> list[Volume]:
    """Image a subject with several sequences on one isotropic grid.

    The template's T1-weighted channel is the unchanged ICBM152 volume at 1 mm; it has no skull and
    no contrast agent (nor would a healthy brain take any up). Its other channels are simulated on
    the same grid and stripped in the same way.

    Args:
        population: settings.
        number: of the subject.
        names: of the sequences, one a channel.
        is_stripped: without skull.
    """
    is_template = population.is_template(number)
    if is_template:
        population = dataclasses.replace(population, spacing_mm=_TEMPLATE_SPACING_MM)
    real = icbm_t1() if is_template else None
    if real is not None and set(names) <= set(_T1_LIKE):
        return [real for _ in names]
    subject, scanner = population.subject(number), population.scanner(number)
    sequences = population.sequences(number, names)
    volumes = [acquire(subject, s, scanner, seed=population.seed) for s in sequences]
    if is_stripped or is_template:
        volumes = [strip_skull(v) for v in volumes]
    if real is None:
        return volumes
    outside = real.image == 0
    volumes = [
        dataclasses.replace(v, image=np.where(outside, np.float32(0), v.image), labels=real.labels)
        for v in volumes
    ]
    return [real if v.sequence.name in _T1_LIKE else v for v in volumes]
