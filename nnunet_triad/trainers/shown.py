"""What nnU-Net shows a network: the axes of its arrays, and the scale of their values."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import load_pickle
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

from nnunet_triad.images.intensity import UNKNOWN, ZSCORE, Intensity, Scale, statistics_of
from nnunet_triad.images.orientation import axes_of, degrees_off
from nnunet_triad.weights.transfer import Shown

_READER_AXES = "zyx"  # of nnU-Net's arrays of an axial image, before the plan transposes them
_MAX_DEGREES = 5  # off its patient axis, at which an image is called oblique
_NUM_MEASURED = 8  # cases whose values are looked at


@dataclass(frozen=True, kw_only=True)
class Axes:
    """The patient axes that a plan's arrays run along, and how sure that is."""

    word: str  # such as zyx
    counts: Mapping[str, int]  # words -> cases that have them
    num_untold: int = 0  # cases whose properties do not say, or are not there
    num_oblique: int = 0

    def describe(self) -> str:
        """Return where it is known from."""
        if not self.counts:
            return f"no case says its directions, nnU-Net's {self.word} is taken"
        text = f"{self.word} in {self.counts[self.word]} cases"
        others = [f"{word} in {n}" for word, n in self.counts.items() if word != self.word]
        if others:
            text += f"; {', '.join(others)}, which the weights see turned"
        if self.num_oblique:
            text += f"; oblique (nearest axes taken): {self.num_oblique}"
        if self.num_untold:
            text += f"; not said: {self.num_untold}"
        return text


def axes_of_plan(
    folder: Path, identifiers: Iterable[str], transpose_forward: Iterable[int]
) -> Axes:
    """Tell the axes of a plan's arrays from the directions of its cases, by majority.

    Args:
        folder: the preprocessed cases, with nnU-Net's properties of each.
        identifiers: of the cases.
        transpose_forward: of the plan.
    """
    order = tuple(transpose_forward)
    found: Counter[str] = Counter()
    num_untold = num_oblique = 0
    for identifier in identifiers:
        directions = _directions(folder / f"{identifier}.pkl")
        if directions is None:
            num_untold += 1
            continue
        read = axes_of(directions)[::-1]  # the readers give the last axis of a file first
        found["".join(read[axis] for axis in order)] += 1
        num_oblique += degrees_off(directions) > _MAX_DEGREES
    fallback = "".join(_READER_AXES[axis] for axis in order)
    word = found.most_common(1)[0][0] if found else fallback
    return Axes(word=word, counts=dict(found), num_untold=num_untold, num_oblique=num_oblique)


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


def scale_of(scheme: str, channel: Mapping[str, float] | None) -> Intensity:
    """Return the scale that a normalisation of nnU-Net's gives.

    Args:
        scheme: the name of its class.
        channel: the channel's `foreground_intensity_properties`, None where not known.
    """
    if scheme == "ZScoreNormalization":
        return ZSCORE
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
    schemes = configuration.normalization_schemes
    scales = tuple(scale_of(name, channels.get(str(c))) for c, name in enumerate(schemes))
    statistics: tuple[Any, ...] = ()
    if cases and identifiers and any(scale != seen for scale in scales):
        chosen = identifiers[:: max(1, len(identifiers) // _NUM_MEASURED)][:_NUM_MEASURED]
        reader = cases(str(folder), chosen)
        images = [np.asarray(reader.load_case(identifier)[0][:]) for identifier in chosen]
        statistics = tuple(
            statistics_of(image[channel] for image in images) for channel in range(len(schemes))
        )
    return Shown(
        axes=axes.word,
        about_axes=axes.describe(),
        intensity=scales,
        statistics=statistics,
        maps_intensity=maps_intensity,
    )
