"""Segment images with an exported nnU-Net model: onnxruntime, NumPy and SimpleITK, no PyTorch.

    python predict.py IMAGES_FOLDER -o FOLDER         CASE_0000.nii.gz, CASE_0001.nii.gz, ...
    python predict.py t1.nii.gz flair.nii.gz -o segmentation.nii.gz

This file stands beside `model.json` and the networks that it names, and needs nothing else of the
project that wrote it. From a program: `Model("FOLDER").predict(["t1.nii.gz", "flair.nii.gz"])`.

It computes what `nnUNetv2_predict` computes on a CPU: windows are added up in float16 in its order,
and logits are rounded to float16 where it does. Differs: a volume's logits never exist as a whole.
Windows are added up in a slab as thick as one of them. Its finished planes are resampled, class by
class, and only the label with the largest logit is kept. Images are resampled by matrices, one an
axis, in float32 instead of float64.

Axes of arrays: c x y z in the plan's order, which need not be the patient's.
"""

import argparse
import itertools
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import SimpleITK

Array = np.ndarray[Any, Any]
Progress = Callable[[int, int], None]  # windows done, of how many

_VOXELS_AT_ONCE = 2**23  # of labels that are made at once
_EDGE_VOXELS = 12  # by which SciPy prolongs an image before it finds a spline's coefficients


class InputError(ValueError):
    """What was expected of the images, and what was found, in one line."""


class Model:
    """An exported model, ready to segment."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        folds: Sequence[str] | None = None,
        threads: int = 0,
        providers: Sequence[str] | None = None,
    ) -> None:
        """Load the networks of a folder.

        Args:
            folder: with `model.json`.
            folds: those to average; None: all that were exported.
            threads: of onnxruntime; 0: a core each.
            providers: of onnxruntime; None: CUDA where it is there, else the CPU.

        Raises:
            InputError: a fold is not there.
        """
        folder = Path(folder)
        with (folder / "model.json").open(encoding="utf-8") as file:
            self.about = json.load(file)
        known = {one["fold"]: folder / one["file"] for one in self.about["networks"]}
        wanted = list(known) if folds is None else [str(fold) for fold in folds]
        if not wanted or set(wanted) - set(known):
            raise InputError(f"folds: expected some of {', '.join(known)}, got {', '.join(wanted)}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.enable_cpu_mem_arena = False  # what a window needs is given back after it
        if providers is None:
            both = ("CUDAExecutionProvider", "CPUExecutionProvider")
            providers = [one for one in both if one in onnxruntime.get_available_providers()]
        self.networks = [
            Network(onnxruntime.InferenceSession(known[one], options, providers=list(providers)))
            for one in wanted
        ]

    def predict(
        self,
        images: Sequence[str | os.PathLike[str]],
        *,
        use_mirroring: bool = True,
        step: float = 0.5,
        progress: Progress | None = None,
    ) -> SimpleITK.Image:
        """Segment one case.

        Args:
            images: a file a channel, in the order of `model.json`.
            use_mirroring: average over the flips that the training had; slower.
            step: from window to window, as a share of the window.
            progress: called after each window.

        Returns:
            The labels, on the grid of the first image.

        Raises:
            InputError: there are too few or too many images, or they lie on different grids.
        """
        case = read_case([str(path) for path in images], self.about)
        data, place = preprocess(case.data, case.spacing_mm, self.about)
        case.data = np.empty(0)
        sweep = Sweep(data, self.networks, self.about, use_mirroring=use_mirroring, step=step)
        labels = sweep.segment(place, progress or (lambda done, total: None))
        whole = np.zeros(place.shape, labels.dtype)
        whole[place.box] = labels
        return case.as_image(whole.transpose(self.about["transpose_backward"]))


class Network:
    """A network of fixed input size, from channels x y z to logits x y z."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.input = session.get_inputs()[0].name

    def __call__(self, image: Array, axes: Sequence[int]) -> Array:
        """Return the mean logits (heads, *patch) over the flips along `axes` of `image`."""
        flips = [c for n in range(len(axes) + 1) for c in itertools.combinations(axes, n)]
        total = self._run(image)
        for flip in flips[1:]:
            along = tuple(axis + 1 for axis in flip)
            total += np.flip(self._run(np.ascontiguousarray(np.flip(image, along))), along)
        if len(flips) > 1:
            total /= len(flips)
        return total

    def _run(self, image: Array) -> Array:
        logits: Array = self.session.run(None, {self.input: image[None]})[0][0]
        return logits


