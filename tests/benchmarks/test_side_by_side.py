"""Ratios of what runs in turn."""

import pytest

from benchmarks.side_by_side import Timing, format_table, ratio, run_in_turn


class _Clock:
    """A clock that only work moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float):
        def run() -> None:
            self.now += seconds

        return run


def test_run_in_turn_measures_each_call_and_skips_warmups():
    clock = _Clock()
    alternatives = {"slow": clock.work(3.0), "fast": clock.work(0.5)}
    timings = run_in_turn(alternatives, num_rounds=5, num_warmups=2, num_calls=4, clock=clock)
    assert {timing.name: timing.seconds for timing in timings} == {
        "slow": pytest.approx((3.0,) * 5),
        "fast": pytest.approx((0.5,) * 5),
    }
    assert clock.now == pytest.approx(7 * 4 * 3.5)


def test_run_in_turn_changes_the_order():
    order: list[str] = []
    names = ["a", "b", "c"]
    run_in_turn({name: lambda name=name: order.append(name) for name in names}, num_rounds=3)
    rounds = [tuple(order[start : start + 3]) for start in range(0, len(order), 3)]
    assert {first for first, *_ in rounds} == set(names)


def test_ratio_compares_within_a_round():
    # A machine that becomes ten times slower for a round disturbs both, and not their ratio.
    slower = Timing(name="slower", seconds=(2.0, 20.0, 2.0))
    faster = Timing(name="faster", seconds=(1.0, 10.0, 1.0))
    found = ratio(slower, faster)
    assert found.median == pytest.approx(2.0)
    assert found.quartiles == pytest.approx((2.0, 2.0))


@pytest.mark.parametrize(
    ("target", "verdict"),
    [(3.0, "yes"), (5.0, "NO"), (-0.5, "yes"), (-0.1, "NO")],
)
def test_format_table_states_whether_a_target_is_reached(target, verdict):
    timings = [Timing(name="ours", seconds=(1.0,) * 5), Timing(name="peer", seconds=(4.0,) * 5)]
    table = format_table(timings, ours="ours", targets={"peer": target})
    assert table.splitlines()[-1].rstrip(" |").endswith(verdict)
    assert "4.00" in table
