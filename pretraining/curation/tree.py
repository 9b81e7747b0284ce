"""A walk through a folder that ends, stays inside, and says what it could not read."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pretraining.curation.series import BadFile


@dataclass(kw_only=True)
class Tree:
    """The files of a folder, and what could not be entered.

    Links to folders are never followed, so no loop is endless. A link to a file counts when it
    ends inside the tree (git-annex stores images so), or when links are trusted.
    """

    root: Path
    follows_links: bool = False
    bad_files: list[BadFile] = field(default_factory=list)
    num_hidden: int = 0  # files and folders whose names begin with a point

    def files(self) -> Iterator[Path]:
        """Yield each file in the order of the paths; hidden ones are counted only."""
        self.bad_files.clear()
        self.num_hidden = 0
        root = self.root.resolve()
        for folder, subfolders, names in os.walk(self.root, onerror=self._note_unreadable):
            self.num_hidden += sum(name.startswith(".") for name in (*subfolders, *names))
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            for name in subfolders:
                if (Path(folder) / name).is_symlink():
                    self._note(Path(folder) / name, "a link to a folder, which is not followed")
            for name in sorted(name for name in names if not name.startswith(".")):
                path = Path(folder) / name
                if self._is_inside(path, root):
                    yield path

    def _is_inside(self, path: Path, root: Path) -> bool:
        if not path.is_symlink():
            return True
        try:
            target = path.resolve(strict=True)
        except (OSError, RuntimeError):  # a loop, or nothing there
            self._note(path, "a link that leads nowhere")
            return False
        if not target.is_file():
            return False
        if not self.follows_links and root not in target.parents:
            self._note(path, "a link that leads out of the source")
            return False
        return True

    def _note_unreadable(self, error: OSError) -> None:
        self._note(Path(error.filename), f"a folder that cannot be read ({error.strerror})")

    def _note(self, path: Path, reason: str) -> None:
        source = path.relative_to(self.root).as_posix()
        self.bad_files.append(BadFile(source=source, path=path, reason=reason))
