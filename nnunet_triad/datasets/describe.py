"""A description of a dataset of one's own, guessed from its files, for its owner to edit.

Three ways to lay out labelled images are known: two folders (images, labels), one folder with files
`NAME` and `NAME_seg`, and a folder a case. The guess is written as TOML and read back.
"""

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_triad.datasets.layouts.checks import all_files, join_some
from nnunet_triad.errors import UserError
from nnunet_triad.images.labels import read_labels
from nnunet_triad.texts import read_json

_WORDS = "segmentations?|segs?|labels?|masks?|gt|annotations?"
_LABEL_FOLDER = re.compile(rf"({_WORDS})(tr)?", re.IGNORECASE)
_LABEL_FILE = re.compile(rf"(?P<case>.*?)(?P<ending>[-_.]?({_WORDS}))", re.IGNORECASE)
_NIFTI = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
_TEST_FOLDER = re.compile(r"(images|labels)ts", re.IGNORECASE)
_MOST_VALUES = 100  # more are an image, not a label


@dataclass(frozen=True, kw_only=True)
class Guess:
    """What the files of a folder seem to be.

    Attributes:
        images: a pattern a channel, of `PatternLayout`.
        label: the label's pattern.
        case: the regular expression of a case's name.
        labels: label file of each case.
    """

    images: tuple[str, ...]
    label: str
    case: str
    labels: dict[str, Path]


def guess_layout(source: Path) -> Guess:
    """Tell images from labels below a folder, and which belong together.

    Raises:
        UserError: no labels are found, a label has no image, or cases differ in their images.
    """
    files = [
        path
        for path in all_files(source)
        if _NIFTI.search(path.name) and not _TEST_FOLDER.fullmatch(path.parent.name)
    ]
    labels = {path: found for path in files if (found := _read_name(path, source))}
    if not labels:
        raise UserError(
            f"{source}: expected labels beside the images, as labels/NAME.nii.gz, NAME_seg.nii.gz "
            f"or CASE/seg.nii.gz, got "
            f"{join_some(path.relative_to(source).as_posix() for path in files) or 'no NIfTI'}"
        )
    images = [path for path in files if path not in labels]
    parts: dict[tuple[str, ...], list[str]] = defaultdict(list)
    patterns = set()
    for path, (case, pattern) in labels.items():
        parts[_images_of(case, path, pattern, images, source)].append(case)
        patterns.add(pattern)
    _refuse_mixture(source, parts, patterns)
    (patterns_of_images,) = parts
    (label,) = patterns
    ending = label.removeprefix("{}")
    is_beside = "{}" in patterns_of_images and label.startswith("{}") and ending
    return Guess(
        images=patterns_of_images,
        label=label,
        case=rf"[^/]+(?<!{re.escape(ending)})" if is_beside else "[^/]+",
        labels={case: path for path, (case, _) in labels.items()},
    )


def _read_name(path: Path, source: Path) -> tuple[str, str] | None:
    """Return the case and the pattern of a label file, None of another one."""
    stem = _NIFTI.sub("", path.name)
    folder = path.parent.name if path.parent != source else ""
    match = _LABEL_FILE.fullmatch(stem)
    if _LABEL_FOLDER.fullmatch(folder):
        ending = match["ending"] if match and match["case"] else ""
        return stem.removesuffix(ending), f"{folder}/{{}}{ending}"
    if match and match["case"]:
        return match["case"], f"{{}}{match['ending']}"
    return (folder, f"{{}}/{stem}") if match and folder else None


def _images_of(
    case: str, label: Path, pattern: str, images: Sequence[Path], source: Path
) -> tuple[str, ...]:
    """Return the patterns of a case's images, in order."""
    found = set()
    for path in images:
        stem = _NIFTI.sub("", path.name)
        if pattern.startswith("{}/"):  # a folder a case
            if path.parent == label.parent:
                found.add(f"{{}}/{stem.replace(case, '{}')}")
        elif stem == case or re.fullmatch(rf"{re.escape(case)}[-_.][^/]*", stem):
            is_beside = path.parent == label.parent
            is_sibling = path.parent.parent == label.parent.parent and path.parent != source
            if is_beside or is_sibling:
                before = "" if is_beside else f"{path.parent.name}/"
                found.add(f"{before}{{}}{stem.removeprefix(case)}")
    if not found:
        raise UserError(f"{label}: expected an image of {case}, got none; move the label elsewhere")
    return tuple(sorted(found))