# --- files


@dataclass
class Case:
    """The images of a case, and where they lie."""

    data: Array  # c z y x, float32
    spacing_mm: tuple[float, ...]  # z y x
    reference: SimpleITK.Image  # of the grid alone
    orientation: str  # of the file, where the model sees images turned; else empty

    def as_image(self, labels: Array) -> SimpleITK.Image:
        """Return labels (z, y, x) on the grid of the file."""
        dtype = np.uint8 if labels.max(initial=0) < 255 else np.uint16
        plane = labels[0] if self.reference.GetDimension() == 2 else labels
        image = SimpleITK.GetImageFromArray(plane.astype(dtype, copy=False))
        image.SetSpacing(self.reference.GetSpacing())
        image.SetOrigin(self.reference.GetOrigin())
        image.SetDirection(self.reference.GetDirection())
        return SimpleITK.DICOMOrient(image, self.orientation) if self.orientation else image


def read_case(paths: Sequence[str], about: dict[str, Any]) -> Case:
    """Read a file a channel.

    Raises:
        InputError: their number is not the model's, or they lie on different grids.
    """
    names = list(about["channel_names"].values())
    if len(paths) != len(names):
        raise InputError(
            f"images: expected {len(names)} ({', '.join(names)}), got {len(paths)} "
            f"({', '.join(Path(path).name for path in paths)})"
        )
    images = [_read(path) for path in paths]
    first, orientation = images[0], ""
    for path, other in zip(paths, images, strict=True):
        if (other.GetSize(), other.GetSpacing()) != (first.GetSize(), first.GetSpacing()):
            raise InputError(
                f"{path}: expected the size and spacing of {paths[0]}, {first.GetSize()} voxels of "
                f"{first.GetSpacing()} mm, got {other.GetSize()} of {other.GetSpacing()}"
            )
    if about["reorient"]:
        code = SimpleITK.DICOMOrientImageFilter_GetOrientationFromDirectionCosines
        orientation = code(first.GetDirection())
        images = [SimpleITK.DICOMOrient(one, about["reorient"]) for one in images]
    arrays = [SimpleITK.GetArrayFromImage(one).astype(np.float32) for one in images]
    reference = images[0][(slice(0, 1),) * first.GetDimension()]  # keeps no voxels alive
    spacing = [abs(size) for size in images[0].GetSpacing()[::-1]]
    if len(spacing) == 2:  # nnU-Net's stand-in for the distance of slices that there are not
        arrays, spacing = [one[None] for one in arrays], [max(spacing) * 999, *spacing]
    return Case(np.stack(arrays), tuple(spacing), reference, orientation)


def _read(path: str) -> SimpleITK.Image:
    try:
        image = SimpleITK.ReadImage(path)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(
            f"{path}: expected an image, got none that can be read: {reason}"
        ) from None
    if image.GetDimension() > 3 or image.GetNumberOfComponentsPerPixel() > 1:
        raise InputError(f"{path}: expected one volume of one channel; split the file")
    return image


def write_image(image: SimpleITK.Image, path: str | os.PathLike[str]) -> None:
    """Write an image; until it is whole it stands beside under another name."""
    path = Path(path)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        SimpleITK.WriteImage(image, str(temporary), True)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


# --- from a file's voxels to what the network sees


