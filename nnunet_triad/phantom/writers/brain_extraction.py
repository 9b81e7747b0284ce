"""Volumes without skull, and several channels on one grid, as segmentation challenges have them."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nnunet_triad.phantom.acquisition import Acquisition, acquire, icbm_t1
from nnunet_triad.phantom.population import Population
from nnunet_triad.phantom.sequences import Sequence
from nnunet_triad.phantom.subject import icbm_subject
from nnunet_triad.phantom.template import label_values

_T1_LIKE = ("T1w", "T1ce")


def strip_skull(volume: Acquisition) -> Acquisition:
    """Return the volume with zeros outside the brain: what has a label, without holes."""
    brain = ndimage.binary_fill_holes(volume.labels > 0)
    return dataclasses.replace(volume, image=np.where(brain, volume.image, np.float32(0)))


def relabelled(volume: Acquisition, values: Mapping[str, int]) -> npt.NDArray[np.uint8]:
    """Return a brain's label map with some labels alone, under other values: label -> value."""
    own = label_values("brain")
    result = np.zeros_like(volume.labels)
    for name, value in values.items():
        result[volume.labels == own[name]] = value
    return result


def channels_of(
    population: Population,
    number: int,
    names: tuple[str, ...],
    *,
    is_stripped: bool,
    slice_mm: float | None = None,
) -> list[Acquisition]:
    """Image a subject with several sequences on one grid.

    The template's T1-weighted channel is the unchanged ICBM152 volume at 1 mm; it has no skull and
    no contrast agent (nor would a healthy brain take any up). Its other channels are simulated on
    the same grid and stripped in the same way.

    Args:
        population: settings.
        number: of the subject.
        names: of the sequences, one a channel.
        is_stripped: without skull.
        slice_mm: spacing along z; None: as in the plane. The template keeps its 1 mm.
    """
    sequences = population.sequences(number, names)
    if population.is_template(number):
        return [_template_channel(population, sequence) for sequence in sequences]
    subject, scanner = population.subject(number), population.scanner(number)
    in_plane_mm = population.spacing_mm
    spacing_mm = (in_plane_mm, in_plane_mm, slice_mm or in_plane_mm)
    volumes = [
        acquire(subject, s, scanner, seed=population.seed, spacing_mm=spacing_mm) for s in sequences
    ]
    return [strip_skull(v) for v in volumes] if is_stripped else volumes


def _template_channel(population: Population, sequence: Sequence) -> Acquisition:
    real = icbm_t1()
    if sequence.name in _T1_LIKE:
        return real
    volume = acquire(icbm_subject(), sequence, population.scanner(0), seed=population.seed)
    return dataclasses.replace(volume, image=np.where(real.image > 0, volume.image, np.float32(0)))
