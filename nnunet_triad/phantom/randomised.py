"""Images of random contrast, for pre-training: simulated anatomy, looks of no scanner.

After SynthSeg (Billot et al., Medical Image Analysis 2023) and anatomix (Dey et al., ICLR 2025):
what varies more than real images do may carry over to contrasts that nobody simulated.
"""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nnunet_triad.phantom.acquisition import add_rician_noise, bias_field
from nnunet_triad.phantom.grid import FloatArray, apply_separably, spline_matrix
from nnunet_triad.phantom.subject import Subject

_STORED_RANGE = 2000.0  # of a signal of 1, in whole numbers


def randomise(subject: Subject, generator: np.random.Generator) -> npt.NDArray[np.int16]:
    """Return an image of a subject that no sequence would give.

    Each tissue is divided into two to six regions of random shape, each with a signal from 0 to 1;
    then come blur, texture, a gamma curve, a coil's field of up to 60 % and Rician noise of up to
    6 %.

    Args:
        subject: with the tissues.
        generator: decides all of it.

    Returns:
        (x, y, z), 0 or more.
    """
    shape = subject.labels.shape
    num_regions = int(generator.integers(2, 7))
    step = generator.uniform(8, 30)  # voxels between the knots of the regions' borders
    fields = [_smooth(generator, shape, step) for _ in range(num_regions)]
    regions = np.argmax(np.stack(fields), axis=0)
    share = generator.uniform(0.2, 1)  # of the region in a signal; the rest is the tissue's
    image = np.zeros(shape, np.float32)
    for fraction in subject.fractions.values():
        signal = (1 - share) * generator.uniform(0, 1)
        signals = signal + share * generator.uniform(0, 1, num_regions)
        image += fraction * signals[regions].astype(np.float32)
    image = ndimage.gaussian_filter(image, generator.uniform(0.3, 1.0))
    texture = _smooth(generator, shape, 4)
    image = image * (1 + 0.05 * generator.uniform(0, 2) * texture)
    image = np.clip(image, 0, None) ** np.exp(generator.normal(0, 0.25))
    image = image * bias_field(generator, shape, range_percent=generator.uniform(0, 60))
    image = add_rician_noise(image, float(generator.uniform(0, 0.06)), generator)
    return np.rint(image * _STORED_RANGE).astype(np.int16)


def _smooth(generator: np.random.Generator, shape: tuple[int, ...], step: float) -> FloatArray:
    """Return a field of unit variance at its knots, which are `step` voxels apart."""
    knots = tuple(max(4, int(size / step)) for size in shape)
    values = generator.standard_normal(knots).astype(np.float32)
    pairs = zip(knots, shape, strict=True)
    matrices = [spline_matrix(np.linspace(0, 1, k), np.linspace(0, 1, n)) for k, n in pairs]
    return apply_separably(values, matrices)
