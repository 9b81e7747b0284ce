"""A DICOM series: which of its files make the volume, and loading it."""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pydicom

from pretraining.curation.dicom_convert import convert_planes
from pretraining.curation.dicom_fields import fields_from_dicom
from pretraining.curation.dicom_files import (
    SourceFile,
    of_one_kind,
    pixel_digest,
    read_file,
    read_headers,
    slice_of,
    time_order,
    without_copies,
)
from pretraining.curation.dicom_geometry import Selection, select_volume
from pretraining.curation.dicom_objects import one_form, split_images
from pretraining.curation.dicom_planes import Plane, classic_plane, frame_planes, mosaic_planes
from pretraining.curation.screening import check_header
from pretraining.curation.series import HeaderFacts, LoadedSeries, RejectedSeriesError, Series
from pretraining.curation.settings import QualityRules

# Modalities of the standard that a reason may name.
_MODALITIES = frozenset(
    (
        *("AR", "AU", "BI", "CR", "CT", "DX", "DOC", "ECG", "ES", "GM", "IO", "IVUS", "KO", "M3D"),
        *("MG", "MR", "NM", "OCT", "OP", "OT", "PR", "PT", "PX", "REG", "RF", "RG", "RTDOSE"),
        *("RTIMAGE", "RTPLAN", "RTRECORD", "RTSTRUCT", "RWV", "SC", "SEG", "SM", "SR", "TG", "US"),
        *("XA", "XC"),
    )
)


@dataclass(frozen=True, kw_only=True)
class DicomSeries(Series):
    """Files of one SeriesInstanceUID.

    Attributes:
        instances: in the order of their paths.
        num_owners: patients and studies that the UID belongs to; more than one is a collision.
    """

    instances: tuple[Path, ...]
    num_owners: int = 1

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of its instances."""
        return self.instances

    def load(self, rules: QualityRules) -> LoadedSeries:
        """Read the headers, choose the middle time point, and read only its pixels."""
        if self.num_owners > 1:
            raise RejectedSeriesError(
                f"one SeriesInstanceUID in {self.num_owners} patients or studies"
            )
        with _quiet():
            notes: list[str] = []
            files = read_headers(self.files)
            images, others = split_images(files)
            check_header(HeaderFacts(modality=_modality((images or files)[0].header)), rules)
            if not images:
                raise RejectedSeriesError(f"no image but {others}")
            if others:
                notes.append(f"{len(files) - len(images)} objects without image dropped: {others}")
            if "VFRAME" in (images[0].header.get("ImageType") or []):
                raise RejectedSeriesError("United Imaging's tiled volumes: export one file a slice")
            files = without_copies(images, notes)
            files = of_one_kind(one_form(files, notes), notes)
            check_header(HeaderFacts(derived=files[0].kinds[0].set_aside), rules)
            return _load(files, notes)


def _load(files: Sequence[SourceFile], notes: list[str]) -> LoadedSeries:
    loaders = {"enhanced": _load_enhanced, "mosaic": _load_mosaic, "classic": _load_classic}
    return loaders[files[0].form](files, notes)


def _load_classic(files: Sequence[SourceFile], notes: list[str]) -> LoadedSeries:
    kept = [one for one in files if "LOCALIZER" not in (one.header.get("ImageType") or [])]
    if not kept:
        raise RejectedSeriesError("a localizer")
    slices = [slice_of(index, one.header) for index, one in enumerate(kept)]
    chosen = select_volume(slices, digest_of=lambda index: pixel_digest(kept[index].path))
    datasets = [read_file(kept[index].path) for index in chosen.indices]
    planes = [classic_plane(dataset) for dataset in datasets]
    return _loaded(planes, datasets[0], selection=chosen, notes=notes)


def _load_mosaic(files: Sequence[SourceFile], notes: list[str]) -> LoadedSeries:
    in_time = sorted(files, key=lambda one: time_order(one.header))
    time_point = (len(in_time) - 1) // 2
    dataset = read_file(in_time[time_point].path)
    selection = Selection(
        indices=(time_point,),
        num_time_points=len(in_time),
        time_point=time_point if len(in_time) > 1 else None,
        notes=(),
    )
    return _loaded(mosaic_planes(dataset), dataset, selection=selection, notes=notes)


def _load_enhanced(files: Sequence[SourceFile], notes: list[str]) -> LoadedSeries:
    """Load from multi-frame images: one with all frames, or one a time point, or one a slice."""
    places = [(number, frame) for number, one in enumerate(files) for frame in one.frames]
    slices = [replace(frame, index=index) for index, (_, frame) in enumerate(places)]
    chosen = select_volume(slices, digest_of=lambda index: str(index))
    wanted = [(places[index][0], places[index][1].index) for index in chosen.indices]
    planes: dict[tuple[int, int], Plane] = {}
    for number in dict.fromkeys(number for number, _ in wanted):
        dataset = read_file(files[number].path)
        frames = [frame for one, frame in wanted if one == number]
        for frame, plane in zip(frames, frame_planes(dataset, frames), strict=True):
            planes[number, frame] = plane
    return _loaded(
        [planes[one] for one in wanted],
        dataset,
        selection=chosen,
        notes=notes,
        frame=frames[-1],  # of the file that was read last
    )


def _loaded(
    planes: Sequence[Plane],
    header: pydicom.Dataset,
    *,
    selection: Selection,
    notes: Sequence[str],
    frame: int = 0,
) -> LoadedSeries:
    volume, affine = convert_planes(planes)
    num = selection.num_time_points
    fields = fields_from_dicom(header, num_time_points=num, frame=frame)
    return LoadedSeries(
        volume=volume,
        affine=affine,
        fields=fields,
        original_shape=(*volume.shape, num) if num > 1 else volume.shape,
        time_point=selection.time_point,
        notes=(*notes, *selection.notes),
    )


def _modality(header: pydicom.Dataset) -> str | None:
    value = str(header.get("Modality") or "").upper()
    return (value if value in _MODALITIES else "unknown") if value else None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep pydicom's remarks on odd values from the screen; they may repeat the values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
