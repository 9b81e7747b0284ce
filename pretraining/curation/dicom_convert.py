"""Slices of one volume, already chosen and ordered, become an array and an affine.

dicom2nifti does it, as in the paper, and always the same way: multi-frame images and mosaics come
as the slices that they hold, in order and complete, so that none of its guesses about vendors,
mosaics, time points and stacks comes into play. The result is checked against the headers.
"""

import logging
from collections.abc import Sequence

import numpy as np
import pydicom
from dicom2nifti import convert_generic
from dicom2nifti.exceptions import ConversionError, ConversionValidationError

from pretraining.curation.dicom_planes import Plane
from pretraining.curation.dicom_scan import UNREADABLE
from pretraining.curation.series import RejectedSeriesError
from pretraining.curation.voxels import check_affine, check_shape

_REASONS = {
    "TOO_FEW_SLICES/LOCALIZER": "too few slices: a localizer or no volume",
    "SLICE_INCREMENT_INCONSISTENT": "uneven distances between slices",
    "NON_CUBICAL_IMAGE/GANTRY_TILT": "gantry tilt or sheared stack",
    "NOT_A_VOLUME": "all slices at one place",
    "IMAGE_ORIENTATION_INCONSISTENT": "slices in several orientations",
}
_SILENCE = logging.NullHandler()
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
_SAME_MM = 0.02
_SAME_DIRECTION = 0.01  # of a unit vector's components
_ON_LINE = 0.3  # of the slices' distance; what the slices between the ends may be off


def convert_planes(planes: Sequence[Plane]) -> tuple[np.ndarray, np.ndarray]:
    """Convert slices.

    Args:
        planes: of one volume, in the order of their places.

    Returns:
        The volume (x, y, z) and its affine (4, 4) to RAS, mm.

    Raises:
        RejectedSeriesError: they are no volume, or the result does not lie where they lie.
    """
    logger = logging.getLogger("dicom2nifti")
    logger.addHandler(_SILENCE)
    was_passed_on, logger.propagate = logger.propagate, False
    try:
        slices = [_as_slice(plane, number) for number, plane in enumerate(planes, start=1)]
        image = convert_generic.dicom_to_nifti(slices, None)["NII"]
        volume = np.asarray(image.dataobj)
    except (ConversionError, ConversionValidationError) as error:
        code = str(error)
        raise RejectedSeriesError(_REASONS.get(code, f"dicom2nifti says {code}")) from error
    except UNREADABLE as error:
        raise RejectedSeriesError(f"slices that dicom2nifti cannot join ({error})") from error
    finally:
        logger.propagate = was_passed_on
    check_shape(volume.shape)
    affine = check_affine(image.affine)
    numbers = check_geometry(volume, affine, planes)
    return _scaled(volume, [planes[number].scaling for number in numbers]), affine


def check_geometry(volume: np.ndarray, affine: np.ndarray, planes: Sequence[Plane]) -> range:
    """Compare a volume (x, y, z) and its affine to RAS with the slices that it was made of.

    The directions and distances of columns and rows must be those of the headers, and the first
    and the last slice must be found, voxel by voxel, where their headers place them; those between
    may lie a little beside the line.

    Returns:
        The number of the plane at each place along the volume's last axis.

    Raises:
        RejectedSeriesError: with what differs.
    """
    rows, columns = planes[0].stored.shape
    if volume.shape != (columns, rows, len(planes)):
        raise RejectedSeriesError(f"conversion changed the shape to {volume.shape}")
    _check_directions(planes[0])
    found = []
    for plane in (planes[0], planes[-1]):
        for axis in (0, 1):
            direction = _LPS_TO_RAS @ plane.orientation[3 * axis :][:3]
            difference = affine[:3, axis] / plane.pixel_spacing_mm[1 - axis] - direction
            if np.abs(difference).max() > _SAME_DIRECTION:
                raise RejectedSeriesError("conversion turned the slices: not as the headers say")
        place = np.linalg.solve(affine, [*(_LPS_TO_RAS @ plane.position_mm), 1.0])[:3]
        number = round(place[2])
        expected_mm = affine[:3] @ [0, 0, number, 1]
        distance_mm = float(np.linalg.norm(expected_mm - _LPS_TO_RAS @ plane.position_mm))
        if number not in (0, len(planes) - 1) or distance_mm > _SAME_MM:
            raise RejectedSeriesError(
                f"conversion moved a slice ({distance_mm:.3g} mm from where its header says)"
            )
        if not np.array_equal(volume[:, :, number], plane.stored.T):
            raise RejectedSeriesError("conversion put slices in another order than the headers")
        found.append(number)
    numbers = range(len(planes))[:: 1 if found[0] == 0 else -1]
    _check_line(affine, [planes[number].position_mm for number in numbers])
    return numbers


def _check_directions(plane: Plane) -> None:
    """Refuse directions of columns and rows that are not perpendicular unit vectors."""
    directions = plane.orientation.reshape(2, 3)
    if np.abs(directions @ directions.T - np.eye(2)).max() > _SAME_DIRECTION:
        raise RejectedSeriesError("directions in the header that are not perpendicular units")


def _check_line(affine: np.ndarray, positions_mm: Sequence[np.ndarray]) -> None:
    """Refuse slices that lie far from where evenly spaced ones would."""
    expected_mm = affine[:3, 3] + np.arange(len(positions_mm))[:, None] * affine[:3, 2]
    distances_mm = np.linalg.norm(expected_mm - np.stack(positions_mm) @ _LPS_TO_RAS, axis=1)
    if distances_mm.max() > _ON_LINE * np.linalg.norm(affine[:3, 2]):
        raise RejectedSeriesError(
            f"slices that do not lie on a line (one {distances_mm.max():.3g} mm beside it)"
        )


def _scaled(volume: np.ndarray, scalings: Sequence[tuple[float, float]]) -> np.ndarray:
    """Return stored * slope + intercept, each slice by its own, in float64 where it matters."""
    slopes, intercepts = np.array(scalings).T
    if (slopes == 1).all() and (intercepts == 0).all():
        return volume
    scaled = volume * slopes  # whole numbers * float64
    scaled += intercepts
    return scaled


class _Slice(pydicom.Dataset):
    """A classic slice for dicom2nifti: its pixels are decoded, and it is never changed."""

    @property
    def pixel_array(self) -> np.ndarray:
        return self.stored

    def __deepcopy__(self, memo: object) -> "_Slice":
        return self


def _as_slice(plane: Plane, number: int) -> pydicom.Dataset:
    """Return what dicom2nifti needs of a slice, and nothing else."""
    dataset = _Slice()
    dataset.stored = plane.stored
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.Modality = "MR"
    dataset.InstanceNumber = number
    dataset.ImagePositionPatient = plane.position_mm.tolist()
    dataset.ImageOrientationPatient = plane.orientation.tolist()
    dataset.PixelSpacing = list(plane.pixel_spacing_mm)
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = plane.stored.dtype.itemsize * 8
    dataset.PixelData = b""  # asked whether it is there
    return dataset
