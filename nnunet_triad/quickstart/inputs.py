"""What the two folders hold, looked at before anything runs."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nnunet_triad.datasets.describe import guess_layout
from nnunet_triad.datasets.layouts.checks import all_files, join_some
from nnunet_triad.errors import UserError
from nnunet_triad.files import content_digest

_NIFTI = re.compile(r"(?P<stem>.*?)(_0000)?\.nii(\.gz)?", re.IGNORECASE)
_ENDING = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
_NO_IMAGES = {".json", ".csv", ".tsv", ".txt", ".md", ".pdf", ".bval", ".bvec", ".html", ".xlsx"}
_SUBJECT = re.compile(r"\bsub-[A-Za-z0-9]+")


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Images without labels, and images with them.

    Attributes:
        images: the folder of unlabelled images.
        labelled: the folder of labelled ones.
        labels: label file by case.
        scans: the first channel of each case.
        num_channels: of a case.
        shared_names: cases that are named as an unlabelled image is.
        describes: whether the unlabelled images bring sidecars or DICOM headers.
    """

    images: Path
    labelled: Path
    labels: dict[str, Path]
    scans: tuple[Path, ...]
    num_channels: int
    shared_names: tuple[str, ...]
    describes: bool


def read_inputs(images: Path, labelled: Path) -> Inputs:
    """Look at both folders.

    Raises:
        UserError: one is missing or holds no images, labels are missing, there is one labelled
            case alone, or a labelled image or subject is among the unlabelled ones.
    """
    for name, folder in (("IMAGES", images), ("LABELLED", labelled)):
        if not folder.is_dir():
            raise UserError(f"{name}: expected a folder, got {folder}, which is none")
    unlabelled = [f for f in all_files(images) if f.suffix.lower() not in _NO_IMAGES]
    if not unlabelled:
        raise UserError(
            f"IMAGES: expected images (NIfTI, DICOM or BIDS) in {images}, got none; name the "
            "folder that holds them"
        )
    guess = guess_layout(labelled)
    if len(guess.labels) < 2:
        raise UserError(
            f"LABELLED: expected at least 2 cases, one to train on and one to validate on, got "
            f"{join_some(guess.labels)} alone; label another"
        )
    scans = _scans(labelled, guess.images[0], guess.labels)
    _refuse_same_images(unlabelled, scans)
    _refuse_same_subjects(images, unlabelled, labelled, guess.labels.values())
    stems = {match["stem"] for f in unlabelled if (match := _NIFTI.fullmatch(f.name))}
    return Inputs(
        images=images,
        labelled=labelled,
        labels=guess.labels,
        scans=scans,
        num_channels=len(guess.images),
        shared_names=tuple(sorted(stems & guess.labels.keys())),
        describes=any(not _NIFTI.fullmatch(f.name) for f in unlabelled)
        or any(f.suffix == ".json" for f in all_files(images)),
    )


def _scans(labelled: Path, pattern: str, cases: Iterable[str]) -> tuple[Path, ...]:
    """Return the file of a pattern of each case."""
    wanted = {pattern.replace("{}", case) for case in cases}
    num_parts = 1 + pattern.count("/")
    found = []
    for path in all_files(labelled):
        name = _ENDING.sub("", path.name)
        if name != path.name and "/".join((*path.parts[:-1], name)[-num_parts:]) in wanted:
            found.append(path)
    return tuple(found)


def _refuse_same_images(unlabelled: Iterable[Path], scans: Iterable[Path]) -> None:
    """Refuse scans that are among the unlabelled images: pre-training would have seen the test."""
    own = {_content(path): path for path in scans}
    found = [path for path in unlabelled if _NIFTI.fullmatch(path.name) and _content(path) in own]
    if found:
        names = join_some(path.name for path in found)
        raise UserError(
            f"IMAGES: expected other images than LABELLED's, on which the models are tested, got "
            f"{len(found)} of them ({names}); move them elsewhere"
        )


def _content(path: Path) -> str:
    return content_digest(path).split()[-1]


def _refuse_same_subjects(
    images: Path, unlabelled: Iterable[Path], labelled: Path, labels: Iterable[Path]
) -> None:
    """Refuse subjects, named as in BIDS, that are in both folders."""
    seen = {name for path in unlabelled for name in _subjects(path, images)}
    both = sorted(seen & {name for path in labels for name in _subjects(path, labelled)})
    if both:
        raise UserError(
            f"IMAGES: expected other subjects than LABELLED's, on whom the models are tested, got "
            f"{join_some(both)} in both; move them elsewhere"
        )


def _subjects(path: Path, root: Path) -> list[str]:
    return _SUBJECT.findall(path.relative_to(root).as_posix())
