"""Real volumes, which lie beside a checkout where somebody has put them, and are not part of it."""

from pathlib import Path

import pytest

HIPPOCAMPI = Path(__file__).parents[2] / "shared" / "data" / "Task04_Hippocampus"

_is_missing = pytest.mark.skipif(
    not (HIPPOCAMPI / "dataset.json").exists(),
    reason="the decathlon's hippocampi are not in ../shared/data",
)


def needs_hippocampi(test):
    """Mark a test that reads the decathlon's hippocampi (CC BY-SA 4.0)."""
    return pytest.mark.real_data(_is_missing(test))