def _refuse_mixture(
    source: Path, parts: dict[tuple[str, ...], list[str]], patterns: set[str]
) -> None:
    if len(parts) > 1:
        usual = max(parts, key=lambda images: len(parts[images]))
        other = next(images for images in parts if images != usual)
        raise UserError(
            f"{source}: expected the same images of each case, got {', '.join(usual)} of "
            f"{len(parts[usual])} cases, and {', '.join(other)} of {join_some(parts[other])}"
        )
    if len(patterns) > 1:
        raise UserError(
            f"{source}: expected labels that are named alike, got {', '.join(sorted(patterns))}"
        )


def read_values(labels: dict[str, Path]) -> list[int]:
    """Return the values that occur in label files, in order.

    Raises:
        UserError: one cannot be read, is no label, or there is nothing but one value.
    """
    from tqdm import tqdm

    values: set[int] = set()
    for path in tqdm(labels.values(), desc="labels", unit="file", mininterval=1, disable=None):
        values |= set(np.unique(read_labels(path).voxels).tolist())
        if len(values) > _MOST_VALUES:
            raise UserError(
                f"{path}: expected a label of at most {_MOST_VALUES} values, got more; is it an "
                "image?"
            )
    if len(values) < 2:
        raise UserError(f"labels: expected a background and something else, got {values}")
    return sorted(values | {0})


def describe(source: Path, *, number: int, name: str, modality: str) -> tuple[str, Guess]:
    """Return a description of a dataset in TOML, and what it was made of.

    Names of labels are made up, but where SOURCE has a dataset.json of nnU-Net or the decathlon.

    Args:
        source: folder of images and labels.
        number: the dataset's id in nnU-Net.
        name: the dataset's.
        modality: MRI or CT.

    Raises:
        UserError: as `guess_layout` and `read_values`.
    """
    guess = guess_layout(source)
    values = read_values(guess.labels)
    named = _read_names(source)
    names = {
        value: named.get(value, f"label_{value}" if value else "background") for value in values
    }
    channels = [_channel(pattern, modality, len(guess.images)) for pattern in guess.images]
    lines = [
        f"# Guessed from the files of {source.name}: give labels and channels their names.",
        f"id = {number}",
        f"name = {json.dumps(name)}",
        f"modality = {json.dumps(modality)}",
        f"channels = {json.dumps(channels)}  # in this order: {', '.join(guess.images)}",
        f"num_cases = {len(guess.labels)}",
        "",
        "[labels]",
        *(f"{json.dumps(names[value])} = {place}" for place, value in enumerate(values)),
        "",
    ]
    if values != list(range(len(values))):
        lines += ["[source_values]  # value in the files = value in nnU-Net"]
        lines += [*(f"{value} = {place}" for place, value in enumerate(values)), ""]
    lines += [
        "[layout]",
        'kind = "pattern"',
        f"case = '{guess.case}'",
        f"images = {json.dumps(list(guess.images))}",
        f"label = {json.dumps(guess.label)}",
    ]
    return "\n".join(lines) + "\n", guess


def _channel(pattern: str, modality: str, num_channels: int) -> str:
    if num_channels == 1 or modality == "CT":
        return modality
    return pattern.rsplit("/", 1)[-1].replace("{}", "").strip("-_.") or modality


def _read_names(source: Path) -> dict[int, str]:
    """Return names of labels by value, of nnU-Net's dataset.json or the decathlon's, if there."""
    try:
        labels = read_json(source / "dataset.json")["labels"]
        pairs = [(v, k) if isinstance(v, int) else (int(k), v) for k, v in labels.items()]
        return {value: str(name) for value, name in pairs}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
