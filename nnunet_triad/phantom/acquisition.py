"""From a subject to an image: signal, slice profile, coil, noise."""

import functools
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnunet_triad.phantom.grid import (
    FloatArray,
    apply_separably,
    average_to_grid,
    coarser_grid,
    spline_matrix,
)
from nnunet_triad.phantom.sequences import SEQUENCES, Scanner, Sequence
from nnunet_triad.phantom.signal import tissue_signal
from nnunet_triad.phantom.subject import Subject, icbm_subject
from nnunet_triad.phantom.template import label_map, load_icbm
from nnunet_triad.phantom.tissues import TISSUES

_FATTY = ("fat", "breast_fat")
_BIAS_KNOTS = 4  # control points along each axis: the field varies slowly


@dataclass(frozen=True, kw_only=True)
class Acquisition:
    """One acquired image with its truth.

    Attributes:
        image: (x, y, z) float32, 0 or more, the scanner's units.
        labels: (x, y, z) uint8 on the same grid.
        affine: (4, 4), RAS, mm.
        sequence, scanner: the settings that made it.
        subject_name, anatomy: of the subject.
    """

    image: npt.NDArray[np.float32]
    labels: npt.NDArray[np.uint8]
    affine: FloatArray
    sequence: Sequence
    scanner: Scanner
    subject_name: str
    anatomy: str

    @property
    def stored(self) -> npt.NDArray[np.int16]:
        """The image in whole numbers, as scanners store it: (x, y, z)."""
        return np.rint(self.image).astype(np.int16)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Spacing along x, y and z."""
        x, y, z = np.diag(self.affine)[:3].tolist()
        return x, y, z


def acquire(
    subject: Subject,
    sequence: Sequence,
    scanner: Scanner,
    *,
    seed: int = 0,
    spacing_mm: tuple[float, float, float] | None = None,
) -> Acquisition:
    """Image a subject; the same arguments give the same bytes.

    The signal of each tissue, weighted with its fraction, is averaged over each voxel (partial
    volume), multiplied with the coil's field and the gain, and gets Rician noise.

    Args:
        subject: with the tissues.
        sequence: its settings decide the signals.
        scanner: its settings decide the field, the noise and the gain.
        seed: with the names of subject, sequence and scanner, of field and noise.
        spacing_mm: of the image, x, y, z; None: the subject's own grid.

    Raises:
        ValueError: a spacing of 0 or less.
    """
    shape, affine = subject.labels.shape, subject.affine
    signals = {
        tissue: tissue_signal(TISSUES[tissue], sequence, field_strength_t=scanner.field_strength_t)
        for tissue in subject.fractions
    }
    image = np.zeros(shape, np.float32)
    for tissue, fraction in subject.fractions.items():
        image += np.float32(signals[tissue]) * fraction
    labels = subject.labels
    if spacing_mm is not None and not np.allclose(spacing_mm, subject.spacing_mm):
        if min(spacing_mm) <= 0:
            raise ValueError(f"spacing_mm: expected more than 0, got {spacing_mm}")
        shape, affine = coarser_grid(shape, subject.affine, spacing_mm)
        image = average_to_grid(image, subject.affine, shape, affine)
        labels = _labels_on(subject, shape, affine)
    name = f"{subject.name}/{subject.anatomy}/{sequence.name}/{scanner.serial_number}"
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    image = image * bias_field(generator, shape, range_percent=scanner.bias_percent)
    sigma = scanner.noise_percent / 100 * _reference_signal(subject.fractions, signals)
    return Acquisition(
        image=(add_rician_noise(image, sigma, generator) * np.float32(scanner.gain)),
        labels=labels,
        affine=affine,
        sequence=sequence,
        scanner=scanner,
        subject_name=subject.name,
        anatomy=subject.anatomy,
    )


@functools.cache
def icbm_t1() -> Acquisition:
    """Return the ICBM152 2009a T1 volume as it is, with its labels; its arrays are read-only.

    The average of 152 real brains at 1 mm, without skull. They were scanned on a 1.5 T Philips
    system with a spoiled gradient echo, TR 18 ms, TE 10 ms, flip angle 30 degrees, which is what
    `SEQUENCES["T1w"]` has.
    """
    subject = icbm_subject()
    image = load_icbm("t1")[0].astype(np.float32)
    for array in (image, subject.labels):
        array.setflags(write=False)
    scanner = Scanner(
        manufacturer="Philips Medical Systems",
        model="Gyroscan ACS II",
        field_strength_t=1.5,
        software_version="unknown",
        serial_number="ICBM152",
        noise_percent=0.0,
        bias_percent=0.0,
        gain=1.0,
    )
    return Acquisition(
        image=image,
        labels=subject.labels,
        affine=subject.affine,
        sequence=SEQUENCES["T1w"],
        scanner=scanner,
        subject_name=subject.name,
        anatomy=subject.anatomy,
    )


def bias_field(
    generator: np.random.Generator, shape: tuple[int, ...], *, range_percent: float
) -> npt.NDArray[np.float32]:
    """Return a smooth positive field that spans 1 - range/200 to 1 + range/200.

    Args:
        generator: decides its shape.
        shape: (x, y, z).
        range_percent: BrainWeb's "intensity non-uniformity": 20 means 0.9 to 1.1.
    """
    if not range_percent:
        return np.ones(shape, np.float32)
    knots = generator.standard_normal((_BIAS_KNOTS,) * 3).astype(np.float32)
    places = np.linspace(0, 1, _BIAS_KNOTS)
    matrices = [spline_matrix(places, np.linspace(0, 1, n)) for n in shape]
    field = apply_separably(knots, matrices)
    low, high = field.min(), max(field.max(), field.min() + 1e-6)
    return (1 + range_percent / 100 * ((field - low) / (high - low) - 0.5)).astype(np.float32)


def add_rician_noise(
    image: npt.NDArray[np.float32], sigma: float, generator: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Return |image + n1 + i n2| with Gaussian n of standard deviation `sigma`.

    Source: Gudbjartsson and Patz, Magn Reson Med 1995. In air the result is Rayleigh distributed.
    """
    if not sigma:
        return image.astype(np.float32)
    real, imaginary = (
        generator.standard_normal(image.shape, dtype=np.float32) * np.float32(sigma)
        for _ in range(2)
    )
    return np.hypot(image + real, imaginary)


def _labels_on(
    subject: Subject, shape: tuple[int, ...], affine: FloatArray
) -> npt.NDArray[np.uint8]:
    fractions = {
        tissue: average_to_grid(fraction, subject.affine, shape, affine)
        for tissue, fraction in subject.fractions.items()
    }
    return label_map(fractions, subject.anatomy)


def _reference_signal(
    fractions: Mapping[str, npt.NDArray[np.float32]], signals: Mapping[str, float]
) -> float:
    """Return the signal of the brightest tissue but fat; BrainWeb's noise has such a reference.

    Lesions do not count: they would change the noise of the whole image.
    """
    lesions = ("necrotic_core", "oedema", "enhancing_rim", "plaque")
    skipped = (*_FATTY, *lesions, "prostate_lesion", "breast_lesion")
    return max(signals[tissue] for tissue in fractions if tissue not in skipped)
