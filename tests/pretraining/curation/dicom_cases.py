"""Small DICOM files as scanners write them; the tests set every number of their headers."""

import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import (
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

from nnunet_triad.phantom.dicom_stack import SliceStack


def item(**tags: Any) -> Dataset:
    """Return a data set of these tags."""
    dataset = Dataset()
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    return dataset


def header(series: str, sop_class: str = MRImageStorage, **tags: Any) -> Dataset:
    """Return the header of an image of a series, such as "1.2.3", without pixels."""
    dataset = item(
        SOPClassUID=sop_class,
        SOPInstanceUID=generate_uid(),
        StudyInstanceUID="1.2.3.4",
        SeriesInstanceUID=series,
        PatientID="CASE",
        Modality="MR",
        ImageType=["ORIGINAL", "PRIMARY", "M", "ND"],
        SliceThickness=3.0,
        **tags,
    )
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def add_pixels(dataset: Dataset, stored: np.ndarray, *, bits_stored: int | None = None) -> Dataset:
    """Add whole numbers, (rows, columns) or (frames, rows, columns)."""
    bits = stored.dtype.itemsize * 8
    *frames, dataset.Rows, dataset.Columns = stored.shape
    if frames:
        dataset.NumberOfFrames = frames[0]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored = bits, bits_stored or bits
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.PixelData = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def save(dataset: Dataset, path: Path) -> Path:
    """Write a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def save_big_endian(dataset: Dataset, path: Path) -> Path:
    """Write a file in explicit big endian; the pixels of `dataset` are 16 bits, little endian."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    meta, body = DicomBytesIO(), DicomBytesIO()
    meta.is_little_endian, meta.is_implicit_VR = True, False
    write_file_meta_info(meta, dataset.file_meta)
    body.is_little_endian, body.is_implicit_VR = False, False
    plain = Dataset()
    plain.update({element.tag: element for element in dataset})
    write_dataset(body, plain)
    path.write_bytes(b"\0" * 128 + b"DICM" + meta.getvalue() + body.getvalue())
    return path


def classic(stack: SliceStack, series: str, **tags: Any) -> list[Dataset]:
    """Return a file a slice."""
    return [
        add_pixels(header(series, **_place(stack), ImagePositionPatient=_list(position), **tags), f)
        for f, position in zip(stack.frames, stack.positions_mm, strict=True)
    ]


def enhanced(
    stack: SliceStack,
    series: str,
    *,
    scalings: Sequence[tuple[float, float]] = (),
    shared: Dataset | None = None,
    **tags: Any,
) -> Dataset:
    """Return one file of all slices.

    Args:
        stack: the slices.
        series: SeriesInstanceUID.
        scalings: slope and intercept of each frame, or none.
        shared: further shared functional groups.
        tags: further tags.
    """
    dataset = header(series, EnhancedMRImageStorage, **tags)
    between = item(
        PixelSpacing=_list(stack.pixel_spacing_mm), SpacingBetweenSlices=stack.slice_spacing_mm
    )
    groups = shared or Dataset()
    groups.PixelMeasuresSequence = [between]
    groups.PlaneOrientationSequence = [item(ImageOrientationPatient=_list(stack.orientation))]
    dataset.SharedFunctionalGroupsSequence = [groups]
    frames = []
    for number, position in enumerate(stack.positions_mm, start=1):
        frame = item(
            PlanePositionSequence=[item(ImagePositionPatient=_list(position))],
            FrameContentSequence=[item(StackID="1", InStackPositionNumber=number)],
        )
        if scalings:
            slope, intercept = scalings[number - 1]
            scaling = item(RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="US")
            frame.PixelValueTransformationSequence = [scaling]
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    return add_pixels(dataset, stack.frames)


def mosaic(stack: SliceStack, series: str, *, csa: bool = True, protocol: bool = True) -> Dataset:
    """Return one picture of all slices; the tiles are in the stack's order, whatever its direction.

    Args:
        stack: the slices.
        series: SeriesInstanceUID.
        csa: with the CSA image header, which has the number and the normal of the slices.
        protocol: with the protocol, which has their number and centres.
    """
    num_slices, rows, columns = stack.frames.shape
    side = math.ceil(math.sqrt(num_slices))
    picture = np.zeros((side * rows, side * columns), np.uint16)
    for index, frame in enumerate(stack.frames):
        row, column = divmod(index, side)
        picture[row * rows :, column * columns :][:rows, :columns] = frame
    axes = stack.orientation.reshape(2, 3) * np.array(stack.pixel_spacing_mm)[::-1, None]
    tile = np.array([columns, rows])
    corner = stack.positions_mm[0] - (side - 1) * tile / 2 @ axes
    dataset = header(series, **_place(stack), ImagePositionPatient=_list(corner))
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    dataset.Manufacturer = "SIEMENS"
    dataset.SpacingBetweenSlices = stack.slice_spacing_mm
    step = stack.positions_mm[1] - stack.positions_mm[0]
    add_private(
        dataset,
        num_slices=num_slices,
        normal=step / np.linalg.norm(step) if csa else None,
        centres_mm=stack.positions_mm + tile / 2 @ axes if protocol else None,
    )
    return add_pixels(dataset, picture)


def add_private(
    dataset: Dataset,
    *,
    num_slices: int,
    normal: np.ndarray | None = None,
    centres_mm: np.ndarray | None = None,
    is_reversed: bool = False,
) -> None:
    """Add Siemens' private headers, as nibabel documents them.

    Args:
        dataset: a mosaic.
        num_slices: of the mosaic.
        normal: (3,), of the CSA image header; None: without that header.
        centres_mm: (slices, 3), of the protocol; None: without it.
        is_reversed: images are numbered against the protocol's slices (head to feet).
    """
    block = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    if normal is not None:
        elements = {
            "NumberOfImagesInMosaic": ("US", [str(num_slices)]),
            "SliceNormalVector": ("FD", [f"{value:.8f}" for value in normal]),
        }
        block.add_new(0x10, "OB", _csa_header(elements))
    if centres_mm is not None:
        lines = [f"sSliceArray.lSize\t = \t{num_slices}"]
        lines += ["sSliceArray.ucImageNumbTra\t = \t0x1"] if is_reversed else []
        for index, centre in enumerate(centres_mm):
            for axis, value in zip(("Sag", "Cor", "Tra"), centre, strict=True):
                name = f"sSliceArray.asSlice[{index}].sPosition.d{axis}"
                lines += [f"{name}\t = \t{value:.8f}"] if value else []  # zeros are not written
        text = "\n".join(["### ASCCONV BEGIN ###", *lines, "### ASCCONV END ###", ""])
        block.add_new(0x20, "OB", text.encode() + b"\0" * (len(text) % 2))


def _csa_header(elements: dict[str, tuple[str, list[str]]]) -> bytes:
    parts = [b"SV10\4\3\2\1", struct.pack("<II", len(elements), 77)]
    for name, (kind, values) in elements.items():
        parts.append(struct.pack("<64si4siii", name.encode(), len(values), kind.encode(), 0, 6, 77))
        for value in [*values, *[""] * (6 - len(values))]:
            content = value.encode() + b"\0" * bool(value)
            parts.append(struct.pack("<4i", *([len(content)] * 2), 77, len(content)))
            parts.append(content + b"\0" * (-len(content) % 4))
    return b"".join(parts)


def _place(stack: SliceStack) -> dict[str, Any]:
    return {
        "ImageOrientationPatient": _list(stack.orientation),
        "PixelSpacing": _list(stack.pixel_spacing_mm),
    }


def _list(values: Any) -> list[str]:
    return [f"{float(value):.10g}"[:16] for value in values]


def read_series(folder: Path, **rules: Any) -> Any:
    """Load the only series of a folder, as curation does before it resamples."""
    from pretraining.curation.settings import QualityRules
    from pretraining.curation.source import find_all
    from pretraining.curation.workers import Workers

    (series,) = find_all(folder, dataset="DATA", workers=Workers(1), salt="").series
    return series.load(QualityRules(**rules))
