"""Padding of an image to a size that an encoder takes."""

from torch import Tensor
from torch.nn import functional


def pad_to_stride(image: Tensor, stride: tuple[int, int, int], *, min_voxels: int = 2) -> Tensor:
    """Pad with zeros at the end of each axis to multiples of `stride`.

    Args:
        image: (b, c, x, y, z).
        stride: the encoder's total stride, voxels.
        min_voxels: 1 or 2, of the coarsest feature; instance norm is undefined on one.

    Returns:
        (b, c, x', y', z') whose coarsest feature has so many voxels; `image` itself when
        that is so already.
    """
    missing = [-size % step for size, step in zip(image.shape[2:], stride, strict=True)]
    padded = [size + pad for size, pad in zip(image.shape[2:], missing, strict=True)]
    is_single = all(size == step for size, step in zip(padded, stride, strict=True))
    if is_single and min_voxels > 1:
        missing[0] += stride[0]
    if not any(missing):
        return image
    x, y, z = missing
    return functional.pad(image, (0, z, 0, y, 0, x))
