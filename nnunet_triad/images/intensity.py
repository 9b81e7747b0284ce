"""Which number type holds a volume's intensities, and on which scale an encoder saw them."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

import numpy as np

UINT16_MAX = 65535


class Scale(Enum):
    """How a volume's values become an encoder's input."""

    ZSCORE = "zscore"  # minus the volume's mean, by its standard deviation
    # those of the voxels that are not zero, and 0 elsewhere: nnU-Net's of skull-stripped heads
    MASKED_ZSCORE = "zscore-in-mask"
    PERCENTILES = "percentiles"  # two percentiles of the volume to 0 and 1
    WINDOW = "window"  # two values of the scanner's to 0 and 1, such as Hounsfield units
    STANDARDISED = "standardised"  # minus a mean, by a deviation, both of a data set
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Intensity:
    """A scale and its two parameters.

    Written as text it reads `zscore`, `zscore-in-mask`, `percentiles 0.5 99.5`, `window -175 250`,
    `standardised 100 50` or `unknown`.
    """

    scale: Scale
    first: float = 0.0  # lower percentile, lower value, or mean
    second: float = 0.0  # upper percentile, upper value, or deviation

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        if self.scale in (Scale.ZSCORE, Scale.MASKED_ZSCORE, Scale.UNKNOWN):
            return self.scale.value
        return f"{self.scale.value} {self.first:g} {self.second:g}"

    @classmethod
    def parse(cls, text: str) -> "Intensity":
        """Read a text; one that says something else is of an unknown scale."""
        word, *numbers = text.split() or [""]
        try:
            scale, (first, second) = Scale(word), map(float, numbers) if numbers else (0.0, 0.0)
        except ValueError:
            return UNKNOWN
        is_range = scale not in (Scale.PERCENTILES, Scale.WINDOW) or first < second
        return cls(scale, first, second) if is_range else UNKNOWN


UNKNOWN = Intensity(Scale.UNKNOWN)
ZSCORE = Intensity(Scale.ZSCORE)
MASKED_ZSCORE = Intensity(Scale.MASKED_ZSCORE)


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Of the values that a network is shown, one channel's."""

    mean: float
    deviation: float
    lower: float  # percentile 0.5
    upper: float  # percentile 99.5

    PERCENTILES = (0.5, 99.5)


def rescale(volume: np.ndarray, intensity: Intensity) -> np.ndarray:
    """Return a volume's values on a scale; z-scores where it is not known.

    Percentiles and windows are clipped to 0 and 1, as MONAI's `ScaleIntensityRange` does with
    `clip=True`.

    Args:
        volume: finite values.
        intensity: the scale.
    """
    values = volume.astype(np.float32)
    if intensity == MASKED_ZSCORE:
        inside = values != 0
        values[inside] = rescale(values[inside], ZSCORE) if inside.any() else 0
        return values
    if intensity.scale in (Scale.ZSCORE, Scale.UNKNOWN, Scale.STANDARDISED):
        is_own = intensity.scale is not Scale.STANDARDISED
        mean = values.mean(dtype=np.float64) if is_own else intensity.first
        deviation = values.std(dtype=np.float64) if is_own else intensity.second
        return np.asarray((values - mean) / max(deviation, 1e-8), np.float32)
    lower, upper = intensity.first, intensity.second
    if intensity.scale is Scale.PERCENTILES:
        lower, upper = np.percentile(values, (lower, upper))
    return np.asarray(np.clip((values - lower) / max(upper - lower, 1e-8), 0, 1), np.float32)


def statistics_of(volumes: Iterable[np.ndarray]) -> Statistics:
    """Return the median over volumes of each statistic.

    Args:
        volumes: at least one, finite.
    """
    rows = [
        (volume.mean(), volume.std(), *np.percentile(volume, Statistics.PERCENTILES))
        for volume in volumes
    ]
    mean, deviation, lower, upper = (float(value) for value in np.median(rows, axis=0))
    return Statistics(mean=mean, deviation=deviation, lower=lower, upper=upper)


def affine_map(
    wanted: Intensity, here: Intensity, statistics: Statistics | None
) -> tuple[float, float] | None:
    """Return the slope and intercept that turn values here into those an encoder saw.

    Args:
        wanted: the encoder's scale.
        here: the scale of the values here.
        statistics: of the values here, over a few volumes; percentiles and means of a volume
            follow from them, as near as volumes are alike.

    Returns:
        (a, b) of a v + b; None: no such map is known, for example to a CT window.
    """
    if wanted == here and wanted.scale is not Scale.UNKNOWN:
        return 1.0, 0.0
    lower, upper = wanted.first, wanted.second
    if wanted.scale is Scale.WINDOW and here.scale is Scale.STANDARDISED:
        return here.second / (upper - lower), (here.first - lower) / (upper - lower)
    if statistics is None:
        return None
    if wanted == ZSCORE and here != MASKED_ZSCORE and statistics.deviation > 0:
        return 1 / statistics.deviation, -statistics.mean / statistics.deviation
    extent = statistics.upper - statistics.lower
    if (
        wanted.scale is Scale.PERCENTILES
        and extent > 0
        and (lower, upper) == Statistics.PERCENTILES
    ):
        return 1 / extent, -statistics.lower / extent
    return None


def choose_storage_dtype(values: np.ndarray) -> tuple[np.dtype, str]:
    """Choose uint16 where it can hold a source's values, else float32, and say why.

    Source: Triad, section 4.1 (most volumes as uint16, the rest as float32).
    The rule looks at the values and not at the file's type: whole numbers in 0..65535 are kept as
    uint16, and what interpolation puts between them is rounded to the nearest whole number.

    Args:
        values: the source's finite intensities, after the file's own scaling.

    Returns:
        The type and the reason.
    """
    is_integer = np.issubdtype(values.dtype, np.integer)
    limits = np.iinfo(values.dtype) if is_integer else np.finfo(values.dtype)
    if limits.min < 0 and values.min() < 0:  # types that cannot hold such values are not searched
        return np.dtype(np.float32), "negative values"
    if limits.max > UINT16_MAX and values.max() > UINT16_MAX:
        return np.dtype(np.float32), f"values above {UINT16_MAX}"
    is_whole = is_integer or np.array_equal(values, np.rint(values))
    if not is_whole:
        return np.dtype(np.float32), "values that are not whole numbers"
    return np.dtype(np.uint16), f"whole numbers in 0..{UINT16_MAX}"


def round_to_storage_dtype(values: np.ndarray, dtype: np.dtype) -> None:
    """Make interpolated float32 values, in place, such that `dtype` holds them without a loss."""
    if dtype == np.uint16:
        np.rint(values, out=values)
        np.minimum(values, np.float32(UINT16_MAX), out=values)
        np.maximum(values, np.float32(0), out=values)
