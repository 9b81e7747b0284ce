"""Series of a tree of image files that are not DICOM, laid out as BIDS or in any other way."""

import functools
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_triad.images import UnreadableImageError, image_files, open_image
from nnunet_triad.texts import read_json, read_short_text
from pretraining.curation.nifti_fields import (
    BIDS_NAME,
    NiftiFacts,
    fields_from_nifti,
    set_aside_kind,
)
from pretraining.curation.screening import check_header
from pretraining.curation.series import (
    FoundSeries,
    HeaderFacts,
    LoadedSeries,
    RejectedSeriesError,
    Series,
)
from pretraining.curation.settings import QualityRules
from pretraining.curation.voxels import check_affine, check_shape

NIFTI_ENDINGS = (".nii", ".nii.gz")
PAIR_ENDINGS = (".img", ".img.gz")  # with a .hdr file beside
OTHER_ENDINGS = (".mgz", ".mgh", ".mha", ".mhd", ".nrrd", ".nhdr")
IMAGE_ENDINGS = (*NIFTI_ENDINGS, *PAIR_ENDINGS, *OTHER_ENDINGS)
DEFAULT_STUDY = "study"  # of an image that is not sorted into one

# Folders and names that hold no acquired image: BIDS derivatives, labels.
SKIPPED_FOLDERS = frozenset(
    (
        *("derivatives", "sourcedata", "code", "stimuli"),
        *("label", "labels", "labelstr", "labelsts", "mask", "masks"),
        *("segmentation", "segmentations"),
    )
)
SKIPPED_NAME = re.compile(
    r"(^|[._-])(seg|dseg|probseg|segmentation|mask|brainmask|label|labels|roi\d*|"
    r"aseg|aparc[.+\w]*\+aseg)$",
    re.IGNORECASE,
)
_MAX_NAME = 120  # characters; file systems allow 255 with what is added
_MAX_SIDECAR = 1 << 24  # bytes; real ones have thousands
_MAX_B_VALUES = 1 << 20  # bytes of a .bval file; a real one has kilobytes


@dataclass(frozen=True, kw_only=True)
class NiftiSeries(Series):
    """An image file; `root` is the tree's, where sidecars that hold for many files may lie."""

    root: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """The file, and the one that holds its header or its voxels."""
        return tuple(image_files(self.path))

    def load(self, rules: QualityRules) -> LoadedSeries:
        """Read voxels, affine and the allowed fields of the sidecars."""
        facts = NiftiFacts(
            stem=stem_of(self.path),
            folders=self.path.relative_to(self.root).parts[:-1],
            metadata=read_metadata(self.path, self.root),
            b_values=read_b_values(self.path),
        )
        modality = _modality(facts.metadata)
        check_header(HeaderFacts(modality=modality, derived=set_aside_kind(facts)), rules)
        volume, affine, original_shape, time_point = read_time_point(self.path)
        num_points = original_shape[3] if len(original_shape) > 3 else 1
        fields, notes = fields_from_nifti(facts, num_time_points=num_points, time_point=time_point)
        return LoadedSeries(
            volume=volume,
            affine=affine,
            fields=fields,
            original_shape=original_shape,
            time_point=time_point,
            notes=notes,
        )


