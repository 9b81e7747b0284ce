from pathlib import Path

import pytest

from nnunet_triad.errors import UserError
from nnunet_triad.phantom.population import Population
from nnunet_triad.phantom.writers.folder import SETTINGS_FILE, open_folder


def test_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    open_folder(tmp_path, Population(num_subjects=2, seed=1), layout="bids")
    with pytest.raises(UserError, match="got another num_subjects, seed; name another folder"):
        open_folder(tmp_path, Population(num_subjects=3, seed=2), layout="bids")


def test_folder_of_the_same_settings_is_continued(tmp_path: Path) -> None:
    population = Population(num_subjects=2, seed=1)
    assert open_folder(tmp_path, population, names=("a", "b")) == tmp_path
    assert open_folder(tmp_path, population, names=("a", "b")) == tmp_path


def test_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="expected a new or empty folder, got other files"):
        open_folder(tmp_path, Population(num_subjects=2))


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="expected a folder, got a file"):
        open_folder(tmp_path / "file", Population(num_subjects=2))


def test_damaged_settings_are_refused(tmp_path: Path) -> None:
    (tmp_path / SETTINGS_FILE).write_text("{")
    with pytest.raises(UserError, match="expected JSON, got something else"):
        open_folder(tmp_path, Population(num_subjects=2))
