"""One case: read, check, convert, and put in its place as a whole."""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_triad.datasets.case import Case
from nnunet_triad.datasets.published import geometry_difference, place
from nnunet_triad.datasets.spec import DatasetSpec
from nnunet_triad.errors import UserError
from nnunet_triad.images import Volume, open_image, write_volume
from nnunet_triad.training.settings import Settings, option

ENDING = ".nii.gz"
UNFINISHED = ".unfinished"  # in the dataset's folder; nnU-Net does not look there


@dataclass(frozen=True, kw_only=True)
class ConversionOptions(Settings):
    """How files come to nnU-Net's folder."""

    is_copied: bool = option(
        False, "Copy files that can be used as they are; without: symbolic links.", flag="--copy"
    )
    is_geometry_from_image: bool = option(
        False,
        "Where only headers differ, take the first channel's for the label and the rest.",
        flag="--geometry-from-image",
    )


@dataclass(frozen=True, kw_only=True)
class ConvertedCase:
    """What is known of a case once it has been converted.

    Attributes:
        case: it.
        sha256: of its first channel's voxels, to find one image under two names.
        is_readable_by_itk: whether SimpleITK, nnU-Net's usual reader, takes its geometry.
    """

    case: Case
    sha256: str
    is_readable_by_itk: bool


def convert_case(
    spec: DatasetSpec, case: Case, folder: Path, options: ConversionOptions
) -> ConvertedCase:
    """Bring one case into nnU-Net's raw folder, or raise and leave nothing of it there.

    The files are made in a folder of their own, and then renamed one after the other, the label
    last.

    Args:
        spec: the dataset.
        case: its files.
        folder: the dataset's folder in nnUNet_raw.
        options: links or copies.

    Raises:
        UserError: a file is damaged, or does not fit the others or the dataset.
    """
    from nnunet_triad.images.itk import is_readable_by_itk  # SimpleITK is slow to import

    images = _checked_images(spec, case, options)
    label = _checked_label(spec, case, images[0], options) if case.has_label else None
    staging = folder / UNFINISHED / case.name
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        paths = [staging / f"{case.name}_{i:04d}{ENDING}" for i in range(len(images))]
        spec.layout.write_images(case, paths, is_copied=options.is_copied)
        _mend_geometry(paths, images)
        if label is not None:
            _write_label(spec, case, label, staging / f"{case.name}{ENDING}", images[0], options)
        is_readable = all(is_readable_by_itk(path) for path in paths)
        _move_into_place(staging, paths, folder, has_label=case.has_label)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return ConvertedCase(case=case, sha256=_sha256(images[0]), is_readable_by_itk=is_readable)


def _sha256(volume: Volume) -> str:
    """Hash values and their type; the same for the same voxels in another file."""
    digest = hashlib.sha256(f"{volume.voxels.dtype}{volume.voxels.shape}".encode())
    digest.update(np.ascontiguousarray(volume.voxels).data)
    return digest.hexdigest()


def _checked_images(spec: DatasetSpec, case: Case, options: ConversionOptions) -> list[Volume]:
    """Return the channels: finite, three axes each, and all on the first one's grid."""
    images = spec.layout.load_images(case)
    if len(images) != len(spec.channels):
        raise UserError(
            f"{case.images[0]}: expected {len(spec.channels)} channels, got {len(images)}; "
            "unpack the archive again, or correct channels or images of the description"
        )
    for image in images:
        if image.voxels.ndim != 3:
            raise UserError(
                f"{image.name}: expected 3 axes, got {image.voxels.ndim}; use the published files"
            )
        if not np.isfinite(image.voxels).all():
            raise UserError(
                f"{image.name}: expected finite intensities, got NaN or infinity; "
                "replace them by a value of the background"
            )
        _check_grid(image, images[0], options)
    return images


def _checked_label(
    spec: DatasetSpec, case: Case, image: Volume, options: ConversionOptions
) -> Volume:
    """Return the label with the values of the source, which are all known."""
    label = spec.layout.load_label(case)
    _check_grid(label, image, options)
    unexpected = [value for value in np.unique(label.voxels) if value not in spec.source_values]
    if unexpected:
        expected = ", ".join(str(value) for value in sorted(spec.source_values))
        got = ", ".join(f"{value:g}" for value in unexpected[:5])
        raise UserError(
            f"{label.name}: expected label values {expected}, got {got}; "
            "use the published labels of this dataset"
        )
    return label


def _check_grid(volume: Volume, image: Volume, options: ConversionOptions) -> None:
    difference = geometry_difference(image, volume)
    has_same_size = volume.voxels.shape == image.voxels.shape
    if not difference or (options.is_geometry_from_image and has_same_size):
        return
    advice = "use the published files"
    if has_same_size:
        advice += ", or pass --geometry-from-image if only its header is wrong"
    raise UserError(f"{volume.name}: expected the grid of {image.name}, got {difference}; {advice}")


def _mend_geometry(paths: list[Path], images: list[Volume]) -> None:
    """Rewrite channels whose header differs from the first one's, by rounding or by permission."""
    for path, image in zip(paths[1:], images[1:], strict=True):
        if not _is_exactly_like(images[0], image):
            with open_image(path) as file:
                voxels = file.read()
            write_volume(path, voxels, images[0].affine, header=images[0].header)


def _write_label(
    spec: DatasetSpec,
    case: Case,
    label: Volume,
    path: Path,
    image: Volume,
    options: ConversionOptions,
) -> None:
    """Link or copy the published label where it can be used as it is; write it otherwise."""
    file = spec.layout.label_file(case)
    is_unchanged = all(value == mapped for value, mapped in spec.source_values.items())
    if file is not None and is_unchanged and _is_exactly_like(image, label):
        place(file, path, is_copied=options.is_copied)
        return
    mapped = np.zeros(label.voxels.shape, np.min_scalar_type(max(spec.label_values)))
    for value, target in spec.source_values.items():
        mapped[label.voxels == value] = target
    write_volume(path, mapped, image.affine, header=image.header)


def _is_exactly_like(one: Volume, other: Volume) -> bool:
    """Return whether nnU-Net's own, stricter comparison of spacings and origins holds."""
    return np.allclose(one.affine, other.affine, rtol=1e-6, atol=1e-6)


def _move_into_place(staging: Path, paths: list[Path], folder: Path, *, has_label: bool) -> None:
    images = folder / ("imagesTr" if has_label else "imagesTs")
    images.mkdir(exist_ok=True)
    for path in paths:
        _sync(path)
        path.replace(images / path.name)
    if has_label:
        label = staging / f"{staging.name}{ENDING}"
        (folder / "labelsTr").mkdir(exist_ok=True)
        _sync(label)
        label.replace(folder / "labelsTr" / label.name)


def _sync(path: Path) -> None:
    if not path.is_symlink():
        with path.open("rb+") as file:
            os.fsync(file.fileno())
