"""Commands that are killed at random moments end as if nothing had been.

TRIAD_KILLS says how many rounds each scenario gets; `make kill` gives it hundreds, and all of them.
"""

import os

import pytest

from nnunet_triad.files import leftover_of
from tests.faults.kills import IN_THE_SUITE, SCENARIOS, disturbed, undisturbed

ROUNDS = int(os.environ.get("TRIAD_KILLS", "1"))


@pytest.mark.parametrize("name", SCENARIOS if "TRIAD_KILLS" in os.environ else IN_THE_SUITE)
def test_a_killed_command_ends_as_an_undisturbed_one(tmp_path, name):
    scenario = SCENARIOS[name]
    expected, seconds = undisturbed(scenario, tmp_path / "alone")
    for seed in range(ROUNDS):
        folder = tmp_path / f"round{seed}"
        found = disturbed(scenario, folder, seconds=seconds, seed=seed)
        printed = (folder / "printed.txt").read_text()
        assert found == expected, f"round {seed}:\n{printed}"
        assert not [path for path in folder.rglob(".*") if leftover_of(path)], f"round {seed}"
        assert "Traceback" not in printed, f"round {seed}:\n{printed}"
