"""What nnU-Net shows a network: the axes of its arrays, and the scale of their values."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import load_pickle
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

from nnunet_triad.images.intensity import (
    MASKED_ZSCORE,
    UNKNOWN,
    ZSCORE,
    Intensity,
    Scale,
    statistics_of,
)
from nnunet_triad.images.orientation import axes_of, degrees_off
from nnunet_triad.weights.transfer import Shown

_READER_AXES = "zyx"  # of nnU-Net's arrays of an axial image, before the plan transposes them
_MAX_DEGREES = 5  # off its patient axis, at which an image is called oblique
_NUM_TOLD = 200  # cases at most whose directions are looked at: nnU-Net's properties are megabytes
_NUM_MEASURED = 8  # cases whose values are looked at


@dataclass(frozen=True, kw_only=True)
class Axes:
    """The patient axes that a plan's arrays run along, and how sure that is."""

    word: str  # such as zyx
    counts: Mapping[str, int]  # words -> cases that have them
    num_untold: int = 0  # cases whose properties do not say, or are not there
    num_oblique: int = 0
    num_cases: int = 0  # that there are; of many not all are looked at

    def describe(self) -> str:
        """Return where it is known from."""
        if not self.counts:
            return f"no case says its directions, nnU-Net's {self.word} is taken"
        text = f"{self.word} in {self.counts[self.word]} cases"
        others = [f"{word} in {n}" for word, n in self.counts.items() if word != self.word]
        if others:
            text += f"; {', '.join(others)}, which the weights see with their axes exchanged"
        if self.num_oblique:
            text += f"; oblique (nearest axes taken): {self.num_oblique}"
        if self.num_untold:
            text += f"; not said: {self.num_untold}"
        num_seen = self.num_untold + sum(self.counts.values())
        if num_seen < self.num_cases:
            text += f"; looked at: {num_seen} of {self.num_cases}"
        return text


def axes_of_plan(
    folder: Path, identifiers: Sequence[str], transpose_forward: Iterable[int]
) -> Axes:
    """Tell the axes of a plan's arrays from the directions of its cases, by majority.

    Args:
        folder: the preprocessed cases, with nnU-Net's properties of each.
        identifiers: of the cases; of more than 200, that many are looked at, evenly spread.
        transpose_forward: of the plan.
    """
    order = tuple(transpose_forward)
    found: Counter[str] = Counter()
    num_untold = num_oblique = 0
    for identifier in _spread(identifiers, _NUM_TOLD):
        directions = _directions(folder / f"{identifier}.pkl")
        if directions is None:
            num_untold += 1
            continue
        read = axes_of(directions)[::-1]  # the readers give the last axis of a file first
        found["".join(read[axis] for axis in order)] += 1
        num_oblique += degrees_off(directions) > _MAX_DEGREES
    fallback = "".join(_READER_AXES[axis] for axis in order)
    word = found.most_common(1)[0][0] if found else fallback
    return Axes(
        word=word,
        counts=dict(found),
        num_untold=num_untold,
        num_oblique=num_oblique,
        num_cases=len(identifiers),
    )


def _spread(identifiers: Sequence[str], number: int) -> list[str]:
    """That many of them at most, evenly spread."""
    step = max(1, -(-len(identifiers) // number))
    return list(identifiers[::step])


def _directions(path: Path) -> np.ndarray | None:
    """(3, 3): column i is the direction of index axis i, None where a case does not say."""
    try:
        properties = load_pickle(str(path))  # nnU-Net's own file, which its loader reads as well
        if "sitk_stuff" in properties:
            matrix = np.asarray(properties["sitk_stuff"]["direction"], float).reshape(3, 3)
        else:
            affines = properties["nibabel_stuff"]
            affine = affines.get("reoriented_affine", affines["original_affine"])
            matrix = np.asarray(affine, float)[:3, :3]
    except Exception:  # gone, damaged, of another reader or 2D: the case does not say
        return None
    return matrix if np.isfinite(matrix).all() and np.linalg.det(matrix) else None


def scale_of(
    scheme: str, channel: Mapping[str, float] | None, *, is_masked: bool = False
) -> Intensity:
    """Return the scale that a normalisation of nnU-Net's gives.

    Args:
        scheme: the name of its class.
        channel: the channel's `foreground_intensity_properties`, None where not known.
        is_masked: the plan's `use_mask_for_norm`.
    """
    if scheme == "ZScoreNormalization":
        return MASKED_ZSCORE if is_masked else ZSCORE
    if scheme == "RescaleTo01Normalization":
        return Intensity(Scale.PERCENTILES, 0, 100)
    if scheme == "CTNormalization" and channel:
        return Intensity(Scale.STANDARDISED, channel["mean"], channel["std"])
    return UNKNOWN


def shown_by_plan(
    plans: Any, configuration: Any, folder: Path, *, seen: Intensity, maps_intensity: bool
) -> Shown:
    """Return what a training shows its network.

    Args:
        plans: nnU-Net's PlansManager.
        configuration: nnU-Net's ConfigurationManager.
        folder: the preprocessed cases of the configuration.
        seen: the scale that the weights saw; where it is another one than here, values are looked
            at in a few cases.
        maps_intensity: whether another scale is made good.
    """
    try:
        cases = infer_dataset_class(str(folder))
        identifiers = sorted(cases.get_identifiers(str(folder)))
    except (AssertionError, IndexError, KeyError, OSError):  # nothing is preprocessed here
        cases, identifiers = None, []
    axes = axes_of_plan(folder, identifiers, plans.transpose_forward)
    channels = plans.plans.get("foreground_intensity_properties_per_channel", {})
    schemes = zip(configuration.normalization_schemes, configuration.use_mask_for_norm, strict=True)
    scales = tuple(
        scale_of(name, channels.get(str(c)), is_masked=bool(is_masked))
        for c, (name, is_masked) in enumerate(schemes)
    )
    statistics: tuple[Any, ...] = ()
    is_measured = seen.scale in (Scale.ZSCORE, Scale.PERCENTILES)  # the others need no statistics
    whole = [case for case in identifiers if (folder / f"{case}.pkl").is_file()]
    if cases and whole and is_measured and any(scale != seen for scale in scales):
        chosen = _spread(whole, _NUM_MEASURED)
        reader = cases(str(folder), chosen)
        statistics = tuple(
            statistics_of(_values(reader, identifier, c, scale) for identifier in chosen)
            for c, scale in enumerate(scales)
        )
    return Shown(
        axes=axes.word,
        about_axes=axes.describe(),
        intensity=scales,
        statistics=statistics,
        maps_intensity=maps_intensity,
    )


def _values(reader: Any, identifier: str, channel: int, scale: Intensity) -> np.ndarray:
    """One channel of one case, as whole bodies are large; within nnU-Net's mask if it has one."""
    values = np.asarray(reader.load_case(identifier)[0][channel])
    inside = values[values != 0] if scale == MASKED_ZSCORE else values
    return inside if inside.size else values
