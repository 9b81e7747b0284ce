"""Slices of one volume, already chosen and ordered, become an array and an affine.

dicom2nifti does the conversion, as in the paper. It gets datasets that are in order and complete,
so its guesses about time points and stacks never come into play.
"""

import copy
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pydicom
from dicom2nifti import convert_dicom, convert_generic
from dicom2nifti.exceptions import ConversionError, ConversionValidationError
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian

from pretraining.curation.dicom_scan import UNREADABLE
from pretraining.curation.series import RejectedSeriesError
from pretraining.curation.voxels import check_affine, check_shape

_REASONS = {
    "TOO_FEW_SLICES/LOCALIZER": "too few slices: a localizer or no volume",
    "SLICE_INCREMENT_INCONSISTENT": "uneven distances between slices",
    "NON_CUBICAL_IMAGE/GANTRY_TILT": "gantry tilt or sheared stack",
    "NOT_A_VOLUME": "all slices at one place",
    "MOSAIC_TYPE_NOT_SUPPORTED": "a mosaic without Siemens' protocol",
    "IMAGE_ORIENTATION_INCONSISTENT": "slices in several orientations",
    "NON_IMAGING_DICOM_FILES": "no image",
}


def convert_slices(datasets: Sequence[pydicom.Dataset]) -> tuple[np.ndarray, np.ndarray]:
    """Convert classic slices, or a single mosaic.

    Args:
        datasets: with pixels, in the order of their places; instance numbers are set anew.

    Returns:
        The volume (x, y, z) and its affine (4, 4) to RAS, mm.

    Raises:
        RejectedSeriesError: the pixels cannot be decoded, or are no volume.
    """
    for number, dataset in enumerate(datasets, start=1):
        dataset.InstanceNumber = number
    return _convert(datasets, convert_dicom.dicom_array_to_nifti, False)


def convert_frames(
    dataset: pydicom.Dataset, frames: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Convert some frames of an enhanced multi-frame image; see `convert_slices`.

    Args:
        dataset: with pixels.
        frames: indices, in the order of their places.
    """
    return _convert([_with_frames(dataset, frames)], convert_generic.multiframe_to_nifti)


def _convert(
    datasets: Sequence[pydicom.Dataset], converter: Callable[..., Any], *options: Any
) -> tuple[np.ndarray, np.ndarray]:
    logger = logging.getLogger("dicom2nifti")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        image = converter(list(datasets), None, *options)["NII"]
        volume = np.asarray(image.dataobj)
    except (ConversionError, ConversionValidationError) as error:
        code = str(error)
        raise RejectedSeriesError(_REASONS.get(code, f"dicom2nifti says {code}")) from error
    except UNREADABLE as error:
        raise RejectedSeriesError(_decoding_reason(datasets, error)) from error
    finally:
        logger.disabled = was_disabled
    if volume.dtype.kind not in "iuf":
        raise RejectedSeriesError("colours, not one number a voxel")
    check_shape(volume.shape)
    return volume, check_affine(image.affine)


def _decoding_reason(datasets: Sequence[pydicom.Dataset], error: Exception) -> str:
    syntax = pydicom.uid.UID(datasets[0].file_meta.get("TransferSyntaxUID", ""))
    name = syntax.name if syntax else "no transfer syntax"
    return f"pixels that cannot be decoded: truncated or not {name} ({type(error).__name__})"


def _with_frames(dataset: pydicom.Dataset, frames: Sequence[int]) -> pydicom.Dataset:
    """Return an enhanced image that holds only these frames, as the only time point."""
    try:
        pixels = dataset.pixel_array[list(frames)]
        reduced = pydicom.Dataset()
        for tag in dataset.keys():  # noqa: SIM118 (iterating a dataset gives its elements)
            if tag.group != 0x7FE0:
                reduced[tag] = dataset[tag]
    except UNREADABLE as error:
        raise RejectedSeriesError(_decoding_reason([dataset], error)) from error
    reduced.file_meta = copy.deepcopy(dataset.file_meta)
    reduced.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    reduced.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    shared = dataset.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()]
    groups = []
    for number, index in enumerate(frames, start=1):
        group = copy.deepcopy(dataset.PerFrameFunctionalGroupsSequence[index])
        content = pydicom.Dataset()
        content.InStackPositionNumber = number
        content.DimensionIndexValues = [number]
        group.FrameContentSequence = [content]
        for name in ("PixelValueTransformationSequence", "PlaneOrientationSequence"):
            if name not in group and name in shared[0]:
                setattr(group, name, shared[0][name].value)
        groups.append(group)
    reduced.PerFrameFunctionalGroupsSequence = groups
    if "DimensionIndexSequence" in reduced:
        del reduced.DimensionIndexSequence
    reduced.NumberOfFrames = len(groups)
    reduced.set_original_encoding(False, True)
    reduced.PixelData = pixels.tobytes()
    return reduced
