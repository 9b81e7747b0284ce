from pathlib import Path

import pytest

from nnunet_triad.errors import UserError
from nnunet_triad.phantom.population import Population
from nnunet_triad.phantom.writers.folder import SETTINGS_FILE, open_folder


def enter(folder: Path, population: Population, **more: object) -> Path:
    with open_folder(folder, population, **more) as opened:
        return opened


def test_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    enter(tmp_path, Population(num_subjects=2, seed=1), layout="bids")
    with pytest.raises(UserError, match="got another num_subjects, seed; name another folder"):
        enter(tmp_path, Population(num_subjects=3, seed=2), layout="bids")


def test_folder_of_the_same_settings_is_continued(tmp_path: Path) -> None:
    population = Population(num_subjects=2, seed=1)
    assert enter(tmp_path, population, names=("a", "b")) == tmp_path
    assert enter(tmp_path, population, names=("a", "b")) == tmp_path


def test_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="expected a new or empty folder, got other files"):
        enter(tmp_path, Population(num_subjects=2))


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="expected a folder, got a file"):
        enter(tmp_path / "file", Population(num_subjects=2))


def test_damaged_settings_are_refused(tmp_path: Path) -> None:
    (tmp_path / SETTINGS_FILE).write_text("{")
    with pytest.raises(UserError, match="expected JSON, got something else"):
        enter(tmp_path, Population(num_subjects=2))


def test_what_a_killed_call_left_half_written_neither_blocks_nor_stays(tmp_path: Path) -> None:
    folder = tmp_path / "phantoms"
    folder.mkdir()
    (folder / f".{SETTINGS_FILE}.a1b2c3d4.json").write_text("{")
    enter(folder, Population(num_subjects=2))
    (folder / "sub-000" / "anat").mkdir(parents=True)
    (folder / "sub-000" / "anat" / ".sub-000_T1w.nii.gz.a1b2c3d4.gz").write_bytes(b"half")
    enter(folder, Population(num_subjects=2))
    assert [p.name for p in folder.rglob("*") if p.is_file()] == [SETTINGS_FILE]


def test_a_second_call_at_the_same_time_is_refused(tmp_path: Path) -> None:
    population = Population(num_subjects=2)
    with (
        open_folder(tmp_path, population),
        pytest.raises(UserError, match="no other triad-phantom writes to"),
    ):
        enter(tmp_path, population)
