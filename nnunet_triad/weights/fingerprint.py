"""What an encoder computes for a built-in image, in one line of text a level.

Two files, or two machines, whose lines agree compute the same; where they do not, the lines tell
by how much the features differ, without the features.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from nnunet_triad.architectures import EncoderSpec, build_encoder, family_of
from nnunet_triad.architectures.spec import Triple
from nnunet_triad.errors import UserError, require
from nnunet_triad.images.orientation import order_of_axes
from nnunet_triad.texts import read_short_text
from nnunet_triad.weights.file import EncoderWeights, encoder_tensors
from nnunet_triad.weights.hub import download, is_hub_name
from nnunet_triad.weights.locate import load_weights

VERSION = 1  # of image and patterns: a change of either makes every published line another one
# Of `LevelPrint.difference`. Measured: up to 1e-5 between precisions, threads and kernels, 4e-5
# from the rounding of what is printed, and 4e-3 or more with bf16.
TOLERANCE = 1e-3
NUM_PROJECTIONS = 8

_AXES = "xyz"
_SIZE = (64, 96, 32)  # voxels at least, along x, y and z
_SEED = 20
_NUM_ELLIPSOIDS = 24
_EDGE = 0.1  # of an ellipsoid's radius, over which it falls off
_NOISE = 0.2  # its standard deviation; ellipsoids have contrasts of up to 1
_NUM_DECIMALS = 4
_TINY = 1e-30  # stands for the deviation of a constant feature
_MAX_TEXT = 1_000_000  # bytes of a file that may hold lines
_HYPHENS = str.maketrans("\u2010\u2011\u2012\u2013\u2212", "-----")  # what papers print for one
_NUMBER = r"(-?\d{1,40}(?:\.\d{1,60})?)"
_SHAPE = r"(\d{1,6}(?:x\d{1,6}){3})"
_LINE = re.compile(
    rf"fingerprint\s+(\d+),\s+image\s+{_SHAPE},\s+level\s+(\d\d?)\s+of\s+0-(\d\d?):\s+{_SHAPE},\s+"
    rf"mean\s+{_NUMBER},\s+sd\s+{_NUMBER},\s+" + r"\s+".join([_NUMBER] * NUM_PROJECTIONS)
)


@dataclass(frozen=True, kw_only=True)
class LevelPrint:
    """What is kept of a feature (c, x, y, z).

    Attributes:
        shape: c, x, y, z.
        mean: over all values.
        sd: their standard deviation.
        projections: of the feature less its mean, over its deviation, on patterns of signs, each
            over the square root of the number of values: of white noise they would have
            variance 1.
    """

    shape: tuple[int, ...]
    mean: float
    sd: float
    projections: tuple[float, ...]

    def difference(self, other: "LevelPrint") -> float:
        """Return about how far two features are apart: root mean square, over the larger's sd.

        With u and v for features f and g less their means over their deviations, the mean of
        (f - g)^2 is the squared difference of the means, plus that of the deviations, plus both
        deviations times the mean of (u - v)^2; and of the last mean the squared difference of two
        projections is an unbiased estimate.

        Returns:
            Infinity where the shapes differ.
        """
        if self.shape != other.shape:
            return math.inf
        pairs = zip(self.projections, other.projections, strict=True)
        apart = sum((mine - others) ** 2 for mine, others in pairs) / NUM_PROJECTIONS
        square = (self.mean - other.mean) ** 2 + (self.sd - other.sd) ** 2
        square += self.sd * other.sd * apart
        return math.sqrt(square) / (max(self.sd, other.sd) or _TINY) if square else 0.0


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """The prints of an encoder's levels, 0 being the finest; a text may hold some of them alone.

    Attributes:
        image: c, x, y, z of the image.
        num_levels: of the encoder.
        levels: by their numbers.
        unused: tensors of the file that the encoder has no place for; no text tells of them.
        assumed: what the file does not say and was taken to be as in this project's own
            pre-training, such as axes; no text tells of it either.
    """

    image: tuple[int, ...]
    num_levels: int
    levels: Mapping[int, LevelPrint]
    unused: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return a line of text a level, which `parse` reads."""
        return [self._line(number, level) for number, level in self.levels.items()]

    def _line(self, number: int, level: LevelPrint) -> str:
        # five digits of the deviation, and the mean as finely
        decimals = max(0, 4 - math.floor(math.log10(level.sd))) if level.sd else _NUM_DECIMALS
        projections = " ".join(_fixed(value, _NUM_DECIMALS) for value in level.projections)
        return (
            f"fingerprint {VERSION}, image {_times(self.image)}, "
            f"level {number} of 0-{self.num_levels - 1}: {_times(level.shape)}, "
            f"mean {_fixed(level.mean, decimals)}, sd {_fixed(level.sd, decimals)}, {projections}"
        )

    @classmethod
    def parse(cls, text: str) -> "Fingerprint | None":
        """Read the lines in a text, whatever else stands there; None where there is no line.

        Raises:
            UserError: they are of another version, or of several encoders.
        """
        found = {match.groups() for match in _LINE.finditer(text.translate(_HYPHENS))}
        if not found:
            return None
        levels = {int(fields[2]): _level(fields[4:]) for fields in sorted(found)}
        heads = {(version, image, last) for version, image, _, last, *_ in found}
        is_one = len(heads) == 1 and len(levels) == len(found)
        require("fingerprint", "those of several", "the lines of one encoder", is_one)
        ((version, image, last),) = heads
        require("fingerprint", f"version {version}", f"version {VERSION}", version == str(VERSION))
        require("fingerprint", max(levels), f"levels 0 to {last}", max(levels) <= int(last))
        ordered = {number: levels[number] for number in sorted(levels)}
        return cls(image=_sizes(image), num_levels=int(last) + 1, levels=ordered)


