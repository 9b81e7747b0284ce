"""What the files of one series are: images or other objects, and in which form the images come.

An archive keeps what a scanner makes beside the images under the images' SeriesInstanceUID: raw
data (Philips), reports, presentation states, spectra; and the same images twice, as classic slices
and as an enhanced multi-frame image (Canon).
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

import pydicom

from pretraining.curation.dicom_kinds import Kind

FORMS = ("enhanced", "mosaic", "classic")  # the first is preferred where several hold as much

# SOP class, or its beginning -> what such an object is; all others are images. Source: DICOM PS3.4,
# table B.5-1; the last two are Siemens' and Philips' own.
_NO_IMAGES = {
    "1.2.840.10008.5.1.4.1.1.4.2": "spectroscopy",
    "1.2.840.10008.5.1.4.1.1.9.": "waveform",
    "1.2.840.10008.5.1.4.1.1.11.": "presentation state",
    "1.2.840.10008.5.1.4.1.1.66": "raw data",
    "1.2.840.10008.5.1.4.1.1.66.1": "registration",
    "1.2.840.10008.5.1.4.1.1.66.2": "fiducials",
    "1.2.840.10008.5.1.4.1.1.66.3": "registration",
    "1.2.840.10008.5.1.4.1.1.67": "value mapping",
    "1.2.840.10008.5.1.4.1.1.88.": "structured report",
    "1.2.840.10008.5.1.4.1.1.104.": "document",
    "1.3.12.2.1107.5.9.1": "private data",
    "1.3.46.670589.11.0.0.12.": "private data",
}
_MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"  # also the beginning of its enhanced kinds
_ENHANCED = ("1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4")


class SourceFile(Protocol):
    """A file of a series: its header, its form (see `form_of`), the kind of each of its slices."""

    @property
    def header(self) -> pydicom.Dataset: ...
    @property
    def form(self) -> str: ...
    @property
    def kinds(self) -> tuple[Kind, ...]: ...


_File = TypeVar("_File", bound=SourceFile)


def no_image_kind(header: pydicom.Dataset) -> str | None:
    """Return what an object is that is no image; None for images."""
    uid = str(header.get("SOPClassUID") or "")
    for known, kind in _NO_IMAGES.items():
        if uid == known or (known.endswith(".") and uid.startswith(known)):
            return kind
    has_pixels = header.get("Rows") and header.get("Columns")
    return None if has_pixels or uid.startswith(_MR_IMAGE) else "an object without pixels"


def form_of(header: pydicom.Dataset) -> str:
    """Return in which of the `FORMS` an image comes."""
    is_enhanced = header.get("SOPClassUID") in _ENHANCED
    if is_enhanced or header.get("PerFrameFunctionalGroupsSequence"):
        return "enhanced"
    return "mosaic" if "MOSAIC" in (header.get("ImageType") or []) else "classic"


def split_images(files: Sequence[_File]) -> tuple[list[_File], str]:
    """Return the images, and what the other objects are, "" where there are none."""
    kinds = [no_image_kind(one.header) for one in files]
    images = [one for one, kind in zip(files, kinds, strict=True) if kind is None]
    return images, ", ".join(sorted({kind for kind in kinds if kind is not None}))


def one_form(files: Sequence[_File], notes: list[str]) -> list[_File]:
    """Return the images of one form, the one with most acquired slices, and note the others."""
    by_form: dict[str, list[_File]] = {}
    for one in files:
        by_form.setdefault(one.form, []).append(one)
    forms = [form for form in FORMS if form in by_form]
    kept = max(forms, key=lambda form: _num_slices(by_form[form]))
    notes.extend(
        f"{len(by_form[form])} {form} files dropped beside {kept} ones"
        for form in forms
        if form != kept
    )
    return by_form[kept]


def _num_slices(files: Sequence[SourceFile]) -> tuple[int, int]:
    """Return how many slices files have, first the acquired ones, then all."""
    kinds = [kind for one in files for kind in one.kinds]
    return sum(kind.set_aside is None for kind in kinds), len(kinds)