def read_time_point(
    path: Path,
) -> tuple[np.ndarray, np.ndarray, tuple[int, ...], int | None]:
    """Read a 3D file, or the middle time point of a 4D one; NaN stays, for the quality rules.

    Source: Triad, section 4.1 ("the (t-1)/2 th or (t+1)/2 th"): index (t-1)//2, counted from 0.

    Returns:
        (x, y, z) in the file's own type, its affine, the file's shape, and which time point it is;
        None of a file without a time axis.

    Raises:
        RejectedSeriesError: the file is empty, truncated or no NIfTI; it is 2D, or has more than
            four dimensions; its affine is singular; its values are not numbers, or complex.
    """
    try:
        with open_image(path) as file:
            check_shape(file.shape)
            affine = check_affine(file.affine)
            num_points = file.shape[3] if len(file.shape) > 3 else 1
            time_point = (num_points - 1) // 2 if num_points > 1 else None
            if path.name.lower().endswith(PAIR_ENDINGS) and file.header is None:
                raise RejectedSeriesError(
                    "Analyze 7.5, which does not tell left from right: convert it to NIfTI"
                )
            voxels = file.read(time_point=(num_points - 1) // 2 if len(file.shape) > 3 else None)
    except UnreadableImageError as error:
        raise RejectedSeriesError(error.reason) from error
    return voxels, affine, file.shape, time_point


def find_series(paths: Iterable[Path], *, root: Path, dataset: str) -> FoundSeries:
    """Find the images among files, in the order of their paths.

    Ids: in BIDS the subject, the session and the whole name; else the first folder, the folders
    below it, and the name. See `safe_name` for what is not plain letters.

    Args:
        paths: files of the tree, of any kind.
        root: the tree.
        dataset: first part of every id.
    """
    series: list[Series] = []
    skipped: list[Path] = []
    for path in paths:
        if not _is_image(path):
            continue
        relative = path.relative_to(root)
        if is_skipped(relative):
            skipped += image_files(path)
            continue
        subject, study = _subject_and_study(relative)
        series.append(
            NiftiSeries(
                dataset=dataset,
                subject=safe_name(*subject),
                study=safe_name(*study),
                series=safe_name(_series_name(path)),
                path=path,
                source=relative.as_posix(),
                source_bytes=_size(path),
                root=root,
            )
        )
    return FoundSeries(series=series, skipped=skipped)


def _is_image(path: Path) -> bool:
    """Tell by the name; a .img file alone may be DICOM or anything else."""
    name = path.name.lower()
    is_alone = name.endswith(PAIR_ENDINGS) and len(image_files(path)) == 1
    return name.endswith(IMAGE_ENDINGS) and not is_alone


def is_skipped(relative: Path) -> bool:
    """Say whether a path below the root is a label or a derivative, by its names alone."""
    *folders, name = relative.parts
    is_in_skipped_folder = any(folder.lower() in SKIPPED_FOLDERS for folder in folders)
    # FreeSurfer's mri/ holds what it made; what it was given lies in mri/orig/
    is_of_freesurfer = name.lower().endswith(".mgz") and folders[-1:] == ["mri"]
    stem = stem_of(relative)
    is_skipped_name = stem.startswith(".") or bool(SKIPPED_NAME.search(stem))
    return is_in_skipped_folder or is_of_freesurfer or is_skipped_name


def stem_of(path: Path) -> str:
    """Return the name without the ending of an image, whatever its case."""
    endings = sorted((*IMAGE_ENDINGS, ".hdr"), key=len, reverse=True)
    lower = path.name.lower()
    ending = next((ending for ending in endings if lower.endswith(ending)), "")
    return path.name[: len(path.name) - len(ending)]


def safe_name(*parts: str) -> str:
    """Return parts of a path as one safe file name; unlike parts never give the same one.

    Characters other than letters, digits, `-` and `_` become `-`, and several parts are joined;
    where that loses something, a hash of the parts is added.
    """
    joined = "_".join(parts)
    safe = re.sub(r"[^A-Za-z0-9_-]", "-", joined)
    if (
        safe == joined
        and len(safe) <= _MAX_NAME
        and (len(parts) == 1 or not any("_" in part for part in parts))
    ):
        return safe
    content = "/".join(parts).encode(errors="surrogateescape")
    digest = hashlib.sha256(content).hexdigest()[:8]
    return f"{safe[: _MAX_NAME - len(digest) - 1]}-{digest}"


def read_metadata(path: Path, root: Path) -> dict[str, Any]:
    """Merge the JSON sidecars that hold for an image, the nearest last.

    Source: the inheritance principle of BIDS: a sidecar further up holds for an image of the same
    suffix whose name has all its entities.

    Raises:
        RejectedSeriesError: a sidecar is not JSON.
    """
    words = stem_of(path).split("_")
    folders = [path.parent, *path.parent.parents]
    metadata: dict[str, Any] = {}
    for folder in reversed(folders[: folders.index(root) + 1]):
        for sidecar in _json_files(folder, folder.stat().st_mtime_ns):
            *entities, suffix = sidecar.stem.split("_")
            if suffix == words[-1] and set(entities) <= set(words[:-1]):
                metadata |= _read_json(sidecar)
    return metadata


def read_b_values(path: Path) -> list[float] | None:
    """Read the b-values beside an image, as FSL and dcm2niix write them; None without any."""
    file = path.with_name(f"{stem_of(path)}.bval")
    try:
        text = read_short_text(file, most_bytes=_MAX_B_VALUES)
        values = [float(word) for word in text.split()]
    except (OSError, ValueError):
        return None
    return values if values and np.isfinite(values).all() else None


def _subject_and_study(relative: Path) -> tuple[list[str], list[str]]:
    """Return the folders or words that name the subject, and the study."""
    *folders, _ = relative.parts
    if match := BIDS_NAME.match(relative.name):
        at = folders.index(match["subject"]) if match["subject"] in folders else 0
        return [*folders[:at], match["subject"]], [match["study"] or DEFAULT_STUDY]
    if not folders:
        return [stem_of(relative)], [DEFAULT_STUDY]
    return [folders[0]], folders[1:] or [DEFAULT_STUDY]


def _series_name(path: Path) -> str:
    """Return the stem; of other formats than NIfTI with the ending, since both may lie there."""
    stem = stem_of(path)
    if path.name.lower().endswith(NIFTI_ENDINGS):
        return stem
    return f"{stem}-{path.name[len(stem) + 1 :].lower().replace('.', '-')}"


def _modality(metadata: Mapping[str, Any]) -> str | None:
    """Return what converters note from DICOM; other values than codes are not repeated."""
    value = metadata.get("Modality")
    return value if value in ("MR", "CT", "PT", "NM", "US") else None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


@functools.lru_cache(maxsize=64)
def _json_files(folder: Path, changed_ns: int) -> list[Path]:
    """Return a folder's JSON files, those with fewer entities first, as of its last change."""
    files = [path for path in folder.glob("*.json") if not path.name.startswith(".")]
    return sorted(files, key=lambda path: (path.stem.count("_"), path.name))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path, most_bytes=_MAX_SIDECAR)
    except (OSError, ValueError) as error:
        raise RejectedSeriesError("its sidecar is not JSON, or too large") from error
    return content if isinstance(content, dict) else {}
