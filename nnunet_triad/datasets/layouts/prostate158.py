"""Prostate158: a folder a study, with zones and tumours in files of their own."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nnunet_triad.datasets.case import Case
from nnunet_triad.datasets.layouts.checks import (
    all_files,
    join_some,
    refuse_missing,
    refuse_partial_downloads,
)
from nnunet_triad.datasets.published import geometry_difference, read_nifti
from nnunet_triad.datasets.spec import DatasetSpec, Layout
from nnunet_triad.errors import UserError
from nnunet_triad.images import Volume
from nnunet_triad.tables import read_table

_CHANNELS = ("t2", "adc", "dwi")
_ANATOMY, _TUMOUR = "t2_anatomy_reader1", "adc_tumor_reader1"
_TABLES = ("train.csv", "valid.csv", "test.csv")
_TUMOUR_VALUE = 3  # the zones are 1 and 2


@dataclass(frozen=True, kw_only=True)
class Prostate158Layout(Layout):
    """`train/020/{t2,adc,dwi,t2_anatomy_reader1,adc_tumor_reader1}.nii.gz` and CSV tables.

    Source: the dataset's Zenodo records and its authors' training code, which reads the first
    reader's zones and the first reader's tumours on the ADC map. A study without a tumour has
    `empty.nii.gz` in place of `adc_tumor_reader1.nii.gz`.
    Differs: the authors train two models. Here tumours are painted over the zones.
    """

    @property
    def description(self) -> str:
        """Folders and file names."""
        return (
            "prostate158_train/{train.csv, valid.csv, train/NNN/{t2, adc, dwi, "
            "t2_anatomy_reader1, adc_tumor_reader1 or empty}.nii.gz}, and prostate158_test alike"
        )

    def find_cases(self, source: Path, spec: DatasetSpec) -> list[Case]:
        """Return all studies below `source`, those of the test archive included.

        Raises:
            UserError: nothing is there, a study is there twice, or files are missing.
        """
        files = list(all_files(source))
        refuse_partial_downloads(files)
        tables = [path for path in files if path.name in _TABLES]
        splits = _read_tables(tables)
        folders: dict[str, Path] = {}
        for path in files:
            if path.name == "t2.nii.gz" and path.parent.parent.name in ("train", "test"):
                other = folders.setdefault(path.parent.name, path.parent)
                if other != path.parent:
                    raise UserError(
                        f"{path.parent.name}: expected one folder for each study, got {other} and "
                        f"{path.parent}; remove one of the two"
                    )
        if not folders:
            raise UserError(
                f"{source}: expected {self.description}, got no such file; "
                "name the folder into which the archives were unpacked"
            )
        _refuse_incomplete(folders, source)
        return [
            _case(name, folder, splits.get(name, folder.parent.name))
            for name, folder in sorted(folders.items())
        ]

    def load_label(self, case: Case) -> Volume:
        """Return the zones, with tumours as value 3 over them."""
        zones = read_nifti(case.labels[0], is_label=True)
        if len(case.labels) == 1:
            return zones
        tumour = read_nifti(case.labels[1], is_label=True)
        difference = geometry_difference(zones, tumour)
        if difference:
            raise UserError(
                f"{tumour.name}: expected the grid of {zones.name}, got {difference}; "
                "unpack the archive again"
            )
        return replace(zones, voxels=np.where(tumour.voxels > 0, _TUMOUR_VALUE, zones.voxels))

    def label_file(self, case: Case) -> Path | None:
        """Return nothing: a label is made of two files."""
        return None


def _case(name: str, folder: Path, split: str) -> Case:
    tumour = folder / f"{_TUMOUR}.nii.gz"
    labels = (folder / f"{_ANATOMY}.nii.gz", *([tumour] if tumour.is_file() else []))
    full_name = f"Prostate158_{name}"
    return Case(
        name=full_name,
        images=tuple(folder / f"{channel}.nii.gz" for channel in _CHANNELS),
        labels=labels,
        patient=full_name,
        split=split,
    )


def _read_tables(tables: list[Path]) -> dict[str, str]:
    """Return the published split of each study, once every listed file has been found."""
    splits: dict[str, str] = {}
    for path in tables:
        table = read_table(path, "the published table", columns=["ID"])
        if "ID" not in table:
            raise UserError(
                f"{path}: expected a column ID, got {', '.join(table.columns)}; "
                "unpack the archive again"
            )
        listed = [name for column in table.columns.drop("ID") for name in table[column]]
        files = [path.parent / name for name in listed if name.endswith(".nii.gz")]
        refuse_missing(files, path)
        for name in table["ID"]:
            if splits.setdefault(str(name).zfill(3), path.stem) != path.stem:
                raise UserError(
                    f"{path}: expected each study in one table, got {name} in "
                    f"{splits[str(name).zfill(3)]}.csv too; remove it from one of the two"
                )
    return splits


def _refuse_incomplete(folders: dict[str, Path], source: Path) -> None:
    missing = [
        f"{name}/{part}.nii.gz"
        for name, folder in sorted(folders.items())
        for part in (*_CHANNELS, _ANATOMY)
        if not (folder / f"{part}.nii.gz").is_file()
    ]
    missing += [
        f"{name}/{_TUMOUR}.nii.gz"
        for name, folder in sorted(folders.items())
        if not any((folder / f"{part}.nii.gz").is_file() for part in (_TUMOUR, "empty"))
    ]
    if missing:
        raise UserError(
            f"{source}: expected all files of {len(folders)} cases, got some incomplete: "
            f"{join_some(missing)} missing; finish the download, or move incomplete cases elsewhere"
        )