def compute_fingerprint(weights: EncoderWeights, *, device: str = "cpu") -> Fingerprint:
    """Return what the encoder of a file gives for the built-in image, computed in float32.

    The image is shown with its axes as the encoder's were in its pre-training, and the features
    are brought back to x, y, z: permuted weights for permuted images have the same fingerprint.
    Where the file does not say how they were, they are taken for x, y, z.

    Args:
        weights: from `load_weights`.
        device: where to compute.

    Raises:
        UserError: a tensor is missing or of another shape, or a feature is not finite.
    """
    info = weights.info
    axes = info.axes or _AXES
    is_order = sorted(axes) == sorted(_AXES)
    require(f"{weights.path}: axes", axes, "an order of x, y and z", is_order)
    order, back = order_of_axes(axes, _AXES), order_of_axes(_AXES, axes)
    image = simulated_image((info.input_channels, *image_size(info.spec, axes)))
    shown = torch.from_numpy(image).permute(0, *(axis + 1 for axis in order))
    encoder, unused = _load_encoder(weights)
    encoder.to(device)
    with torch.inference_mode(), _full_precision():
        features = encoder(shown[None].float().contiguous().to(device))
    levels = {}
    for number, feature in enumerate(features):
        permuted = feature[0].permute(0, *(axis + 1 for axis in back))
        levels[number] = describe_feature(permuted.cpu().double().numpy())
        if not math.isfinite(levels[number].sd):
            raise UserError(
                f"{weights.path}: expected finite features, got others at level {number}; "
                "the weights are damaged, or overflow in float32"
            )
    said = {**info.spec.to_dict(), "axes": info.axes}
    assumed = tuple(name for name, value in said.items() if value is None)
    return Fingerprint(
        image=image.shape, num_levels=len(levels), levels=levels, unused=unused, assumed=assumed
    )


def describe_feature(feature: npt.NDArray[np.float64]) -> LevelPrint:
    """Return what is kept of a feature (c, x, y, z)."""
    c, *spatial = feature.shape
    values = feature.reshape(c, -1)
    mean, sd = float(values.mean()), float(values.std())
    # a pattern is the product of a sign a channel and a sign a voxel
    channels, voxels = _signs(0, c), _signs(1, values.shape[1])
    sums = np.einsum("kc,ck->k", channels, (values - mean) @ voxels.T)
    projections = sums / ((sd or 1.0) * math.sqrt(values.size))
    return LevelPrint(
        shape=(c, *spatial), mean=mean, sd=sd, projections=tuple(projections.tolist())
    )


def simulated_image(shape: Sequence[int]) -> npt.NDArray[np.float64]:
    """Return the built-in image: ellipsoids with soft edges and noise, z-scored a channel.

    Channels are images of the same ellipsoids with contrasts and noise of their own, and the
    first ones are the same however many there are. It equals none of its reflections and
    permutations.

    Args:
        shape: c, x, y, z.
    """
    c, *spatial = shape
    geometry = _uniform((2,), 6 * _NUM_ELLIPSOIDS).reshape(_NUM_ELLIPSOIDS, 6)
    grids = np.meshgrid(*((np.arange(n) + 0.5) / n for n in spatial), indexing="ij")
    shapes = []
    for centre, radii in zip(geometry[:, :3], 0.05 + 0.3 * geometry[:, 3:], strict=True):
        square = sum(((g - m) / r) ** 2 for g, m, r in zip(grids, centre, radii, strict=True))
        shapes.append(1 / (1 + np.exp((np.sqrt(square) - 1) / _EDGE)))
    image = np.empty((c, *spatial))
    for channel in range(c):
        contrasts = 2 * _uniform((3, channel), _NUM_ELLIPSOIDS) - 1
        noise = math.sqrt(12) * (_uniform((4, channel), math.prod(spatial)) - 0.5)
        image[channel] = np.tensordot(contrasts, np.stack(shapes), 1)
        image[channel] += _NOISE * noise.reshape(spatial)
    over = (1, 2, 3)
    return (image - image.mean(over, keepdims=True)) / image.std(over, keepdims=True)


