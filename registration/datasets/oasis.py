"""OASIS in the three layouts in which its registration data are published.

- TransMorph: All/*.pkl = (image, labels), paired at random;
  Test/*.pkl = (x, y, x labels, y labels).
- neurite-OASIS and Learn2Reg 2021: OASIS_OAS1_0001_MR1/{aligned_norm,aligned_seg35}.nii.gz, with
  pairs_val.csv (columns fixed, moving: subject numbers) in Learn2Reg's.
- Learn2Reg from 2022 on: imagesTr/OASIS_0001_0000.nii.gz, labelsTr of the same names, and
  OASIS_dataset.json with registration_val.

Training images are paired at random at each epoch. The 19 validation pairs are also the test pairs,
as in the paper: the challenge's own test labels are not public. Choosing a model on them biases its
score upwards.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from nnunet_triad.errors import UserError
from nnunet_triad.tables import read_table
from nnunet_triad.texts import read_json
from registration.datasets.convert import convert_pickle, nifti_files
from registration.manifest import Pair

NUM_VALIDATION_SUBJECTS = 20  # the last ones, one after the other: 19 pairs


def prepare_oasis(source: Path, output: Path, progress: Callable[[str], None]) -> list[Pair]:
    """List the pairs of OASIS; pickles are converted to NIfTI.

    Args:
        source: the dataset's folder in one of the three layouts.
        output: receives images/ and labels/ from pickles; files that are there already are kept.
        progress: called with each subject's name.

    Raises:
        UserError: the layout is another, or a pickle is refused.
    """
    if (source / "All").is_dir():
        return _from_pickles(source, output, progress)
    if (source / "OASIS_dataset.json").is_file():
        return _from_learn2reg(source)
    subjects = sorted(path.parent for path in source.glob("*/aligned_norm.nii.gz"))
    if subjects:
        return _from_neurite(source, subjects)
    raise UserError(
        f"{source}: expected All/*.pkl (TransMorph), */aligned_norm.nii.gz (neurite-OASIS) or "
        "OASIS_dataset.json (Learn2Reg), got none of them"
    )


def _from_pickles(source: Path, output: Path, progress: Callable[[str], None]) -> list[Pair]:
    pairs = []
    for file in sorted((source / "All").glob("*.pkl")):
        progress(file.stem)
        image, labels = nifti_files(output, file.stem)
        convert_pickle(file, ((image, labels),))
        pairs.append(Pair(moving=image, fixed=None, moving_labels=labels, split="train"))
    validation = []
    for file in sorted((source / "Test").glob("*.pkl")):
        progress(file.stem)
        moving, fixed = (nifti_files(output, f"{file.stem}_{side}") for side in ("x", "y"))
        convert_pickle(file, (moving, fixed))
        validation.append(_labelled(moving, fixed))
    return _with_test(pairs, validation)


def _from_neurite(source: Path, subjects: list[Path]) -> list[Pair]:
    def files(subject: Path) -> tuple[Path, Path]:
        return subject / "aligned_norm.nii.gz", subject / "aligned_seg35.nii.gz"

    table = source / "pairs_val.csv"
    if table.is_file():
        by_number = {_subject_number(subject.name): subject for subject in subjects}
        rows = read_table(table, "pairs of subjects (CSV)").to_dict("records")
        try:
            chosen = [(by_number[int(r["moving"])], by_number[int(r["fixed"])]) for r in rows]
        except (KeyError, ValueError, TypeError) as error:
            raise UserError(
                f"{table}: expected columns fixed and moving with numbers of subjects that are "
                f"there, got {error}"
            ) from None
    else:
        last = subjects[-NUM_VALIDATION_SUBJECTS:]
        chosen = list(zip(last[1:], last[:-1], strict=True))
    held_out = {subject for pair in chosen for subject in pair}
    train = [
        Pair(moving=files(s)[0], fixed=None, moving_labels=files(s)[1], split="train")
        for s in subjects
        if s not in held_out
    ]
    return _with_test(train, [_labelled(files(moving), files(fixed)) for moving, fixed in chosen])


def _subject_number(name: str) -> int:
    """OASIS_OAS1_0438_MR1 -> 438."""
    found = re.search(r"OAS1_(\d+)", name) or re.search(r"(\d+)", name)
    return int(found.group(1)) if found else -1


def _from_learn2reg(source: Path) -> list[Pair]:
    path = source / "OASIS_dataset.json"
    try:
        content = read_json(path)
        chosen = [(row["moving"], row["fixed"]) for row in content["registration_val"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: expected registration_val with pairs, got {error!r}") from None

    def files(name: str) -> tuple[Path, Path]:
        file = Path(name).name
        return source / "imagesTr" / file, source / "labelsTr" / file

    held_out = {Path(name).name for pair in chosen for name in pair}
    train = [
        Pair(moving=file, fixed=None, moving_labels=source / "labelsTr" / file.name, split="train")
        for file in sorted((source / "imagesTr").glob("*.nii.gz"))
        if file.name not in held_out
    ]
    return _with_test(train, [_labelled(files(moving), files(fixed)) for moving, fixed in chosen])


def _labelled(moving: tuple[Path, Path], fixed: tuple[Path, Path]) -> Pair:
    return Pair(
        moving=moving[0],
        fixed=fixed[0],
        moving_labels=moving[1],
        fixed_labels=fixed[1],
        split="val",
    )


def _with_test(train: list[Pair], validation: list[Pair]) -> list[Pair]:
    return [*train, *validation, *(replace(pair, split="test") for pair in validation)]
