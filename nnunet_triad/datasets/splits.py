"""nnU-Net's `splits_final.json`: by patient, or from a published list."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_triad.datasets.layouts.checks import join_some
from nnunet_triad.datasets.split_files import ListedCase
from nnunet_triad.errors import UserError
from nnunet_triad.files import write_json

SPLITS_FILE = "splits_final.json"
NUM_FOLDS, _SEED = 5, 12345  # nnU-Net's own

Split = dict[str, list[str]]  # "train" and "val", case names


@dataclass(frozen=True, kw_only=True)
class ListedSplit:
    """What a published list makes of a dataset.

    Attributes:
        splits: a fold each.
        num_unknown: listed cases that the dataset does not have.
        num_unused: cases of the dataset that are not on the list.
        divided_patients: patients with cases on both sides of a fold.
    """

    splits: list[Split]
    num_unknown: int
    num_unused: int
    divided_patients: tuple[str, ...]


def split_by_patient(patients: Mapping[str, str], *, num_folds: int = NUM_FOLDS) -> list[Split]:
    """Divide cases into folds, or one for each of fewer patients, whose cases stay together.

    nnU-Net's own division when every case has a patient of its own; folds of about the same number
    of cases otherwise. nnU-Net itself stops at fewer than five cases.

    Args:
        patients: patient by case.
        num_folds: at most.

    Raises:
        UserError: there is one patient only.
    """
    from nnunetv2.utilities.crossval_split import generate_crossval_split
    from sklearn.model_selection import GroupKFold

    names = sorted(patients)
    groups = [patients[name] for name in names]
    num_patients = len(set(groups))
    num_folds = min(num_folds, num_patients)
    if num_folds < 2:
        raise UserError(
            f"patients: expected at least 2, one to train and one to validate, got {num_patients}; "
            "add cases"
        )
    if num_patients == len(names):
        splits = generate_crossval_split(names, seed=_SEED, n_splits=num_folds)
        return [{side: [str(name) for name in fold[side]] for side in fold} for fold in splits]
    folds = GroupKFold(num_folds, shuffle=True, random_state=_SEED).split(names, groups=groups)
    return [
        {"train": [names[i] for i in train], "val": [names[i] for i in val]} for train, val in folds
    ]


def split_from_list(
    listed: Sequence[ListedCase],
    rows: Sequence[Mapping[str, str]],
    *,
    is_partial: bool = False,
) -> ListedSplit:
    """Turn a list of cases with sides or folds into splits of a converted dataset.

    Args:
        listed: the entries of the list.
        rows: the training cases of the dataset's `cases.csv`.
        is_partial: leave out listed cases that have not been converted.

    Raises:
        UserError: cases are unknown, on both sides, or one side is empty.
    """
    names = _CaseNames(rows)
    known = [(names.find(entry), entry) for entry in listed]
    unknown = [entry.text for name, entry in known if name is None]
    if unknown and not is_partial:
        raise UserError(
            f"list: expected cases of the dataset, got {len(unknown)} of {len(known)} that it does "
            f"not have ({join_some(unknown)}); convert the whole dataset, or pass --partial"
        )
    entries = [(name, entry) for name, entry in known if name is not None]
    splits = _make_splits(entries)
    patients = {row["case"]: row["patient"] for row in rows}
    return ListedSplit(
        splits=splits,
        num_unknown=len(unknown),
        num_unused=len(patients.keys() - {name for name, _ in entries}),
        divided_patients=_divided_patients(splits, patients),
    )


def write_splits(folder: Path, splits: list[Split], *, is_overwritten: bool = False) -> Path:
    """Write `splits_final.json` into a dataset's folder in nnUNet_preprocessed.

    Raises:
        UserError: there is another one already; a model may have been trained with it.
    """
    path = folder / SPLITS_FILE
    if path.exists() and not is_overwritten:
        raise UserError(
            f"{path}: expected no splits yet, got some; trained models belong to them: "
            "pass --overwrite to replace them"
        )
    write_json(path, splits)
    return path


class _CaseNames:
    """Finds a case by its name, or by the end of the path of one of its source files."""

    def __init__(self, rows: Iterable[Mapping[str, str]]) -> None:
        self._names: dict[str, set[str]] = {}
        for row in rows:
            keys = {row["case"]}
            for source in row["sources"].split(";"):
                keys |= _keys(source)
            for key in keys:
                self._names.setdefault(key, set()).add(row["case"])

    def find(self, entry: ListedCase) -> str | None:
        """Return the case that all decisive parts of an entry lead to, if there is one."""
        found: set[str] = set()
        for path in entry.paths:
            for key in sorted(_keys(path), key=len, reverse=True):
                names = self._names.get(key, set())
                if len(names) == 1:
                    found |= names
                    break
        if len(found) > 1:
            raise UserError(
                f"{entry.text}: expected an entry of one case, got one that leads to "
                f"{join_some(sorted(found))}; correct the list"
            )
        return next(iter(found), None)


def _keys(path: str) -> set[str]:
    """Return the names under which a path is known: with and without its folder and channel."""
    *folders, name = path.replace("\\", "/").split("/")
    stem = name.removesuffix(".gz").removesuffix(".nii").removesuffix(".npy")
    stems = {stem}
    if len(stem) > 5 and stem[-5] == "_" and stem[-4:].isdecimal() and stem[-4] == "0":
        stems.add(stem[:-5])  # nnU-Net's channel number
    keys = set(stems)
    if folders and folders[-1] not in (".", ""):
        keys |= {f"{folders[-1]}/{stem}" for stem in stems}
    return keys


def _make_splits(entries: Sequence[tuple[str, ListedCase]]) -> list[Split]:
    folds = sorted({entry.fold for _, entry in entries if entry.fold is not None})
    sides: dict[str, ListedCase] = {}
    for name, entry in entries:
        other = sides.setdefault(name, entry)
        if (other.fold, other.is_validation) != (entry.fold, entry.is_validation):
            raise UserError(
                f"{name}: expected each case on one side, got it in {other.place} and "
                f"{entry.place}; remove one of the two"
            )
    without = [name for name, entry in entries if entry.fold is None]
    if folds and without:
        raise UserError(
            f"list: expected a fold for each case or for none, got none for {join_some(without)}; "
            "add it, or remove the folds"
        )
    if folds:
        splits = [
            {
                "train": sorted(name for name, entry in sides.items() if entry.fold != fold),
                "val": sorted(name for name, entry in sides.items() if entry.fold == fold),
            }
            for fold in folds
        ]
    else:
        splits = [
            {
                "train": sorted(name for name, entry in sides.items() if not entry.is_validation),
                "val": sorted(name for name, entry in sides.items() if entry.is_validation),
            }
        ]
    for split in splits:
        for side, names in split.items():
            if not names:
                raise UserError(
                    f"list: expected cases for training and for validation, got none for {side}; "
                    "give it both, or a fold for each case"
                )
    return splits


def _divided_patients(splits: list[Split], patients: Mapping[str, str]) -> tuple[str, ...]:
    divided: set[str] = set()
    for split in splits:
        train, val = ({patients[name] for name in split[side]} for side in ("train", "val"))
        divided |= train & val
    return tuple(sorted(divided))
