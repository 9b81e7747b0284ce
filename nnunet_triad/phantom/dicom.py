"""Write a phantom's volumes as DICOM: classic, enhanced multi-frame, or as Siemens mosaics.

Besides what a scanner does, it can write what goes wrong: missing and duplicate slices, a tilted
gantry, localizers.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage

from nnunet_triad.files import write_atomically
from nnunet_triad.phantom.dicom_header import file_meta, make_header, uid_of
from nnunet_triad.phantom.dicom_stack import SliceStack, make_stack

if TYPE_CHECKING:
    from nnunet_triad.phantom import Acquisition

KINDS = ("classic", "enhanced", "mosaic", "localizer")
_MINUTE_S = 60  # between time points


@dataclass(frozen=True, kw_only=True)
class DicomOptions:
    """How a series is written.

    Attributes:
        kind: "classic" (a file a slice), "enhanced" (all in one file), "mosaic" (a file a time
            point, Siemens' way for echo planar images) or "localizer" (three planes in a series).
        series_number: tells series of one study apart.
        missing_slices, duplicated_slices: indices; classic only.
        tilt_deg: gantry tilt; classic only.
        image_type, modality: as in the tags.
        extra: keyword -> value of further tags, set last.
    """

    kind: str = "classic"
    series_number: int = 1
    missing_slices: tuple[int, ...] = ()
    duplicated_slices: tuple[int, ...] = ()
    tilt_deg: float = 0.0
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "M", "ND")
    modality: str = "MR"
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {self.kind!r}")


def write_dicom_series(
    volumes: "Acquisition | Sequence[Acquisition]",
    folder: Path,
    *,
    options: DicomOptions | None = None,
) -> list[Path]:
    """Write one series; the same volumes and options give the same bytes.

    Args:
        volumes: one volume, or the time points of a dynamic series, all on one grid.
        folder: made when missing; may hold other series.
        options: how; default: a classic series.

    Returns:
        The files, SERIES_INSTANCE.dcm.
    """
    options = options or DicomOptions()
    points = list(volumes) if isinstance(volumes, Sequence) else [volumes]
    writers = {
        "classic": _classic_instances,
        "enhanced": _enhanced_instances,
        "mosaic": _mosaic_instances,
        "localizer": _localizer_instances,
    }
    paths = []
    for number, dataset in enumerate(writers[options.kind](points, options), start=1):
        dataset.InstanceNumber = number
        path = Path(folder) / f"{options.series_number:03d}_{number:05d}.dcm"
        _save(dataset, path)
        paths.append(path)
    return paths


def _save(dataset: Dataset, path: Path) -> None:
    dataset.SOPInstanceUID = uid_of(dataset.SeriesInstanceUID, path.name)
    dataset.file_meta = file_meta(dataset.SOPClassUID, dataset.SOPInstanceUID)
    with write_atomically(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)


def _header(volume: "Acquisition", options: DicomOptions) -> Dataset:
    return make_header(
        volume,
        series_number=options.series_number,
        image_type=options.image_type,
        modality=options.modality,
        extra=options.extra,
    )


def _classic_instances(points: Sequence["Acquisition"], options: DicomOptions) -> Iterator[Dataset]:
    for time_point, volume in enumerate(points):
        stack = make_stack(volume.image, volume.affine).tilted(options.tilt_deg)
        kept = [k for k in range(len(stack.frames)) if k not in options.missing_slices]
        stack = stack.keep(sorted([*kept, *options.duplicated_slices]))
        for index in range(len(stack.frames)):
            dataset = _header(volume, options)
            if len(points) > 1:
                _add_time(dataset, time_point, len(points))
            yield _with_slice(dataset, stack, index)


def _localizer_instances(
    points: Sequence["Acquisition"], options: DicomOptions
) -> Iterator[Dataset]:
    """Yield three slices in each of three planes."""
    volume = points[0]
    for slice_axis in (2, 0, 1):
        stack = make_stack(volume.image, volume.affine, slice_axis=slice_axis)
        quarters = [len(stack.frames) * quarter // 4 for quarter in (1, 2, 3)]
        for index in range(3):
            yield _with_slice(_header(volume, options), stack.keep(quarters), index)


def _with_slice(dataset: Dataset, stack: SliceStack, index: int) -> Dataset:
    dataset.ImagePositionPatient = _decimals(stack.positions_mm[index])
    dataset.ImageOrientationPatient = _decimals(stack.orientation)
    normal = np.cross(stack.orientation[:3], stack.orientation[3:])
    dataset.SliceLocation = _decimal(float(stack.positions_mm[index] @ normal))
    _add_spacing(dataset, stack)
    _add_pixels(dataset, stack.frames[index], stack.slope)
    return dataset


def _add_time(dataset: Dataset, time_point: int, num_time_points: int) -> None:
    dataset.TemporalPositionIdentifier = time_point + 1
    dataset.NumberOfTemporalPositions = num_time_points
    dataset.AcquisitionNumber = time_point + 1
    dataset.AcquisitionTime = f"08{5 + time_point * _MINUTE_S // 60:02d}00"


def _add_spacing(dataset: Dataset, stack: SliceStack) -> None:
    dataset.PixelSpacing = _decimals(stack.pixel_spacing_mm)
    dataset.SliceThickness = _decimal(stack.slice_spacing_mm)
    dataset.SpacingBetweenSlices = _decimal(stack.slice_spacing_mm)


def _add_pixels(dataset: Dataset, frames: np.ndarray, slope: float) -> None:
    """Add (rows, columns) or (frames, rows, columns) of uint16 values."""
    *_, dataset.Rows, dataset.Columns = frames.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0
    dataset.SmallestImagePixelValue = int(frames.min())
    dataset.LargestImagePixelValue = int(frames.max())
    dataset.WindowCenter = int(frames.max()) // 2
    dataset.WindowWidth = max(int(frames.max()), 1)
    if slope != 1:
        dataset.RescaleSlope = _decimal(slope)
        dataset.RescaleIntercept = "0"
        dataset.RescaleType = "US"
    dataset.PixelData = frames.astype("<u2").tobytes()


def _enhanced_instances(
    points: Sequence["Acquisition"], options: DicomOptions
) -> Iterator[Dataset]:
    """Yield one instance with all slices of all time points.

    Source: DICOM PS3.3, A.36 (Enhanced MR Image IOD) and C.7.6.16 (functional groups).
    """
    stacks = [make_stack(volume.image, volume.affine) for volume in points]
    first = stacks[0]
    dataset = _header(points[0], options)
    dataset.SOPClassUID = EnhancedMRImageStorage
    frames = np.concatenate([stack.frames for stack in stacks])
    _add_pixels(dataset, frames, 1.0)
    dataset.NumberOfFrames = len(frames)
    dataset.DimensionOrganizationSequence = [_item(DimensionOrganizationUID=uid_of("dimensions"))]
    dataset.DimensionIndexSequence = [
        _item(DimensionIndexPointer=0x00209057, DimensionDescriptionLabel="In-Stack Position"),
        _item(
            DimensionIndexPointer=0x00209128,
            DimensionDescriptionLabel="Temporal Position Index",
        ),
    ]
    dataset.SharedFunctionalGroupsSequence = [_shared_groups(points[0], first)]
    dataset.PerFrameFunctionalGroupsSequence = [
        _frame_group(stack, index, time_point)
        for time_point, stack in enumerate(stacks)
        for index in range(len(stack.frames))
    ]
    yield dataset


def _shared_groups(volume: "Acquisition", stack: SliceStack) -> Dataset:
    measures = Dataset()
    _add_spacing(measures, stack)
    sequence = volume.sequence
    timing = _item(
        RepetitionTime=sequence.repetition_time_ms,
        FlipAngle=sequence.flip_angle_deg,
        EchoTrainLength=1,
    )
    orientation = _item(ImageOrientationPatient=_decimals(stack.orientation))
    groups = _item(
        PixelMeasuresSequence=[measures],
        PlaneOrientationSequence=[orientation],
        MRTimingAndRelatedParametersSequence=[timing],
        MREchoSequence=[_item(EffectiveEchoTime=sequence.echo_time_ms)],
    )
    if sequence.inversion_time_ms is not None:
        inversion = _item(InversionRecovery="YES", InversionTimes=[sequence.inversion_time_ms])
        groups.MRModifierSequence = [inversion]
    return groups


def _frame_group(stack: SliceStack, index: int, time_point: int) -> Dataset:
    content = _item(
        StackID="1",
        InStackPositionNumber=index + 1,
        TemporalPositionIndex=time_point + 1,
        DimensionIndexValues=[index + 1, time_point + 1],
    )
    position = _item(ImagePositionPatient=_decimals(stack.positions_mm[index]))
    transformation = _item(
        RescaleSlope=_decimal(stack.slope), RescaleIntercept="0", RescaleType="US"
    )
    return _item(
        FrameContentSequence=[content],
        PlanePositionSequence=[position],
        PixelValueTransformationSequence=[transformation],
    )


def _mosaic_instances(points: Sequence["Acquisition"], options: DicomOptions) -> Iterator[Dataset]:
    """Yield one instance a time point, the slices as tiles of one large picture.

    Source: nibabel's documentation of the mosaic format: the position is that of the large
    picture's corner, as if it were one slice with the first tile in its middle.
    """
    for time_point, volume in enumerate(points):
        stack = make_stack(volume.image, volume.affine, slice_axis=2)
        num_slices, rows, columns = stack.frames.shape
        side = math.ceil(math.sqrt(num_slices))
        picture = np.zeros((side * rows, side * columns), dtype=np.uint16)
        for index, frame in enumerate(stack.frames):
            row, column = divmod(index, side)
            picture[row * rows :, column * columns :][:rows, :columns] = frame
        dataset = _header(volume, options)
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
        _add_time(dataset, time_point, len(points))
        _add_spacing(dataset, stack)
        dataset.AcquisitionMatrix = [0, rows, columns, 0]
        dataset.ImageOrientationPatient = _decimals(stack.orientation)
        dataset.ImagePositionPatient = _decimals(_mosaic_corner(stack, picture.shape))
        _add_pixels(dataset, picture, stack.slope)
        block = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
        block.add_new(0x20, "OB", _protocol(stack))
        yield dataset


def _mosaic_corner(stack: SliceStack, shape: tuple[int, ...]) -> np.ndarray:
    _, rows, columns = stack.frames.shape
    between_rows_mm, between_columns_mm = stack.pixel_spacing_mm
    return (
        stack.positions_mm[0]
        - stack.orientation[:3] * between_columns_mm * (shape[1] - columns) / 2
        - stack.orientation[3:] * between_rows_mm * (shape[0] - rows) / 2
    )


def _protocol(stack: SliceStack) -> bytes:
    """Return the lines of Siemens' protocol that tell how a mosaic is laid out."""
    lines = [f"sSliceArray.lSize\t = \t{len(stack.frames)}"]
    for index, position in enumerate(stack.positions_mm):
        lines.append(f"sSliceArray.asSlice[{index}].sPosition.dTra\t = \t{position[2]:.6f}")
    text = "\n".join(["### ASCCONV BEGIN ###", *lines, "### ASCCONV END ###", ""])
    return text.encode("ascii") + b"\0" * (len(text) % 2)


def _item(**tags: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    return dataset


def _decimals(values: Sequence[float] | np.ndarray) -> list[str]:
    return [_decimal(float(value)) for value in values]


def _decimal(value: float) -> str:
    """Return a decimal string of at most 16 characters, as DICOM wants it."""
    for digits in range(12, 0, -1):
        text = f"{value:.{digits}g}"
        if len(text) <= 16:
            return text
    raise AssertionError(f"no decimal string for {value}")
