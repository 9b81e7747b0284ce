from pathlib import Path

import pydicom
import pytest

from nnunet_triad.phantom.population import Population
from nnunet_triad.phantom.writers.dicom_tree import write_dicom
from tests.phantom.writers.conftest import tree_bytes

NAMES = ("T2w", "T1w")


def pelvises(seed: int) -> Population:
    return Population(num_subjects=2, seed=seed, spacing_mm=8.0, anatomies=("pelvis",))


def test_tree_is_repeated_to_the_same_bytes(tmp_path: Path) -> None:
    first, second = (
        write_dicom(tmp_path / name, pelvises(1), sequence_names=NAMES) for name in "ab"
    )
    assert tree_bytes(first) == tree_bytes(second)


@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_tree_holds_a_study_a_subject_and_a_series_a_sequence(tmp_path: Path, kind: str) -> None:
    folder = write_dicom(tmp_path / "tree", pelvises(1), sequence_names=NAMES, kind=kind)
    headers = [pydicom.dcmread(p, stop_before_pixels=True) for p in folder.rglob("*.dcm")]
    studies = {header.StudyInstanceUID: header.PatientID for header in headers}
    series = {header.SeriesInstanceUID: header.StudyInstanceUID for header in headers}
    assert len(studies) == len(set(studies.values())) == 2
    assert sorted(series.values()) == sorted([*studies, *studies])
    assert sorted(path.name for path in (folder / "sub-000").iterdir()) == ["001_T2w", "002_T1w"]


def test_populations_share_no_patient(tmp_path: Path) -> None:
    patients = []
    for seed in (1, 2):
        folder = write_dicom(tmp_path / str(seed), pelvises(seed), sequence_names=("T1w",))
        headers = [pydicom.dcmread(p, stop_before_pixels=True) for p in folder.rglob("*.dcm")]
        patients.append({(header.PatientID, header.StudyInstanceUID) for header in headers})
    assert not patients[0] & patients[1]
