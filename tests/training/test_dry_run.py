"""What is said of a run from its first steps."""

from collections.abc import Iterator

import pytest
import torch

from nnunet_triad.training import dry_run
from nnunet_triad.training.dry_run import measure_steps
from nnunet_triad.training.state_file import num_bytes, save_state

CPU = torch.device("cpu")


@pytest.fixture
def steps_of(monkeypatch: pytest.MonkeyPatch):
    """Steps that take given seconds of a clock that does not run by itself."""
    clock = [0.0]
    monkeypatch.setattr(dry_run.time, "perf_counter", lambda: clock[0])

    def steps(*seconds: float) -> Iterator[None]:
        for duration in seconds:
            clock[0] += duration
            yield

    return steps


def report(steps: Iterator[None], *, total: int = 100) -> str:
    return measure_steps(steps, device=CPU, unit="step", total=total, whole=f"{total} steps")


def test_time_is_the_median_without_the_first_step(steps_of):
    printed = report(steps_of(100.0, 2.0, 5.0, 2.5, 77.0), total=3600)

    expected = "time: 2.50 s a step (median of 3, 2.00 to 5.00 s), 2:30:00 for 3600 steps"
    assert printed.splitlines()[1] == expected


def test_long_steps_are_not_repeated(steps_of):
    steps = steps_of(30.0, 30.0, 30.0, 30.0)

    assert "30.00 s a step (median of 1, " in report(steps)
    assert len(list(steps)) == 2  # are left


def test_run_of_one_step_is_measured_by_it(steps_of):
    assert "time: 4.00 s a step (median of 1, " in report(steps_of(4.0), total=1)


def test_checkpoint_is_as_large_as_its_tensors(tmp_path, steps_of):
    state = {"model": {"a": torch.ones(300, 1000)}, "optimizer": {"state": {0: [torch.ones(500)]}}}
    save_state(tmp_path / "checkpoint.pt", state, step=1)
    assert num_bytes(state) == 4 * 300_500
    assert num_bytes(state) == pytest.approx((tmp_path / "checkpoint.pt").stat().st_size, rel=0.01)

    gibibyte = {"model": torch.empty(2**28, device="meta")}
    printed = measure_steps(
        steps_of(1.0), device=CPU, unit="pair", total=1, whole="", state=lambda: gibibyte
    )
    assert "disk: 1.00 GiB a checkpoint" in printed
