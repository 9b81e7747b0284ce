"""The bridge to SimpleITK, whose world is LPS+: x and y change their sign."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813  # its customary name
from nibabel.spatialimages import SpatialImage

from nnunet_triad.images.orientation import spacing_of
from nnunet_triad.images.volume import Volume

_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_NUM_DECIMALS = 9  # of mm


def read_itk(path: Path, reader: str) -> SpatialImage:
    """Read a file in one of ITK's formats, and the file of voxels that it may name.

    Args:
        path: such as a .mha file.
        reader: SimpleITK's name of the format, such as "MetaImageIO".

    Raises:
        OSError: it cannot be read.
    """
    try:
        image = sitk.ReadImage(str(path), imageIO=reader)
    except RuntimeError as error:
        raise OSError("it is damaged, or the file of voxels that it names is missing") from error
    is_plain = image.GetNumberOfComponentsPerPixel() == 1
    if not is_plain:
        raise OSError("several numbers a voxel")
    array = sitk.GetArrayFromImage(image).T
    return SpatialImage(array, affine_of(image) if image.GetDimension() > 2 else np.eye(4))


def affine_of(image: sitk.Image) -> np.ndarray:
    """Return the affine, voxel to RAS mm, of an image's origin, spacing and direction in space."""
    dimension = image.GetDimension()
    direction = np.reshape(image.GetDirection(), (dimension, dimension))[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = direction * np.asarray(image.GetSpacing())[:3]
    affine[:3, 3] = image.GetOrigin()[:3]
    return _TO_LPS @ affine


def is_readable_by_itk(path: Path) -> bool:
    """Tell whether ITK takes a file's geometry: it refuses axes that are not orthogonal."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return False
    return True


def to_sitk(volume: Volume) -> sitk.Image:
    """Return a volume as SimpleITK's."""
    converted = sitk.GetImageFromArray(np.ascontiguousarray(volume.voxels.T))
    place_sitk(converted, volume.affine)
    return converted


def place_sitk(image: sitk.Image, affine: np.ndarray) -> None:
    """Give a SimpleITK image the grid of an affine (RAS)."""
    # turning an image's axes leaves rounding errors
    lps = np.round(_TO_LPS @ affine, _NUM_DECIMALS)
    spacing = np.round(spacing_of(affine), _NUM_DECIMALS)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())


def ras_matrix(transform: sitk.Transform) -> np.ndarray:
    """Return an affine transform of SimpleITK as a (4, 4) matrix between RAS worlds."""
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    columns = [np.array(transform.TransformPoint(tuple(unit))) - origin for unit in np.eye(3)]
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack(columns, axis=1)
    matrix[:3, 3] = origin
    return _TO_LPS @ matrix @ _TO_LPS
