"""What a killed process leaves half-written neither blocks the next one nor stays."""

import os
import time

import pytest

from nnunet_triad.errors import UserError
from nnunet_triad.files import leftover_of, remove_leftovers, write_atomically
from pretraining.store import VolumeStore


def half_written(path):
    """Leave what SIGKILL leaves between the last byte and the rename."""
    with write_atomically(path) as temporary:
        kept = temporary.with_name(temporary.name)
        temporary.write_bytes(b"half")
        copy = path.parent / "copy"
        copy.write_bytes(b"half")
        name = kept
    path.unlink()
    copy.rename(name)
    return name


NAMES = ("store.json", "training.png", "log.csv", "predictions.csv", "a.nii.gz", "KEY.b2nd")


@pytest.mark.parametrize("name", NAMES)
def test_a_leftover_of_any_file_is_known_and_removed(tmp_path, name):
    left = half_written(tmp_path / name)
    assert leftover_of(left) == name
    remove_leftovers(tmp_path)
    assert not left.exists()


@pytest.mark.parametrize("name", [".lock", ".conversion.jsonl", ".gitignore", "a.b.12345678.b"])
def test_other_files_stay(tmp_path, name):
    (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert (tmp_path / name).exists()


def test_young_ones_stay_where_others_may_be_writing(tmp_path):
    young, old = half_written(tmp_path / "a.npy"), half_written(tmp_path / "b.npy")
    os.utime(old, (time.time() - 7200,) * 2)
    remove_leftovers(tmp_path, min_age_s=3600)
    assert young.exists() and not old.exists()


def test_a_store_whose_first_run_was_killed_at_its_first_file_is_made(tmp_path):
    half_written(tmp_path / "store" / "store.json")
    (tmp_path / "store" / ".lock").touch()
    store = VolumeStore.create(tmp_path / "store", shape=(8, 8, 8))
    assert VolumeStore(store.path).volume_shape == (8, 8, 8)


def test_a_name_that_is_not_utf_8_is_refused_before_anything_is_made(tmp_path):
    path = tmp_path / os.fsdecode(b"store\xff")
    with pytest.raises(UserError, match="expected a name in UTF-8"):
        VolumeStore.create(path)
    assert not list(tmp_path.iterdir())


def test_a_folder_with_anything_else_is_still_refused(tmp_path):
    half_written(tmp_path / "store.json")
    (tmp_path / "thesis.docx").touch()
    with pytest.raises(UserError, match="expected a volume store or an empty folder"):
        VolumeStore.create(tmp_path)
