"""Reading image files: NIfTI, whatever else nibabel reads, MetaImage and NRRD."""

import contextlib
import enum
import math
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from isal import igzip, igzip_lib
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from nnunet_triad.errors import UserError
from nnunet_triad.images.orientation import is_singular
from nnunet_triad.images.units import mm_per_unit
from nnunet_triad.images.volume import Volume

# Ending -> SimpleITK's reader, which is named so that the ending's case does not count.
_ITK_READERS = {
    ".mhd": "MetaImageIO",
    ".mha": "MetaImageIO",
    ".nrrd": "NrrdImageIO",
    ".nhdr": "NrrdImageIO",
}

# Ending -> those of the file beside it that holds the voxels, or the header.
_BESIDE = {".hdr": (".img", ".img.gz"), ".img": (".hdr", ".hdr.gz")}

# What a header of MetaImage or NRRD says of the file of its voxels; a list of files follows it.
_NAMED = re.compile(rb"^(?:ElementDataFile[ \t]*[=:]|data ?file:)[ \t]*(.*)", re.M | re.S | re.I)
_LARGEST_HEADER = 1 << 20  # bytes; a larger file holds its voxels itself

_MAX_VOXELS = 1 << 32  # to read at once: five of the longest functional series

# Found by reading spoilt files: nibabel passes on what its parts raise, which is no one family.
# The error of isal's C module is no exception for its type stubs.
_UNREADABLE: tuple[type[Exception], ...] = (
    ImageFileError,
    HeaderDataError,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
    RuntimeError,  # of SimpleITK
    zlib.error,
    igzip_lib.IsalError,  # type: ignore[assignment]
)


class Nan(enum.Enum):
    """What is done with voxels that are no finite number: NaN and infinity."""

    REFUSE = enum.auto()  # the file
    ZERO = enum.auto()  # they become zero
    LOWEST = enum.auto()  # they become the smallest finite value
    KEEP = enum.auto()  # the caller has a rule of its own


class UnreadableImageError(UserError):
    """A file that is no image, or not a whole one; `reason` quotes neither its path nor content."""

    def __init__(self, path: Path, reason: str, cause: Exception | None = None) -> None:
        self.reason = reason if cause is None else f"{reason} ({type(cause).__name__})"
        detail = "" if cause is None else ": " + str(cause).strip().partition("\n")[0][:120]
        advice = "copy, download or convert it again" if path.is_file() else "check its path"
        super().__init__(
            f"{path}: expected a whole image (NIfTI, MetaImage, NRRD) of one number a voxel, got "
            f"{self.reason}{detail}; {advice}"
        )


class ImageFile:
    """An image file of which the header has been read, and the voxels can be.

    Attributes:
        shape: as the file has it: x, y, z, and more axes behind them.
        affine: (4, 4), voxel to world (RAS), mm, whatever the file's unit is.
        header: where it is NIfTI, in the file's unit.
    """

    def __init__(self, path: Path, image: Any, stream: igzip.IGzipFile | None) -> None:
        self.shape = tuple(int(length) for length in image.shape)
        self.affine = np.asarray(image.affine, dtype=np.float64)
        is_nifti = isinstance(image.header, nib.Nifti1Header)
        self.header: nib.Nifti1Header | None = image.header if is_nifti else None
        if self.header is not None:
            self.affine[:3] *= mm_per_unit(self.header)
        self._path, self._data, self._stream = path, image.dataobj, stream

    def read(
        self, *, time_point: int | None = None, is_scaled: bool = True
    ) -> npt.NDArray[np.number]:
        """Read the voxels in the file's own type, whatever they are.

        Args:
            time_point: of a series, to read it alone; default: all there is, to the last byte, so
                that the checksum of a compressed file is compared.
            is_scaled: apply the header's slope and intercept, as nibabel does.

        Raises:
            UnreadableImageError: the file is incomplete or damaged.
        """
        others = () if time_point is None else (time_point, *[0] * (len(self.shape) - 4))
        count = math.prod(self.shape if time_point is None else self.shape[:3])
        if count > _MAX_VOXELS:
            raise UnreadableImageError(self._path, f"{count:.3g} voxels, more than {_MAX_VOXELS}")
        try:
            data = self._data
            voxels = np.asarray(data[(..., *others)] if is_scaled else data.get_unscaled())
            while self._stream is not None and not others and self._stream.read(1 << 20):
                pass
        except _UNREADABLE as error:
            raise UnreadableImageError(self._path, "truncated or damaged", error) from error
        return voxels.astype(voxels.dtype.newbyteorder("="), copy=False)


def image_files(path: Path) -> list[Path]:
    """Return an image's file, and those beside it that hold its voxels or its header.

    Those of MetaImage and NRRD are the ones that the header names, if they are there.
    """
    if path.suffix.lower() in _ITK_READERS:
        named: list[Path] = []
        with contextlib.suppress(OSError, ValueError):  # of a spoilt header, which reading refuses
            named = _named_files(path)
        return [path, *named]
    bare = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    endings = _BESIDE.get(bare.suffix.lower(), ())
    others = [bare.with_suffix(one) for ending in endings for one in (ending, ending.upper())]
    return [path, *(other for other in others if other.is_file())]


