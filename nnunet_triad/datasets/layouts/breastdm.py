"""BreastDM: stacks of slices as NumPy files, without spacing."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_triad.datasets.case import Case
from nnunet_triad.datasets.layouts.checks import (
    all_files,
    join_some,
    refuse_partial_downloads,
)
from nnunet_triad.datasets.spec import DatasetSpec, Layout
from nnunet_triad.errors import UserError
from nnunet_triad.images import Volume, write_volume
from nnunet_triad.numpy_file import read_npy

_SEQUENCES = ("VIBRANT", "VIBRANT+C2", "SUB2")  # before contrast, after it, their difference
_LABELLED = "VIBRANT+C2"
_SPLITS = {"train": "train", "val": "valid", "test": "test"}
_FOREGROUND = 255
# Rows run to the patient's back and columns to the left; the files hold no spacing: 1 mm.
_AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, kw_only=True)
class BreastDmLayout(Layout):
    """`seg3D/{train,val,test}/{images,labels}/BreaDM-Ma-1802/{VIBRANT,VIBRANT+C2,SUB2}.npy`.

    Each file is float64 (rows, columns, slices) from 0 to 255. Cases are those that have images:
    the released training labels hold orphans, masks of patients whose images are in the test part.
    """

    @property
    def description(self) -> str:
        """Folders and file names."""
        return (
            "seg3D/{train,val,test}/{images,labels}/BreaDM-{Ma,Be}-NNNN/"
            "{VIBRANT, VIBRANT+C2, SUB2}.npy"
        )

    def find_cases(self, source: Path, spec: DatasetSpec) -> list[Case]:
        """Return one case a patient, with three channels.

        Raises:
            UserError: nothing is there, a patient is in two parts, or files are missing.
        """
        files = list(all_files(source))
        refuse_partial_downloads(files)
        patients: dict[str, set[Path]] = defaultdict(set)
        for path in files:
            *_, split, kind, patient, _ = ("", "", "", *path.parts)
            if path.suffix == ".npy" and kind == "images" and split in _SPLITS:
                patients[patient].add(path.parent)
        if not patients:
            raise UserError(
                f"{source}: expected {self.description}, got no such file; "
                "name the folder into which the archive was unpacked"
            )
        for patient, folders in patients.items():
            if len(folders) > 1:
                one, other = sorted(folders)[:2]
                raise UserError(
                    f"{patient}: expected a patient in one of train, val and test, got {one} and "
                    f"{other}; remove one of the two"
                )
        cases = [_case(folder) for _, (folder,) in sorted(patients.items())]
        _refuse_incomplete(cases, source)
        return cases

    def load_images(self, case: Case) -> list[Volume]:
        """Read one volume a sequence."""
        return [_read(path) for path in case.images]

    def load_label(self, case: Case) -> Volume:
        """Return the mask as 0 and 255; values between are cut at the middle."""
        mask = _read(case.labels[0])
        if mask.voxels.min() < 0 or mask.voxels.max() > _FOREGROUND:
            raise UserError(
                f"{mask.name}: expected values from 0 to {_FOREGROUND}, got {mask.voxels.min():g} "
                f"to {mask.voxels.max():g}; ask for the released masks"
            )
        highest = 1 if mask.voxels.max() <= 1 else _FOREGROUND
        foreground = mask.voxels >= highest / 2
        array = np.where(foreground, _FOREGROUND, 0).astype(np.uint8)
        return Volume(name=mask.name, voxels=array, affine=mask.affine)

    def write_images(self, case: Case, paths: list[Path], *, is_copied: bool) -> None:
        """Write each sequence as NIfTI."""
        for source, path in zip(case.images, paths, strict=True):
            volume = _read(source)
            write_volume(path, volume.voxels, volume.affine)

    def label_file(self, case: Case) -> Path | None:
        """Return nothing: nnU-Net does not read NumPy files."""
        return None


def _case(folder: Path) -> Case:
    labels = folder.parents[1] / "labels" / folder.name
    return Case(
        name=folder.name,
        images=tuple(folder / f"{sequence}.npy" for sequence in _SEQUENCES),
        labels=(labels / f"{_LABELLED}.npy",),
        patient=folder.name,
        split=_SPLITS[folder.parents[1].name],
    )


def _read(path: Path) -> Volume:
    """Read (rows, columns, slices) as (x, y, z), in bytes where nothing is lost."""
    array = np.ascontiguousarray(read_npy(path, num_axes=3).transpose(1, 0, 2))
    as_bytes = np.clip(array, 0, 255).astype(np.uint8)
    kept = as_bytes if np.array_equal(as_bytes, array) else array.astype(np.float32)
    return Volume(name=str(path), voxels=kept, affine=_AFFINE)


def _refuse_incomplete(cases: list[Case], source: Path) -> None:
    missing = [
        str(Path(*path.parts[-4:])) for case in cases for path in case.files if not path.is_file()
    ]
    if missing:
        raise UserError(
            f"{source}: expected all files of {len(cases)} cases, got some incomplete: "
            f"{join_some(missing)} missing; finish the download, or move incomplete cases elsewhere"
        )
