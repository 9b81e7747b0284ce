"""Whether crops fit the volumes of a store, or would be zeros around them for the most part."""

import math

from nnunet_triad.architectures import encoder_spec
from nnunet_triad.errors import UserError
from nnunet_triad.training.settings import Triple
from pretraining.settings import PretrainSettings


def check_crop_fits(shape: Triple, settings: PretrainSettings) -> None:
    """Check that no axis of a crop is longer than the volumes' length, rounded up to the stride.

    Where that leaves the encoder a single voxel, one axis may be twice as long.

    Args:
        shape: voxels of every volume of the store.
        settings: of the run.

    Raises:
        UserError: an axis is longer.
    """
    stride = encoder_spec(settings.encoder).total_stride
    limit = _times(stride, [math.ceil(have / one) for have, one in zip(shape, stride, strict=True)])
    excess = [max(want - most, 0) for want, most in zip(settings.crop_size, limit, strict=True)]
    is_smallest = limit == stride and sum(excess) in stride and excess.count(0) == 2
    if any(excess) and not is_smallest:
        raise UserError(
            f"crop_size: expected at most {_text(limit)}, the volumes' {_text(shape)} rounded up "
            f"to the stride of {settings.encoder}, got {_text(settings.crop_size)}, of which "
            f"{share_outside(shape, settings.crop_size):.0%} would be padding; use --crop-size "
            f"{_text(_largest_inside(shape, settings))}",
            setting="crop_size",
        )


def share_outside(shape: Triple, crop_size: Triple) -> float:
    """Return the share of a crop's voxels that lie outside the volume, 0 to below 1."""
    inside = [min(have, want) for have, want in zip(shape, crop_size, strict=True)]
    return 1 - math.prod(inside) / math.prod(crop_size)


def _largest_inside(shape: Triple, settings: PretrainSettings) -> Triple:
    """The largest crop that is no longer than asked for, without padding where that is possible."""
    stride = encoder_spec(settings.encoder).total_stride
    lengths = [min(have, want) for have, want in zip(shape, settings.crop_size, strict=True)]
    counts = [max(length // one, 1) for length, one in zip(lengths, stride, strict=True)]
    if _times(stride, counts) == stride:
        counts[lengths.index(max(lengths))] += 1
    return _times(stride, counts)


def _times(stride: Triple, counts: list[int]) -> Triple:
    x, y, z = (one * count for one, count in zip(stride, counts, strict=True))
    return x, y, z


def _text(size: Triple) -> str:
    return ",".join(map(str, size))
