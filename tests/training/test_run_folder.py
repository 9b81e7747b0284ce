"""The folder of a run: who may write there, and what a run goes on from."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from nnunet_triad.errors import UserError
from nnunet_triad.files import write_atomically
from nnunet_triad.training.run_folder import Checkpoint, open_run
from nnunet_triad.training.settings import Settings, option


@dataclass(frozen=True, kw_only=True)
class Options(Settings):
    """Of a program."""

    rate: float = option(0.5)
    workers: int = option(0, changes_result=False)


@dataclass(frozen=True, kw_only=True)
class OtherOptions(Settings):
    """Of another program."""

    width: int = option(3)


START = Checkpoint(
    settings=Options(), data_fingerprint="abc", step=0, state={"model": {}, "best": None}
)
FACTS = {"command": "triad-train", "data": ("MANIFEST", "pairs")}


def begin(path: Path, start: Checkpoint = START, **options: str) -> Checkpoint | None:
    with open_run(path, **FACTS) as folder:
        return folder.begin(start, **options)


def save(path: Path, checkpoint: Checkpoint) -> None:
    with open_run(path, **FACTS) as folder:
        folder.save(checkpoint)


def test_new_run_writes_its_settings_first(tmp_path: Path):
    assert begin(tmp_path / "run") is None

    content = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert Options.from_dict(content) == Options()


def test_run_goes_on_from_what_was_saved(tmp_path: Path):
    weights = torch.randn(3, 5)
    save(tmp_path, replace(START, step=7, state={"model": {"weight": weights}, "best": 0.25}))

    found = begin(tmp_path, replace(START, settings=Options(workers=4)))

    assert found is not None
    assert (found.step, found.state["best"]) == (7, 0.25)
    assert torch.equal(found.state["model"]["weight"], weights)
    assert json.loads((tmp_path / "settings.json").read_text())["workers"] == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": Options(rate=0.25)}, r"rate: expected 0\.5, with which .*pt was begun, got"),
        ({"data_fingerprint": "other"}, "MANIFEST: expected the pairs with which .* use that mani"),
        ({"initialization": "1234"}, r"init: expected the weights with .* \(scratch\), got 1234"),
    ],
)
def test_another_run_is_refused_in_one_line(tmp_path: Path, change: dict, message: str):
    save(tmp_path, START)

    with pytest.raises(UserError, match=message) as error:
        begin(tmp_path, replace(START, **change))

    assert "\n" not in str(error.value)
    assert not (tmp_path / "settings.json").exists()


def test_fingerprint_of_an_earlier_version_is_taken(tmp_path: Path):
    save(tmp_path, replace(START, data_fingerprint="earlier"))

    assert begin(tmp_path, earlier_fingerprint="earlier") is not None


def test_checkpoint_of_another_command_is_refused_in_one_line(tmp_path: Path):
    save(tmp_path, replace(START, settings=OtherOptions()))

    with pytest.raises(UserError, match=r"expected a file of triad-train, got one of another"):
        begin(tmp_path)


def test_checkpoint_that_lacks_a_state_is_refused_in_one_line(tmp_path: Path):
    save(tmp_path, replace(START, state={"model": {}}))

    with pytest.raises(UserError, match=r"expected a file of triad-train, got one of another"):
        begin(tmp_path)


def test_folder_of_another_command_is_refused_before_it_has_a_checkpoint(tmp_path: Path):
    begin(tmp_path, replace(START, settings=OtherOptions()))

    with pytest.raises(UserError, match=r"settings\.json: expected a file of triad-train, got"):
        begin(tmp_path)


def test_second_run_on_a_folder_is_refused_in_one_line(tmp_path: Path):
    with (
        open_run(tmp_path, **FACTS),
        pytest.raises(UserError, match="expected a folder in which no other process trains") as e,
        open_run(tmp_path, **FACTS),
    ):
        pass
    assert "\n" not in str(e.value)
    begin(tmp_path)  # the lock is free again


def test_processes_that_only_read_need_no_lock_and_write_nothing(tmp_path: Path):
    save(tmp_path / "run", replace(START, step=3))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()}

    with (
        open_run(tmp_path / "run", **FACTS),
        open_run(tmp_path / "run", is_writer=False, **FACTS) as folder,
    ):
        found = folder.begin(START)

    assert found is not None and found.step == 3
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()} == before


def test_what_a_killed_run_left_half_written_is_removed(tmp_path, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: None)
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        for name in ("checkpoint.pt", "progress.png"):
            with write_atomically(tmp_path / name):
                pass

    begin(tmp_path)

    assert {path.name for path in tmp_path.iterdir()} == {".lock", "settings.json"}


def test_file_in_the_place_of_the_folder_is_refused(tmp_path: Path):
    (tmp_path / "run").touch()

    with pytest.raises(UserError, match="expected a folder, got a file"):
        begin(tmp_path / "run")
