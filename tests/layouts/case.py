"""One labelled case of any organ: what the layouts' writers put into files."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from nnunet_triad.phantom.acquisition import acquire
from nnunet_triad.phantom.sequences import SCANNERS, SEQUENCES, Scanner, Sequence
from nnunet_triad.phantom.subject import Subject, make_subject
from nnunet_triad.phantom.writers.brain_extraction import strip_skull

# Diffusion and apparent diffusion have no signal equation here: these stand in for them.
_STAND_INS = {"ADC": "T2w", "DWI": "STIR"}


@dataclass(frozen=True, kw_only=True)
class PhantomCase:
    """Channels on one grid, and what is where.

    Attributes:
        channels: (x, y, z) int16 each.
        regions: name -> (x, y, z) bool; regions do not overlap.
        affine: (4, 4), voxel to RAS mm.
    """

    channels: tuple[npt.NDArray[np.int16], ...]
    regions: Mapping[str, npt.NDArray[np.bool_]]
    affine: npt.NDArray[np.floating]

    def labels(self, values: Mapping[str, int], dtype: npt.DTypeLike = np.uint8) -> npt.NDArray:
        """Return a label map with the value of each region, and 0 elsewhere."""
        result = np.zeros(self.channels[0].shape, dtype)
        for name, value in values.items():
            result[self.regions[name]] = value
        return result

    def cropped(self, box: tuple[slice, slice, slice]) -> "PhantomCase":
        """Return a box of it."""
        start = [part.start or 0 for part in box]
        affine = self.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ start
        return replace(
            self,
            channels=tuple(channel[box] for channel in self.channels),
            regions={name: region[box] for name, region in self.regions.items()},
            affine=affine,
        )


def simulated_case(
    seed: int,
    number: int,
    *,
    anatomy: str,
    sequences: tuple[str, ...],
    spacing_mm: tuple[float, float, float],
    is_stripped: bool = False,
) -> PhantomCase:
    """Image a simulated subject with a tumour, one channel a sequence.

    Args:
        seed: of the population.
        number: of the subject, from 0.
        anatomy: brain, pelvis or breast.
        sequences: names of simulated sequences; ADC and DWI are stood in for by T2w and STIR.
        spacing_mm: of the images.
        is_stripped: zeros outside the brain.
    """
    subject = make_subject(seed, number, anatomy=anatomy, spacing_mm=min(spacing_mm))
    scanner = SCANNERS[(seed + number) % len(SCANNERS)]
    chosen = [SEQUENCES[_STAND_INS.get(name, name)] for name in sequences]
    return imaged_case(
        subject, chosen, scanner, seed=seed, spacing_mm=spacing_mm, is_stripped=is_stripped
    )


def imaged_case(
    subject: Subject,
    sequences: list[Sequence],
    scanner: Scanner,
    *,
    seed: int,
    spacing_mm: tuple[float, float, float],
    is_stripped: bool = False,
) -> PhantomCase:
    """Image a subject; the regions are its labels."""
    volumes = [acquire(subject, s, scanner, seed=seed, spacing_mm=spacing_mm) for s in sequences]
    if is_stripped:
        volumes = [strip_skull(volume) for volume in volumes]
    labels = volumes[0].labels
    return PhantomCase(
        channels=tuple(np.rint(volume.image).astype(np.int16) for volume in volumes),
        regions={name: labels == value for name, value in subject.label_names.items() if value},
        affine=volumes[0].affine,
    )
