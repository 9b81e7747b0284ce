"""Writing NIfTI files: the same voxels give the same bytes, and a file is whole or not there."""

from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from isal import igzip

from nnunet_triad.files import write_atomically
from nnunet_triad.images.units import mm_per_unit

_SCANNER_SPACE = 1  # NIfTI's code for scanner-based coordinates


def write_volume(
    path: Path,
    voxels: npt.NDArray[np.generic],
    affine: npt.NDArray[np.floating],
    *,
    header: nib.Nifti1Header | None = None,
    intent: int = 0,
) -> Path:
    """Write voxels in their own type, which must be one of NIfTI's.

    Args:
        path: .nii or .nii.gz.
        voxels: (x, y, z), and more axes behind them.
        affine: (4, 4), voxel to world (RAS), mm.
        header: of the image on whose grid they lie, whose codes and units they get; default: qform
            and sform in the scanner's space, mm.
        intent: NIfTI's code.

    Returns:
        `path`.
    """
    path = Path(path)
    if header is not None:
        affine = np.array(affine, dtype=np.float64)
        affine[:3] /= mm_per_unit(header)
    image = nib.Nifti1Image(voxels, affine, header)
    image.set_data_dtype(voxels.dtype)
    image.header["cal_min"] = image.header["cal_max"] = 0  # a window of the other image's values
    if header is None:
        image.set_sform(affine, code=_SCANNER_SPACE)
        image.set_qform(affine, code=_SCANNER_SPACE)
        image.header.set_xyzt_units("mm")
        image.header.set_intent(intent)
    content = image.to_bytes()
    with write_atomically(path) as temporary:
        temporary.write_bytes(compressed(content) if path.name.endswith(".gz") else content)
    return path


def compressed(content: bytes) -> bytes:
    """Return bytes as a gzip stream without a time or a name, so that equal ones stay equal."""
    return igzip.compress(content, compresslevel=1, mtime=0)