@dataclass(frozen=True)
class Place:
    """Where the network's grid lies in the file's."""

    shape: tuple[int, ...]  # x y z of the file
    box: tuple[slice, ...]  # of it that is not empty
    cropped: tuple[int, ...]  # x y z of the box
    spacing_mm: tuple[float, ...]  # x y z, of the file
    network_mm: tuple[float, ...]  # x y z, of the network's grid


def preprocess(
    data: Array, spacing_mm: Sequence[float], about: dict[str, Any]
) -> tuple[Array, Place]:
    """Turn, crop, normalise and resample as nnU-Net's DefaultPreprocessor.

    Args:
        data: c z y x, float32; changed.
        spacing_mm: z y x.
        about: `model.json`.

    Returns:
        (c, x, y, z) float32, and where it lies.
    """
    order = about["transpose_forward"]
    data = data.transpose(0, *(axis + 1 for axis in order))
    spacing = tuple(spacing_mm[axis] for axis in order)
    mask = np.any(data != 0, axis=0)
    box = bounding_box(mask)
    shape, data = data.shape[1:], np.ascontiguousarray(data[(slice(None), *box)])
    inside = None
    if any(one["use_mask"] for one in about["normalization"]):
        inside = fill_holes(mask)[box]
    for channel, scheme in zip(data, about["normalization"], strict=True):
        normalize(channel, scheme, inside if scheme["use_mask"] else None)
    network_mm = tuple(about["spacing"])
    network_mm = spacing[: 3 - len(network_mm)] + network_mm  # 2D keeps the distance of slices
    place = Place(shape, box, data.shape[1:], spacing, network_mm)
    wanted = [
        round(old / new * size)
        for old, new, size in zip(spacing, network_mm, place.cropped, strict=True)
    ]
    rule = about["resampling"]["data"]
    return resample(data, wanted, separate_axis(rule, spacing, network_mm), rule), place


def bounding_box(mask: Array) -> tuple[slice, ...]:
    """Return the smallest box that holds all of a mask (x, y, z); of an empty one, all."""
    box = []
    for axis in range(3):
        (found,) = np.nonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        box.append(slice(found[0], found[-1] + 1) if found.size else slice(0, mask.shape[axis]))
    return tuple(box)


def fill_holes(mask: Array) -> Array:
    """Return a mask (x, y, z) and all from which no way over faces leads out of it."""
    outside = SimpleITK.GetImageFromArray((~np.pad(mask, 1)).astype(np.uint8))
    parts = SimpleITK.GetArrayFromImage(SimpleITK.ConnectedComponent(outside))
    return np.asarray(parts != parts[0, 0, 0])[1:-1, 1:-1, 1:-1]


def normalize(image: Array, scheme: dict[str, Any], inside: Array | None) -> None:
    """Normalise a channel (x, y, z) float32 in place, by one of nnU-Net's schemes.

    Args:
        image: the channel.
        scheme: its name, and for CT the statistics of the training data.
        inside: the voxels that count; None: all of them.

    Raises:
        InputError: the values are none of an RGB image where one is expected.
    """
    name, least = scheme["scheme"], 1e-8
    if name == "ZScoreNormalization":
        values = image if inside is None else image[inside]
        scaled = (values - values.mean()) / max(values.std(), least)
        image[... if inside is None else inside] = scaled
    elif name == "CTNormalization":
        np.clip(image, scheme["percentile_00_5"], scheme["percentile_99_5"], out=image)
        image -= scheme["mean"]
        image /= max(scheme["std"], least)
    elif name == "RescaleTo01Normalization":
        image -= image.min()
        image /= max(image.max(), least)
    elif name == "RGBTo01Normalization":
        if image.min() < 0 or image.max() > 255:
            raise InputError("images: expected RGB values from 0 to 255, got others")
        image /= 255.0
    elif name != "NoNormalization":
        raise InputError(f"model.json: expected a normalisation of nnU-Net's, got {name}")


# --- resampling: along each axis a matrix, or two neighbours with weights


