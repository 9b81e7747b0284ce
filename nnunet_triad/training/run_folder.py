"""The folder of a run: one process, one set of settings, a checkpoint to go on from.

    OUTPUT/settings.json     what the run was begun with, written first
    OUTPUT/checkpoint.pt     all that it needs to go on as if it had never stopped
    OUTPUT/log.csv           a row a step or epoch; tensorboard/ has the same
    OUTPUT/stopped.txt       only after a signal: the state is saved, and the same command goes on
    OUTPUT/.lock             held while a process trains here

Each file is whole or not there. Killed anywhere and started again with the same command, a run ends
as if it had never stopped.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

from nnunet_triad.errors import UserError, require
from nnunet_triad.files import check_folder, only_process, remove_leftovers, write_json
from nnunet_triad.texts import read_json
from nnunet_triad.training.distributed import wait_for_all
from nnunet_triad.training.settings import Settings
from nnunet_triad.training.state_file import load_state, save_state
from nnunet_triad.training.stop_signal import TrainingStopped, mark_stopped, unmark_stopped

CHECKPOINT_NAME = "checkpoint.pt"
SETTINGS_NAME = "settings.json"
SCRATCH = "scratch"  # in the place of a weights file's SHA-256


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """All that a run needs to go on; what comes when is a function of the step, and not in here."""

    settings: Settings
    data_fingerprint: str  # of all data that the result depends on
    initialization: str = SCRATCH  # or the SHA-256 of the weights file
    step: int  # steps, pairs or epochs done
    state: Mapping[str, Any]  # the loop's own: state_dicts, and what it counts besides steps

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as the file holds them: the loop's own stand among the others."""
        own = {name: value for name, value in vars(self).items() if name != "state"}
        return {**own, "settings": self.settings.to_dict(), **self.state}


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """The folder of a run, held by this process; from `open_run`."""

    path: Path
    command: str  # that trains here
    data: tuple[str, str]  # how the command calls its data, and what that names
    is_writer: bool = True
    about: Mapping[str, Any] = field(default_factory=dict)  # for settings.json, besides settings

    @property
    def checkpoint_path(self) -> Path:
        """Where the state is kept."""
        return self.path / CHECKPOINT_NAME

    def begin(self, start: Checkpoint, *, earlier_fingerprint: str = "") -> Checkpoint | None:
        """Check that `start` is the run of this folder, and write its settings.

        Args:
            start: the run as it is before its first step.
            earlier_fingerprint: of the same data, as the version before this one took it.

        Returns:
            The checkpoint to go on from; None for a new run.

        Raises:
            UserError: the checkpoint is damaged, or of a run with other settings, data or weights,
                or the folder is another command's.
        """
        found = None
        if self.checkpoint_path.exists():
            found = self._load(start)
            self._check_same(found, start, {start.data_fingerprint, earlier_fingerprint})
        else:
            self._check_own(start)
        if self.is_writer:
            content = {**start.settings.to_dict(), **self.about}
            write_json(self.path / SETTINGS_NAME, content)
        return found

    def save(self, checkpoint: Checkpoint) -> None:
        """Write the checkpoint; when that fails, the one before it stays.

        Raises:
            UserError: the disk is full, or the file cannot be written for another reason.
        """
        save_state(self.checkpoint_path, checkpoint.to_dict(), step=checkpoint.step)

    def _load(self, start: Checkpoint) -> Checkpoint:
        content = load_state(self.checkpoint_path, command=self.command)
        with self._of_this_command(self.checkpoint_path):
            return Checkpoint(
                settings=start.settings.from_dict(content["settings"]),
                data_fingerprint=content["data_fingerprint"],
                initialization=content.get("initialization", start.initialization),
                step=content["step"],
                state={name: content[name] for name in start.state},
            )

    def _check_own(self, start: Checkpoint) -> None:
        path = self.path / SETTINGS_NAME
        if path.exists():
            with self._of_this_command(path):
                content = read_json(path)
                own = {name: content[name] for name in content if name not in self.about}
                start.settings.from_dict(own)

    @contextlib.contextmanager
    def _of_this_command(self, path: Path) -> Iterator[None]:
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{path}: expected a file of {self.command}, got one of another command or "
                f"package version ({error}); choose another OUTPUT"
            ) from error

    def _check_same(self, found: Checkpoint, start: Checkpoint, fingerprints: set[str]) -> None:
        """Refuse to continue a run that was begun with other settings, data or weights."""
        begun = f"with which {self.checkpoint_path} was begun"
        name = found.settings.differing_field(start.settings)
        if name is not None:  # of nested settings "field.nested"
            expected, got = map(attrgetter(name), (found.settings, start.settings))
            advice = "use that value, or choose another OUTPUT"
            require(name, f"{got}; {advice}", f"{expected}, {begun}", False)
        if found.data_fingerprint not in fingerprints:
            argument, contents = self.data
            raise UserError(
                f"{argument}: expected the {contents} {begun}, got others; use that "
                f"{argument.lower()}, or choose another OUTPUT"
            )
        if found.initialization != start.initialization:
            raise UserError(
                f"init: expected the weights {begun} ({found.initialization[:12]}), got "
                f"{start.initialization[:12]}; use them, or choose another OUTPUT"
            )


@contextlib.contextmanager
def open_run(path: Path, *, is_writer: bool = True, **facts: Any) -> Iterator[RunFolder]:
    """Hold the folder of a run; a run that a signal stops leaves stopped.txt in it.

    No process goes on before that is there: the end of one may be that of all.

    Args:
        path: made when missing. What a killed run left half-written there is removed.
        is_writer: False for the processes of a run that only read.
        facts: the other fields of `RunFolder`.

    Raises:
        UserError: `path` is a file, or another process trains there.
    """
    folder = RunFolder(path=path, is_writer=is_writer, **facts)
    if not is_writer:
        with _wait_when_stopped():
            yield folder
        return
    check_folder(path)
    path.mkdir(parents=True, exist_ok=True)
    refusal = (
        f"{path}: expected a folder in which no other process trains, got one in which one does; "
        "wait for its end, or choose another OUTPUT"
    )
    with only_process(path / ".lock", refusal=refusal):
        remove_leftovers(path)
        unmark_stopped(path)
        with _wait_when_stopped(path):
            yield folder


@contextlib.contextmanager
def _wait_when_stopped(path: Path | None = None) -> Iterator[None]:
    try:
        yield
    except TrainingStopped as stop:
        if path is not None:
            mark_stopped(path, str(stop))
        wait_for_all()
        raise
