"""ACDC as its authors publish it: a folder a patient.

patientNNN/{Info.cfg, patientNNN_frameMM.nii.gz, patientNNN_frameMM_gt.nii.gz}

The paper states no pairing, labels or validation split. Chosen here: within a patient, end-diastole
moves to end-systole, so that the contours drawn at rest follow the contraction; all three labels;
the 50 patients of `testing` are the test set, and of `training` the last four of each twenty, which
belong to one of the five diagnoses, are for validation: 80, 20 and 50.
"""

import re
from collections.abc import Callable
from pathlib import Path

from nnunet_triad.errors import UserError
from nnunet_triad.texts import read_short_text
from registration.manifest import Pair

_NUM_TEST_FIRST = 101  # patients 101 to 150 are the test set
_GROUP, _NUM_VALIDATION = 20, 4  # patients of one diagnosis, and how many of them validate


def prepare_acdc(source: Path, output: Path, progress: Callable[[str], None]) -> list[Pair]:
    """List the pairs of ACDC; the files stay where they are.

    Args:
        source: the folder `database`, with training/ and testing/, or one that holds the patients.
        output: unused; the manifest is all that is written.
        progress: called with each patient's name.

    Raises:
        UserError: the layout is another, or a patient lacks a file.
    """
    infos = sorted(source.glob("**/patient[0-9]*/Info.cfg"))
    if not infos:
        raise UserError(
            f"{source}: expected ACDC's patientNNN folders with Info.cfg, got none; "
            "give the folder that holds training and testing"
        )
    pairs = []
    for info in infos:
        progress(info.parent.name)
        pairs.append(_pair(info))
    return pairs


def _pair(info: Path) -> Pair:
    folder, name = info.parent, info.parent.name
    phases = read_info(info)
    files = {}
    for phase in ("ED", "ES"):
        for kind, ending in (("image", ""), ("labels", "_gt")):
            stem = folder / f"{name}_frame{phases[phase]:02d}{ending}"
            file = next((p for p in _candidates(stem) if p.is_file()), None)
            if file is None:
                raise UserError(f"{stem}.nii.gz: expected {name}'s {kind} at {phase}, got no file")
            files[phase, kind] = file
    return Pair(
        moving=files["ED", "image"],
        fixed=files["ES", "image"],
        moving_labels=files["ED", "labels"],
        fixed_labels=files["ES", "labels"],
        split=split_of(int(re.sub(r"\D", "", name))),
    )


def _candidates(stem: Path) -> tuple[Path, ...]:
    """Return both spellings; some copies are unpacked to .nii."""
    return stem.with_name(stem.name + ".nii.gz"), stem.with_name(stem.name + ".nii")


def read_info(path: Path) -> dict[str, int]:
    """Return the frame numbers ED and ES of an Info.cfg (lines `KEY: VALUE`).

    Raises:
        UserError: one is missing or no number.
    """
    text = read_short_text(path, errors="replace")
    lines = (line.partition(":") for line in text.splitlines())
    values = {key.strip(): value.strip() for key, _, value in lines}
    frames = {phase: values.get(phase, "") for phase in ("ED", "ES")}
    for phase, value in frames.items():
        if not value.isdigit():
            raise UserError(f"{path}: expected a frame number as {phase}, got {value!r}")
    return {phase: int(value) for phase, value in frames.items()}


def split_of(number: int) -> str:
    """Return the split of patient `number`, from 1."""
    if number >= _NUM_TEST_FIRST:
        return "test"
    return "val" if (number - 1) % _GROUP >= _GROUP - _NUM_VALIDATION else "train"
