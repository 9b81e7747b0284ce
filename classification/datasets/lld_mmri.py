"""LLD-MMRI: liver lesions in eight phases, seven classes, split 316/78/104.

Layout: `images/CASE/STUDY/SERIES.nii.gz` and `labels/Annotation.json`, which for each series of a
case has its phase and the lesion's category and 3D box;
`classification_dataset/images/CASE/PHASE.nii.gz` holds the authors' crops, and
`classification_dataset/labels/labels_{train,val,test}.txt` a line `CASE NUMBER` each.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from classification.datasets.table import Row
from classification.preprocess import read_image
from classification.settings import PrepareOptions
from classification.splits import split_subjects
from nnunet_triad.errors import UserError
from nnunet_triad.images import write_volume
from nnunet_triad.texts import read_json, read_short_text

# Table 2 of the paper: name, and the category in the annotation file.
CLASSES = ("HCC", "ICC", "HM", "HC", "HH", "FNH", "HA")
_CATEGORIES = {
    "hepatocellular_carcinoma": 0,
    "intrahepatic_cholangiocarcinoma": 1,
    "hepatic_metastasis": 2,
    "hepatic_cyst": 3,
    "hepatic_hemangioma": 4,
    "focal_nodular_hyperplasia": 5,
    "hepatic_abscess": 6,
}
# The label files' own numbers: hemangioma, ICC, abscess, metastasis, cyst, FNH, HCC.
_FROM_PUBLISHED = (4, 1, 6, 2, 3, 5, 0)
PHASES = ("T2WI", "DWI", "In Phase", "Out Phase", "C-pre", "C+A", "C+V", "C+Delay")
_MARGINS = (16, 16, 2)  # voxels around the box, as the authors' crops
_SHARES = (316 / 498, 78 / 498)
_ANNOTATION = Path("labels") / "Annotation.json"


def rows(source: Path, output: Path, options: PrepareOptions) -> Iterator[Row]:
    """Yield a row a case: the authors' crops, else crops by the annotation's boxes."""
    phases = options.sequences or PHASES
    annotation = read_annotation(source)
    listed = _listed(source)
    with _explained(source):
        labels = annotation_labels(annotation)
    labels |= {case: label for case, (label, _) in listed.items()}
    splits = {case: split for case, (_, split) in listed.items()}
    if not splits:
        splits = split_subjects(labels, _SHARES, seed=options.seed)
    if not labels:
        raise UserError(f"{source}: expected labels/Annotation.json or label files, got neither")
    for case in sorted(set(labels) & set(splits)):
        yield Row(
            images=tuple(
                _channel(source, output, annotation.get(case, []), case, phase) for phase in phases
            ),
            label=labels[case],
            label_name=CLASSES[labels[case]],
            split=splits[case],
            subject=case,
        )


def read_annotation(source: Path) -> dict[str, list[dict[str, Any]]]:
    """Return case -> its series; empty without the file."""
    path = source / _ANNOTATION
    if not path.is_file():
        return {}
    try:
        content = read_json(path)
        return dict(content["Annotation_info"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: expected JSON with Annotation_info, got {error}") from None


@contextlib.contextmanager
def _explained(source: Path) -> Iterator[None]:
    """Turn what an entry of the annotation lacks into one line."""
    try:
        yield
    except UserError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{source / _ANNOTATION}: expected a phase, studyUID, seriesUID, and a lesion with "
            f"category and 3D_box of each series, got an entry without ({error!r})"
        ) from None


def annotation_labels(annotation: Mapping[str, list[dict[str, Any]]]) -> dict[str, int]:
    """Return case -> class of its first lesion; cases whose category is withheld are left out."""
    labels = {}
    for case, series in annotation.items():
        category = str(_lesion(series[0])["category"]).lower()
        if category in _CATEGORIES:
            labels[case] = _CATEGORIES[category]
    return labels


def _listed(source: Path) -> dict[str, tuple[int, str]]:
    """Return case -> (class, split) of the label files; cases with number -1 are left out."""
    result = {}
    for split in ("train", "val", "test"):
        path = source / "classification_dataset" / "labels" / f"labels_{split}.txt"
        for line in read_short_text(path).splitlines() if path.is_file() else ():
            if not line.strip():
                continue
            found = re.fullmatch(r"(\S+)\s+(-1|[0-6])", line.strip())
            if found is None:
                raise UserError(
                    f"{path}: expected lines of a case and a number from -1 to 6, got {line!r:.80}"
                )
            case, number = found[1], int(found[2])
            if number >= 0:
                result[case] = (_FROM_PUBLISHED[number], split)
    return result


def _channel(
    source: Path, output: Path, series: list[dict[str, Any]], case: str, phase: str
) -> Path:
    cropped = source / "classification_dataset" / "images" / case / f"{phase}.nii.gz"
    if cropped.is_file():
        return cropped
    target = output / "images" / case / f"{phase}.nii.gz"
    if target.exists():
        return target
    with _explained(source):
        for item in series:
            if item["phase"] == phase:
                return crop_lesion(source / "images" / case, item, target)
    found = ", ".join(str(item["phase"]) for item in series) or "none"
    raise UserError(f"{source}: expected the phase {phase} of {case}, got {found}; see --sequences")


def crop_lesion(folder: Path, item: dict[str, Any], target: Path) -> Path:
    """Write the box around a lesion, with the authors' margins, cut at the volume's border.

    Differs: the authors pad in plane with zeros; here the affine follows the crop instead.
    """
    image = read_image(folder / item["studyUID"] / f"{item['seriesUID']}.nii.gz")
    box = _lesion(item)["bbox"]["3D_box"]
    starts, stops = [], []
    for axis, margin, length in zip("xyz", _MARGINS, image.voxels.shape, strict=True):
        starts.append(int(np.clip(int(box[f"{axis}_min"]) - margin, 0, length - 2)))
        stops.append(int(np.clip(int(box[f"{axis}_max"]) + margin + 1, starts[-1] + 2, length)))
    window = tuple(slice(start, stop) for start, stop in zip(starts, stops, strict=True))
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ starts
    return write_volume(target, image.voxels[window], affine)


def _lesion(item: dict[str, Any]) -> dict[str, Any]:
    lesions = item["annotation"]["lesion"]
    return lesions[min(lesions, key=int)]