def separate_axis(
    rule: dict[str, Any], current_mm: Sequence[float], new_mm: Sequence[float]
) -> int | None:
    """Return the axis between whose slices nothing is interpolated, None where there is none.

    It is the one axis that is so much coarser than the finest one, before or after.
    """
    if rule["force_separate_z"] is False:
        return None
    for spacing in (current_mm, new_mm):
        coarsest = [axis for axis, size in enumerate(spacing) if max(spacing) / size == 1]
        is_flat = max(spacing) / min(spacing) > rule["threshold"]
        if rule["force_separate_z"] or is_flat:
            return coarsest[0] if len(coarsest) == 1 else None
    return None


def resample(
    data: Array, shape: Sequence[int], separate: int | None, rule: dict[str, Any]
) -> Array:
    """Resample an image (c, x, y, z) to another number of voxels of the same field of view.

    Between slices along the axis `separate` the nearest one is taken. Values stay in the range of
    the image, or of the slice.
    """
    if rule["order"] is None or tuple(shape) == data.shape[1:]:
        return data
    within = tuple(axis + 1 for axis in range(3) if axis != separate)
    low, high = data.min(within, keepdims=True), data.max(within, keepdims=True)
    make: Callable[[int, int], Array] = spline_matrix if rule["order"] == 3 else linear_matrix
    for axis in sorted(within, key=lambda axis: shape[axis - 1] / data.shape[axis]):
        if shape[axis - 1] != data.shape[axis]:
            data = along(data, make(data.shape[axis], shape[axis - 1]), axis)
    np.clip(data, low, high, out=data)
    if separate is not None:
        data = data.take(nearest(data.shape[separate + 1], shape[separate]), separate + 1)
    return data


def along(data: Array, matrix: Array, axis: int) -> Array:
    """Multiply a contiguous array along one axis by a matrix (new, old)."""
    *before, old = data.shape[: axis + 1]
    after = data.shape[axis + 1 :]
    if not after:
        return data @ matrix.T
    product = matrix @ data.reshape(-1, old, int(np.prod(after)))
    return product.reshape(*before, len(matrix), *after)


def positions(old: int, new: int) -> Array:
    """Return where the centres of `new` voxels lie among those of `old` ones."""
    return old / new * (np.arange(new) + 0.5) - 0.5


def nearest(old: int, new: int) -> Array:
    """Return the index of the nearest old voxel for each new one; of two, the later."""
    return np.clip(np.floor(positions(old, new) + 0.5).astype(int), 0, old - 1)


def neighbours(old: int, new: int) -> tuple[Array, Array, Array]:
    """Return for each new voxel the old ones before and behind it, and the weight of the latter."""
    where = np.clip(positions(old, new), 0, old - 1)
    before = np.floor(where).astype(int)
    return before, np.minimum(before + 1, old - 1), (where - before).astype(np.float32)


def linear_matrix(old: int, new: int) -> Array:
    """Return the matrix (new, old) of linear interpolation, constant beyond the edge."""
    before, behind, weight = neighbours(old, new)
    matrix = np.zeros((new, old), np.float32)
    rows = np.arange(new)
    np.add.at(matrix, (rows, before), 1 - weight)
    np.add.at(matrix, (rows, behind), weight)
    return matrix


@cache
def spline_matrix(old: int, new: int) -> Array:
    """Return the matrix (new, old) of interpolation by cubic splines.

    The image is prolonged by its edge before the coefficients are found, as SciPy's `zoom` with
    mode "nearest" does. A spline's value at a whole position is (1 4 1) / 6 of its coefficients.
    """
    length = old + 2 * _EDGE_VOXELS
    system = (4 * np.eye(length) + np.eye(length, k=1) + np.eye(length, k=-1)) / 6
    system[0, 1] = system[-1, -2] = 2 / 6
    source = np.clip(np.arange(length) - _EDGE_VOXELS, 0, old - 1)
    coefficients = np.linalg.solve(system, np.eye(old)[source])
    where = positions(old, new) + _EDGE_VOXELS
    first = np.floor(where).astype(int)
    t = where - first
    weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 3 * (1 - t) ** 3 - 6 * (1 - t) ** 2 + 4, t**3)
    matrix = sum(
        weight[:, None] / 6 * coefficients[first + offset - 1]
        for offset, weight in enumerate(weights)
    )
    return np.asarray(matrix, np.float32)