def image_size(spec: EncoderSpec, axes: str = _AXES) -> Triple:
    """Return x, y, z of the built-in image: a multiple of the strides, with a bottleneck to norm.

    Args:
        spec: of the encoder.
        axes: of the arrays that it sees.
    """
    strides = [spec.total_stride[axes.index(axis)] for axis in _AXES]
    cells = [-(-size // stride) for size, stride in zip(_SIZE, strides, strict=True)]
    if math.prod(cells) < max(2, family_of(spec).min_bottleneck_voxels):
        cells[1] += 1
    x, y, z = (n * stride for n, stride in zip(cells, strides, strict=True))
    return x, y, z


def compare(mine: Fingerprint, other: Fingerprint) -> dict[int, float]:
    """Return each level's `LevelPrint.difference`; levels that a text leaves out have none.

    It is infinite where the images differ, or one of the encoders has no such level.
    """
    if mine.image != other.image:
        return dict.fromkeys(mine.levels.keys() | other.levels.keys(), math.inf)
    common, most = sorted((mine.num_levels, other.num_levels))
    both = sorted(mine.levels.keys() & other.levels.keys())
    found = {number: mine.levels[number].difference(other.levels[number]) for number in both}
    return found | dict.fromkeys(range(common, most), math.inf)


def is_same(differences: Mapping[int, float]) -> bool:
    """Say whether what was compared computes the same."""
    return max(differences.values()) <= TOLERANCE


def report(mine: Fingerprint, other: Fingerprint) -> list[str]:
    """Return the comparison in words, a line a level and a last one that sums up."""
    found = compare(mine, other)
    lines = [
        f"level {number}: {_describe(mine, other, number, found.get(number))}"
        for number in range(max(mine.num_levels, other.num_levels))
    ]
    if is_same(found):
        return [*lines, f"same: no difference above {TOLERANCE:g} of a feature's spread"]
    first = min(number for number, value in found.items() if value > TOLERANCE)
    return [*lines, f"different from level {first} on"]


def _describe(mine: Fingerprint, other: Fingerprint, number: int, found: float | None) -> str:
    if found is None:
        return "not compared, as one side does not tell"
    if math.isfinite(found):
        word = "same" if found <= TOLERANCE else "different"
        return f"{word}, by {found:.2g} of the feature's spread"
    if mine.image != other.image:
        return f"different, seen for images {_times(mine.image)} and {_times(other.image)}"
    sides = (side.levels.get(number) for side in (mine, other))
    return f"different, {' and '.join(_times(one.shape) if one else 'none' for one in sides)}"


def find_fingerprint(text: str, *, device: str = "cpu") -> Fingerprint:
    """Return the fingerprint that a text names or is.

    Args:
        text: the lines themselves; a file that holds them, such as a model card or what `--json`
            printed; or a file of weights. Files also as hf://ORG/NAME/FILE.
        device: where to compute, of weights.

    Raises:
        UserError: it is none of these.
    """
    if found := Fingerprint.parse(text):
        return found
    require("against", text.strip(), "a file, or whole lines", not text.startswith("fingerprint "))
    path = download(text) if is_hub_name(text) else Path(text)
    if path.is_file() and (found := Fingerprint.parse(_read_text(path))):
        return found
    return compute_fingerprint(load_weights(path), device=device)


def _read_text(path: Path) -> str:
    is_short = path.stat().st_size <= _MAX_TEXT
    return read_short_text(path, errors="replace") if is_short else ""


def _load_encoder(weights: EncoderWeights) -> tuple[nn.Module, tuple[str, ...]]:
    """The encoder of the file's spec with the file's tensors, and the names of those left over."""
    spec, path = weights.info.spec, weights.path
    with torch.random.fork_rng(devices=[]):
        encoder = build_encoder(spec, input_channels=weights.info.input_channels)
    own = encoder_tensors(encoder)
    for name, tensor in own.items():
        found = weights.tensors.get(name)
        if found is None or found.shape != tensor.shape:
            got = "none" if found is None else _times(found.shape)
            raise UserError(
                f"{path}: expected every tensor of {spec.name}, {_times(tensor.shape)} for {name}, "
                f"got {got}; download the file again"
            )
        tensor.data.copy_(found)
    return encoder.eval(), tuple(weights.tensors.keys() - own.keys())


@contextmanager
def _full_precision() -> Iterator[None]:
    """Without TF32, in which a GPU would differ from another machine by more than the tolerance."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _uniform(stream: tuple[int, ...], count: int) -> npt.NDArray[np.float64]:
    """Numbers in [0, 1) from PCG64's raw output, which NumPy keeps from version to version."""
    raw = np.random.PCG64([_SEED, *stream]).random_raw(count)
    return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _signs(stream: int, count: int) -> npt.NDArray[np.float64]:
    """-1 or 1, (NUM_PROJECTIONS, count)."""
    return np.stack(
        [np.where(_uniform((stream, k), count) < 0.5, -1.0, 1.0) for k in range(NUM_PROJECTIONS)]
    )


def _level(fields: Sequence[str]) -> LevelPrint:
    mean, sd, *projections = map(float, fields[1:])
    return LevelPrint(shape=_sizes(fields[0]), mean=mean, sd=sd, projections=tuple(projections))


def _fixed(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    return text if float(text) else text.removeprefix("-")


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(size) for size in text.split("x"))


def _times(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))
