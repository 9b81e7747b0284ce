"""A look at a weights file of this project without PyTorch, whose import takes most of the time."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from nnunet_triad.files import sha256
from nnunet_triad.weights.file import WeightsInfo, read_info
from nnunet_triad.weights.origins import find_origin

_PLAIN = {"F16", "F32", "F64", "I8", "I16", "I32", "I64", "U8", "BOOL"}  # to NumPy itself


@dataclass(frozen=True, kw_only=True)
class Glance:
    """What `EncoderWeights` says of a file, with the sizes of its tensors in place of them."""

    path: Path
    sha256: str
    info: WeightsInfo
    shapes: dict[str, tuple[int, ...]]

    @property
    def num_parameters(self) -> int:
        """Number of values in all tensors."""
        return sum(math.prod(shape) for shape in self.shapes.values())


def glance(path: Path) -> Glance | None:
    """Look at a file; None where it is not a whole one of this project with finite values.

    `load_weights` reads such a file, or says what is wrong with it.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            info = read_info(path, file.metadata() or {})
            if info is None:
                return None
            shapes = {}
            for name in file.keys():  # noqa: SIM118
                # NumPy has no bfloat16; what a library adds of it is not asked for NaN
                if file.get_slice(name).get_dtype() not in _PLAIN:
                    return None
                array = file.get_tensor(name)
                if not _is_finite(array):
                    return None
                shapes[name] = tuple(array.shape)
    # UserError is a ValueError
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError):
        return None
    origin = find_origin(info.source)
    inside = {n: s for n, s in shapes.items() if not (origin and n.startswith(origin.outside))}
    return Glance(path=path, sha256=sha256(path), info=info, shapes=inside)


def _is_finite(array: "np.ndarray[Any, Any]") -> bool:
    if array.dtype.kind != "f" or not array.size:
        return True
    return bool(np.isfinite((array.min(), array.max())).all())
