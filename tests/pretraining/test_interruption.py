"""SIGKILL and SIGTERM at any moment: the same command goes on, to the same bits."""

import random
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nnunet_triad.files import sha256
from tests.pretraining.processes import run_command, start_command, wait, wait_for_rows

NUM_STEPS = 10
CHECKPOINT_EVERY = 2
WEIGHTS = "triad_swin_t.safetensors"
RESULTS = ["step", "loss", "l1", "log_ratio", "alignment", "rank", "learning_rate", "gradient_norm"]


@pytest.fixture(scope="module")
def arguments(store_path: Path) -> list[str]:
    """Of a run of about three seconds, which also measures the alignment."""
    return [
        str(store_path),
        "OUTPUT",
        *("--encoder", "swin_t", "--steps", str(NUM_STEPS), "--batch-size", "3"),
        *("--crop-size", "64,32,32", "--learning-rate", "1e-3", "--warmup-steps", "3"),
        *("--checkpoint-every", str(CHECKPOINT_EVERY), "--held-out", "3", "--device", "cpu"),
    ]


def to_folder(arguments: list[str], output: Path) -> list[str]:
    return [str(output) if argument == "OUTPUT" else argument for argument in arguments]


@pytest.fixture(scope="module")
def whole_run(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    output = tmp_path_factory.mktemp("whole") / "run"
    assert run_command(to_folder(arguments, output), output.parent / "printed.txt") == 0
    return output


def assert_same(output: Path, whole_run: Path) -> None:
    """The same weights, the same log but for the times, and nothing half-written."""
    assert sha256(output / WEIGHTS) == sha256(whole_run / WEIGHTS)
    found, expected = (pd.read_csv(run / "log.csv")[RESULTS] for run in (output, whole_run))
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    names = {path.name for path in output.iterdir()}
    assert names == {path.name for path in whole_run.iterdir()}


def test_log_of_a_whole_run_has_a_row_a_step(whole_run: Path):
    log = pd.read_csv(whole_run / "log.csv")

    assert log["step"].tolist() == list(range(1, NUM_STEPS + 1))
    assert log.dropna()["step"].tolist() == [1, NUM_STEPS]  # where the alignment is measured
    assert np.isfinite(log["loss"]).all()


def test_run_killed_at_ten_random_moments_ends_in_the_same_bits(
    arguments: list[str], whole_run: Path, tmp_path: Path
):
    output, moments = tmp_path / "run", random.Random(0)
    steps_seen = []

    for num_rows in range(NUM_STEPS):
        process = start_command(to_folder(arguments, output), tmp_path / "printed.txt")
        wait_for_rows(output / "log.csv", num_rows, process)
        time.sleep(moments.uniform(0, 0.5))
        process.kill()
        steps_seen.append(wait(process))

    assert steps_seen.count(-9) >= 8  # the last ones may come after the end of a run
    assert run_command(to_folder(arguments, output), tmp_path / "printed.txt") == 0
    assert_same(output, whole_run)


def test_run_killed_in_each_of_its_writes_ends_in_the_same_bits(
    arguments: list[str], whole_run: Path, tmp_path: Path
):
    output = tmp_path / "run"
    # In turn: settings, log, checkpoints of steps 2 and 4 (from the start), that of step 8, the
    # first picture; then, with the last checkpoint there: weights, both pictures.
    for number in (1, 2, 3, 4, 5, 6, 3, 4, 5):
        code = run_command(
            to_folder(arguments, output), tmp_path / "printed.txt", die_at_sync=number
        )
        assert code == -9, (tmp_path / "printed.txt").read_text()

    assert run_command(to_folder(arguments, output), tmp_path / "printed.txt") == 0
    assert_same(output, whole_run)


def test_sigterm_saves_and_exits_with_the_code_for_requeueing(
    arguments: list[str], whole_run: Path, tmp_path: Path
):
    output = tmp_path / "run"
    process = start_command(to_folder(arguments, output), tmp_path / "printed.txt")
    wait_for_rows(output / "log.csv", 3, process)
    process.terminate()

    assert wait(process) == 75
    last_row = pd.read_csv(output / "log.csv")["step"].iloc[-1]
    assert 3 <= last_row < NUM_STEPS
    printed = (tmp_path / "printed.txt").read_text()
    assert f"stopped after step {last_row}; run the same command again" in printed
    assert run_command(to_folder(arguments, output), tmp_path / "printed.txt") == 0
    assert f"{last_row}/{NUM_STEPS}" in (tmp_path / "printed.txt").read_text()  # nothing is redone
    assert_same(output, whole_run)


def test_finished_run_started_again_does_nothing(
    arguments: list[str], whole_run: Path, tmp_path: Path
):
    before = sha256(whole_run / WEIGHTS), (whole_run / "log.csv").read_bytes()

    assert run_command(to_folder(arguments, whole_run), tmp_path / "printed.txt") == 0

    assert (sha256(whole_run / WEIGHTS), (whole_run / "log.csv").read_bytes()) == before
