from pathlib import Path

import pytest

from nnunet_triad.phantom.population import Population

SPACING_MM = 6.0


@pytest.fixture
def population() -> Population:
    """Three brains; the first is the template."""
    return Population(num_subjects=3, seed=4, spacing_mm=SPACING_MM)


def tree_bytes(folder: Path) -> dict[str, bytes]:
    """Return every file's content by its relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