# --- the sliding window


def window_starts(size: int, window: int, step: float) -> list[int]:
    """Return where windows begin along an axis, evenly spread, at most `step` windows apart."""
    last = size - window
    number = int(np.ceil(last / (window * step))) + 1
    return [int(np.round(last / max(number - 1, 1) * i)) for i in range(number)]


def gaussian_weights(window: Sequence[int]) -> Array:
    """Return nnU-Net's weights of a window (x, y, z), float16, 10 at the centre, nowhere zero."""
    weights = np.ones(())
    for size in window:
        sigma = size / 8
        radius = int(4 * sigma + 0.5)
        kernel = np.exp(-0.5 / sigma**2 * np.arange(-radius, radius + 1) ** 2)
        kernel = np.pad(kernel / kernel.sum(), size)  # zeros where it is cut off
        start = len(kernel) // 2 - size // 2
        weights = weights[..., None] * kernel[start : start + size]
    rounded = (weights / (weights.max() / 10)).astype(np.float16)
    rounded[rounded == 0] = rounded[rounded != 0].min()
    return rounded


class Sweep:
    """Networks that go over an image window by window, and leave labels behind."""

    def __init__(
        self,
        data: Array,
        networks: Sequence[Network],
        about: dict[str, Any],
        *,
        use_mirroring: bool,
        step: float,
    ) -> None:
        """Pad an image (c, x, y, z) to a window at least, and make room for a slab."""
        patch = about["patch_size"]
        self.is_2d = len(patch) == 2
        self.window = (1,) * (3 - len(patch)) + tuple(patch)
        self.networks, self.about, self.size = networks, about, data.shape[1:]
        missing = [max(w - s, 0) for w, s in zip(self.window, self.size, strict=True)]
        self.below = [m // 2 for m in missing]
        edges = [(b, m - b) for b, m in zip(self.below, missing, strict=True)]
        self.data = np.pad(data, [(0, 0), *edges]) if any(missing) else data
        padded = self.data.shape[1:]
        self.axes = about["mirror_axes"] or [] if use_mirroring else []
        self.starts = [window_starts(s, w, step) for s, w in zip(padded, self.window, strict=True)]
        if self.is_2d:
            self.starts[0] = list(range(padded[0]))
        self.weights = gaussian_weights(self.window)
        # one plane more than a window has: the last finished one waits for its neighbour
        slab = (min(self.window[0] + 1, padded[0]), *padded[1:])
        self.sums = [np.zeros((about["num_outputs"], *slab), np.float16) for _ in networks]
        self.norm = np.zeros(slab, np.float16)
        self.base = 0  # the plane of the image that is the slab's first

    def segment(self, place: Place, progress: Progress) -> Array:
        """Return labels (x, y, z) on the cropped grid of the file."""
        painter = Painter(self.size, place, self.about)
        rows = list(itertools.product(self.starts[1], self.starts[2]))
        total, done = len(self.starts[0]) * len(rows) * len(self.networks), 0
        for row, x in enumerate(self.starts[0]):
            for network, sums in zip(self.networks, self.sums, strict=True):
                for y, z in rows:
                    self._add(network, sums, (x, y, z), counts=sums is self.sums[0])
                    done += 1
                    progress(done, total)
            finished = (*self.starts[0], self.data.shape[1])[row + 1] - self.below[0]
            needed = painter.paint(self._planes, min(finished, self.size[0]))
            self._move_to(needed + self.below[0])
        return painter.labels

    def _add(
        self, network: Network, sums: Array, corner: tuple[int, int, int], *, counts: bool
    ) -> None:
        x, y, z = (slice(a, a + w) for a, w in zip(corner, self.window, strict=True))
        image = np.ascontiguousarray(self.data[:, x, y, z])
        logits = (
            network(image[:, 0], self.axes)[:, None] if self.is_2d else network(image, self.axes)
        )
        logits *= self.weights
        x = slice(x.start - self.base, x.stop - self.base)
        for total, one in zip(sums, logits, strict=True):
            total[x, y, z] += one
        if counts:
            self.norm[x, y, z] += self.weights

    def _planes(self, head: int, first: int, stop: int) -> Array:
        """Return finished logits (x, y, z) float16 of planes, the mean over the networks."""
        y, z = (slice(b, b + s) for b, s in zip(self.below[1:], self.size[1:], strict=True))
        x = slice(first + self.below[0] - self.base, stop + self.below[0] - self.base)
        norm = self.norm[x, y, z]
        total = self.sums[0][head, x, y, z] / norm
        for sums in self.sums[1:]:
            total += sums[head, x, y, z] / norm
        if len(self.sums) > 1:
            total /= len(self.sums)
        if not np.isfinite(total).all():
            raise InputError("images: expected finite logits, got some beyond float16's range")
        return total

    def _move_to(self, base: int) -> None:
        """Let the slab begin at another plane; what lies before it is forgotten."""
        gone = min(base - self.base, len(self.norm))
        for one in itertools.chain([self.norm], *self.sums):  # class by class: no large copies
            one[: len(one) - gone] = one[gone:].copy()
            one[len(one) - gone :] = 0
        self.base = base


class Painter:
    """Labels of the file's grid, made plane by plane from logits on the network's grid."""

    def __init__(self, size: Sequence[int], place: Place, about: dict[str, Any]) -> None:
        """Say where each plane of the file's grid lies between those of the network's."""
        rule, shape = about["resampling"]["logits"], place.cropped
        is_same = rule["order"] is None or tuple(size) == tuple(shape)
        separate = separate_axis(rule, place.network_mm, place.spacing_mm)
        self.taps: list[tuple[Array, Array, Array | None]] = [
            (nearest(old, new), nearest(old, new), None)
            if is_same or axis == separate
            else neighbours(old, new)
            for axis, (old, new) in enumerate(zip(size, shape, strict=True))
        ]
        self.is_rounded = rule["rounds"]
        self.order = about["regions_class_order"]
        self.num_heads = about["num_outputs"]
        highest = max(self.order or [self.num_heads - 1])
        self.labels = np.zeros(shape, np.uint8 if highest < 255 else np.uint16)
        self.next = 0  # the plane that is to be painted

    def paint(self, planes: Callable[[int, int, int], Array], stop: int) -> int:
        """Paint what follows from the planes before `stop`; return the first still needed."""
        before, behind, _ = self.taps[0]
        num_ready = int(np.searchsorted(behind, stop))
        at_once = max(1, _VOXELS_AT_ONCE // max(self.labels[0].size, 1))
        for first in range(self.next, num_ready, at_once):
            self._paint(planes, slice(first, min(first + at_once, num_ready)))
        self.next = max(self.next, num_ready)
        return min(int(before[self.next]), stop) if self.next < len(before) else stop

    def _paint(self, planes: Callable[[int, int, int], Array], rows: slice) -> None:
        labels, best = self.labels[rows], None
        for head in range(self.num_heads):
            logits = self._resample(planes, head, rows)
            if self.order:  # regions, which may overlap: the later one wins
                labels[logits > 0] = self.order[head]
            elif best is None:
                best = logits
            else:  # of equal ones the first wins
                is_higher = logits > best
                labels[is_higher] = head
                np.copyto(best, logits, where=is_higher)

    def _resample(self, planes: Callable[[int, int, int], Array], head: int, rows: slice) -> Array:
        before, behind, weight = self.taps[0]
        first, last = int(before[rows.start]), int(behind[rows.stop - 1])
        logits = planes(head, first, last + 1).astype(np.float32)
        own = (before[rows] - first, behind[rows] - first, None if weight is None else weight[rows])
        for axis, taps in ((1, self.taps[1]), (2, self.taps[2]), (0, own)):
            logits = _interpolate(logits, taps, axis)
        return logits.astype(np.float16).astype(np.float32) if self.is_rounded else logits


def _interpolate(data: Array, taps: tuple[Array, Array, Array | None], axis: int) -> Array:
    before, behind, weight = taps
    if weight is None:
        is_same = (
            len(before) == data.shape[axis] and before[0] == 0 and (np.diff(before) == 1).all()
        )
        return data if is_same else data.take(before, axis)
    shares = weight.reshape([-1 if one == axis else 1 for one in range(3)])
    low = data.take(before, axis)
    high = data.take(behind, axis)
    high -= low
    high *= shares
    low += high
    return low


# --- the command


def find_cases(folder: Path, about: dict[str, Any]) -> dict[str, list[Path]]:
    """Return the files of each case of a folder, in the order of their channels.

    Raises:
        InputError: there are none.
    """
    ending = about["file_ending"]
    names = {path.name.removesuffix(ending) for path in folder.glob(f"*{ending}")}
    cases: dict[str, list[Path]] = {}
    for name in sorted(names):
        stem, _, channel = name.rpartition("_")
        if stem and len(channel) == 4 and channel.isdigit():
            cases.setdefault(stem, []).append(folder / f"{name}{ending}")
    if not cases:
        raise InputError(f"{folder}: expected files such as CASE_0000{ending}, got none")
    return cases


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Segment images with the model of this folder.")
    parser.add_argument("images", nargs="+", help="a folder, or a file for each channel")
    parser.add_argument("-o", "--output", required=True, help="a folder, or a file")
    parser.add_argument("--model", default=str(Path(__file__).parent), help="folder of model.json")
    parser.add_argument("--folds", nargs="+", help="those to average; without: all")
    parser.add_argument("--no-mirroring", action="store_true", help="faster, a little less sure")
    parser.add_argument("--step", type=float, default=0.5, help="from window to window (0.5)")
    parser.add_argument("--threads", type=int, default=0, help="without: one a core")
    parser.add_argument("--provider", action="append", help="of onnxruntime, in this order")
    parser.add_argument(
        "--continue", dest="goes_on", action="store_true", help="leave what is there"
    )
    return parser.parse_args(arguments)


def _progress(name: str) -> Progress:
    def show(done: int, total: int) -> None:
        if sys.stderr.isatty() or done == total:
            start = "\r" if sys.stderr.isatty() else ""
            end = "\n" if done == total else ""
            print(f"{start}{name}: window {done} of {total}", end=end, file=sys.stderr, flush=True)

    return show


def run(options: argparse.Namespace) -> None:
    """Segment what the command line names.

    Raises:
        InputError: it names nothing that can be segmented.
    """
    if not 0 < options.step <= 1:
        raise InputError(f"--step: expected above 0 and at most 1, got {options.step}")
    model = Model(
        options.model, folds=options.folds, threads=options.threads, providers=options.provider
    )
    folder, output = Path(options.images[0]), Path(options.output)
    if folder.is_dir():
        cases = find_cases(folder, model.about)
        output.mkdir(parents=True, exist_ok=True)
        targets = {name: output / f"{name}{model.about['file_ending']}" for name in cases}
    else:
        cases = {output.name: [Path(path) for path in options.images]}
        targets = {output.name: output}
    for number, (name, paths) in enumerate(cases.items(), 1):
        if options.goes_on and targets[name].is_file():
            continue
        labels = model.predict(
            [str(path) for path in paths],
            use_mirroring=not options.no_mirroring,
            step=options.step,
            progress=_progress(f"{number}/{len(cases)} {name}"),
        )
        write_image(labels, targets[name])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; a mistake gives one line and exit code 2."""
    try:
        run(_parse(arguments))
    except (InputError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
