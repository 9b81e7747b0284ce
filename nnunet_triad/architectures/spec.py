"""An encoder as data: what other code needs to know of it without building it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from math import prod
from typing import Any, TypeVar

Triple = tuple[int, int, int]

# Weights files of before the families had specs of their own hold the fields of all of them.
_SHARED = {
    *("kernel_sizes", "convs_per_stage", "blocks_per_stage"),
    *("depths", "num_heads", "window_size", "use_v2"),
}


@dataclass(frozen=True, kw_only=True)
class EncoderSpec:
    """What an encoder is, without building it; each family adds fields of its own.

    The encoder returns one feature a level, fine to coarse: level i has `channels[i]` channels,
    and its grid is coarser by `strides[i]` than that of level i-1 (level 0: than the image).
    """

    name: str
    family: str  # a name of `families.FAMILIES`
    channels: tuple[int, ...]
    strides: tuple[Triple, ...]

    def __post_init__(self) -> None:
        if len(self.channels) != len(self.strides):
            raise ValueError(
                f"strides: expected one for each of {len(self.channels)} levels, "
                f"got {len(self.strides)}"
            )

    @property
    def total_stride(self) -> Triple:
        """The factor a axis between the image and the coarsest feature."""
        x, y, z = (prod(axis) for axis in zip(*self.strides, strict=True))
        return x, y, z

    @property
    def feature_size(self) -> int:
        """Channels of the finest feature (Table 3 of the paper: 48, 96 or 192 for Swin)."""
        return self.channels[0]

    def is_same_encoder(self, other: "EncoderSpec") -> bool:
        """Say whether two specs differ in their names at most."""
        return replace(self, name="") == replace(other, name="")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-able values; `families.spec_from_dict` is the inverse."""
        return asdict(self)


SpecT = TypeVar("SpecT", bound=EncoderSpec)


def make_spec(kind: type[SpecT], values: Mapping[str, Any]) -> SpecT:
    """Build a spec from `to_dict`'s values, lists allowed for tuples.

    Raises:
        TypeError: a field is unknown or missing.
    """
    known = {item.name for item in fields(kind)}
    own = {name: value for name, value in values.items() if name in known or name not in _SHARED}
    return kind(**{name: _as_tuples(value) for name, value in own.items()})


Number = TypeVar("Number", int, float)


def permuted(
    sizes: tuple[tuple[Number, Number, Number], ...], order: Triple
) -> tuple[tuple[Number, Number, Number], ...]:
    """Return sizes whose axis j is axis `order[j]` of the given ones."""
    i, j, k = order
    return tuple((size[i], size[j], size[k]) for size in sizes)


def _as_tuples(value: Any) -> Any:
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list | tuple) else value
