"""What nnU-Net's folders hold of each dataset."""

import os
from dataclasses import dataclass
from pathlib import Path

from nnunet_triad.datasets.convert_case import ENDING
from nnunet_triad.datasets.raw_folder import VARIABLES, other_datasets
from nnunet_triad.datasets.records import Journal
from nnunet_triad.datasets.spec import DatasetSpec
from nnunet_triad.datasets.splits import SPLITS_FILE


@dataclass(frozen=True, kw_only=True)
class DatasetStatus:
    """How far a dataset has come.

    Attributes:
        spec: which.
        raw: "", "unfinished" or "converted".
        num_training: labelled cases in nnUNet_raw.
        num_test: test cases there.
        preprocessed: cases by folder of preprocessed data, such as nnUNetPlans_3d_fullres.
        has_splits: whether the splits are fixed.
        trained: finished folds by trainer, plans and configuration.
        conflicts: folders of other datasets with this id.
    """

    spec: DatasetSpec
    raw: str
    num_training: int
    num_test: int
    preprocessed: dict[str, int]
    has_splits: bool
    trained: dict[str, tuple[str, ...]]
    conflicts: tuple[Path, ...]


def dataset_status(spec: DatasetSpec) -> DatasetStatus:
    """Look into nnU-Net's folders; those that are not set count as empty."""
    raw, preprocessed, results = (_folder(variable, spec) for variable in VARIABLES)
    is_converted = (raw / "dataset.json").exists()
    is_begun = Journal(raw).is_open or (raw.exists() and not is_converted)
    state = "unfinished" if is_begun else "converted" if is_converted else ""
    return DatasetStatus(
        spec=spec,
        raw=state,
        num_training=len(list(raw.glob(f"labelsTr/[!.]*{ENDING}"))),
        num_test=len(list(raw.glob(f"imagesTs/[!.]*_0000{ENDING}"))),
        preprocessed=_preprocessed(preprocessed),
        has_splits=(preprocessed / SPLITS_FILE).exists(),
        trained=_trained(results),
        conflicts=tuple(other_datasets(spec)),
    )


def _folder(variable: str, spec: DatasetSpec) -> Path:
    return Path(os.environ.get(variable) or os.devnull) / spec.folder_name


def _preprocessed(folder: Path) -> dict[str, int]:
    cases = {
        path.name: len(list(path.glob("*.pkl")))
        for path in sorted(folder.glob("*"))
        if path.is_dir() and path.name != "gt_segmentations"
    }
    return {name: number for name, number in cases.items() if number}


def _trained(folder: Path) -> dict[str, tuple[str, ...]]:
    folds: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*__*__*/fold_*/checkpoint_final.pth")):
        folds.setdefault(path.parents[1].name, []).append(path.parent.name.removeprefix("fold_"))
    return {name: tuple(numbers) for name, numbers in folds.items()}