def _named_files(header: Path) -> list[Path]:
    """Return the files of voxels that a header names: one, a list, or all of a pattern.

    Source: the formats' definitions (MetaIO, ElementDataFile; NRRD, detached headers): a name is
    relative to the header; after LIST comes a name a line; a pattern is that of `printf`.
    """
    if not header.is_file() or header.stat().st_size > _LARGEST_HEADER:
        return []
    content = header.read_bytes().replace(b"\r\n", b"\n")
    if content.startswith(b"NRRD"):
        content = content.partition(b"\n\n")[0]  # voxels may follow
    match = _NAMED.search(content)
    first, *others = match[1].split(b"\n") if match else [b""]
    names = [os.fsdecode(name.strip()) for name in (first, *others)]
    if names[0].startswith("LIST"):
        found = [header.parent / name for name in names[1:] if name]
    elif "%" in (pattern := names[0].partition(" ")[0]):  # then numbers: first, last, step
        place = header.parent / re.sub(r"%\w*?[a-z]", "*", pattern)
        found = sorted(place.parent.glob(place.name))
    else:
        found = [header.parent / names[0]]
    return [file for file in found if file.is_file() and file != header]


@contextlib.contextmanager
def open_image(path: Path) -> Iterator[ImageFile]:
    """Open an image file and read its header.

    Compressed NIfTI files are unpacked by isal, three times as fast as Python's gzip.

    Raises:
        UnreadableImageError: it is missing, empty, no image, or holds no single real numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise UnreadableImageError(path, "no file")
    if path.stat().st_size == 0:
        raise UnreadableImageError(path, "empty file (0 bytes)")
    with nib.imageglobals.LoggingOutputSuppressor(), contextlib.ExitStack() as stack:
        try:
            image, stream = _load(path, stack)
            dtype = image.get_data_dtype()
            file = ImageFile(path, image, stream)
        except _UNREADABLE as error:
            raise UnreadableImageError(path, f"not a readable {_format(path)}", error) from error
        if dtype.kind not in "iufb":
            raise UnreadableImageError(path, f"values of type {dtype}, not one number a voxel")
        yield file


def _format(path: Path) -> str:
    is_nifti = path.name.lower().removesuffix(".gz").endswith(".nii")
    return "NIfTI file" if is_nifti else "image file"


def _load(path: Path, stack: contextlib.ExitStack) -> tuple[Any, igzip.IGzipFile | None]:
    name = path.name.lower()
    if reader := _ITK_READERS.get(Path(name).suffix):
        from nnunet_triad.images.itk import read_itk  # SimpleITK is slow to import

        return read_itk(path, reader), None
    image = nib.load(path)
    if not name.endswith(".gz") or not isinstance(image, nib.Nifti1Image):
        return image, None
    stream = stack.enter_context(igzip.open(path))
    return type(image).from_stream(stream), stream


def read_volume(
    path: Path, *, nan: Nan, dtype: npt.DTypeLike | None = np.float32, min_length: int = 2
) -> Volume:
    """Read a 3D image.

    Args:
        path: its file; axes of length one behind the third do not count.
        nan: what is done with NaN and infinity.
        dtype: of the voxels; None: the file's own, after its scaling.
        min_length: voxels that each axis has at least.

    Raises:
        UserError: it is missing, damaged, no 3D volume of real numbers, has no grid in space, or
            voxels that `nan` refuses.
    """
    with open_image(path) as file:
        shape = _shape_of_volume(path, file.shape, min_length)
        if is_singular(file.affine):
            raise UserError(
                f"{path}: expected an affine with three directions, got {file.affine.tolist()}; "
                "repair the header (qform or sform)"
            )
        with np.errstate(over="ignore"):  # what float32 does not hold is infinity, for `nan`
            # a copy, since an uncompressed file is mapped; its order of axes is kept
            voxels = np.array(file.read(), dtype=dtype, order="K").reshape(shape, order="A")
    num_filled = _fill(voxels, nan, path)
    return Volume(
        voxels=voxels,
        affine=file.affine,
        name=str(path),
        num_filled=num_filled,
        header=file.header,
    )


def _shape_of_volume(path: Path, shape: tuple[int, ...], min_length: int) -> tuple[int, int, int]:
    x, y, z, *others = (*shape, 1, 1, 1)[: max(3, len(shape))]
    text = " x ".join(map(str, shape))
    if any(length != 1 for length in others):
        raise UserError(
            f"{path}: expected a 3D volume, got {len(shape)}D of {text} voxels; split it into "
            "volumes (of a series, give one time point)"
        )
    if len(shape) < 3 or min(x, y, z) < min_length:
        raise UserError(
            f"{path}: expected a 3D volume of at least {min_length} voxels along each axis, got "
            f"{text}; a single slice is no volume"
        )
    return x, y, z


def _fill(voxels: npt.NDArray[np.number], nan: Nan, path: Path) -> int:
    """Replace, in place, what is no finite number; return how many voxels were."""
    if nan is Nan.KEEP or voxels.dtype.kind != "f":
        return 0
    is_finite = np.isfinite(voxels)
    num_filled = int(is_finite.size - np.count_nonzero(is_finite))
    if not num_filled:
        return 0
    if nan is Nan.REFUSE or num_filled == voxels.size:
        raise UserError(
            f"{path}: expected finite intensities, got NaN or infinity in {num_filled} of "
            f"{voxels.size} voxels; replace them by a value of the background"
        )
    voxels[~is_finite] = 0 if nan is Nan.ZERO else voxels[is_finite].min()
    return num_filled
