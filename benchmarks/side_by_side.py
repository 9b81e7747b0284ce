"""Time alternatives in turn, and print medians, spreads and ratios.

Every round runs each alternative once, in a changing order, so that a disturbance of the machine
falls on all of them. A ratio is the median of the rounds' own ratios, with its quartiles.
"""

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Durations of one alternative, one a round, in seconds a call."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median_s(self) -> float:
        """The middle duration."""
        return float(np.median(self.seconds))

    @property
    def quartiles_s(self) -> tuple[float, float]:
        """The spread: the first and the third quartile."""
        low, high = np.percentile(self.seconds, (25, 75))
        return float(low), float(high)


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How many times longer an alternative takes than the one that it is compared with."""

    median: float
    quartiles: tuple[float, float]


def run_in_turn(
    alternatives: Mapping[str, Callable[[], object]],
    *,
    num_rounds: int = 7,
    num_warmups: int = 1,
    num_calls: int = 1,
    clock: Callable[[], float] = time.perf_counter,
    before: Callable[[str], object] | None = None,
) -> list[Timing]:
    """Time each alternative once a round, after warm-up rounds that do not count.

    Args:
        alternatives: name -> what to time.
        num_rounds: that count; at least 5 for a figure that is published.
        num_warmups: rounds before them.
        num_calls: calls a round, of which the mean counts; for what takes less than a millisecond.
        clock: seconds; replaced in tests, or by `time.process_time` for CPU time.
        before: is given the name of the alternative that comes next, and is not timed.
    """
    names = list(alternatives)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-num_warmups, num_rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            if before:
                before(name)
            gc.collect()
            start = clock()
            for _ in range(num_calls):
                alternatives[name]()
            if number >= 0:
                seconds[name].append((clock() - start) / num_calls)
    return [Timing(name=name, seconds=tuple(seconds[name])) for name in names]


def ratio(slower: Timing, faster: Timing) -> Ratio:
    """Compare two alternatives of the same rounds: median and quartiles of `slower / faster`."""
    each = np.array(slower.seconds) / np.array(faster.seconds)
    low, median, high = np.percentile(each, (25, 50, 75))
    return Ratio(median=float(median), quartiles=(float(low), float(high)))


def format_table(
    timings: Sequence[Timing], *, ours: str, targets: Mapping[str, float] | None = None
) -> str:
    """Return a Markdown table: each alternative's time, and its ratio to ours.

    Args:
        timings: of one `run_in_turn`.
        ours: the name of the alternative that the others are compared with.
        targets: name -> the ratio to reach. A positive one is a speed-up that is wanted at least;
            a negative one, -r, says that ours may take at most r times as long as that alternative.
    """
    by_name = {timing.name: timing for timing in timings}
    rows = ["| what | median | quartiles | it / ours | wanted |", "|---|---|---|---|---|"]
    for timing in timings:
        low, high = (_in_words(value) for value in timing.quartiles_s)
        compared = ratio(timing, by_name[ours])
        first, third = compared.quartiles
        share = "" if timing.name == ours else f"{compared.median:.2f} ({first:.2f} .. {third:.2f})"
        wanted = _verdict(compared.median, (targets or {}).get(timing.name))
        cells = (timing.name, _in_words(timing.median_s), f"{low} .. {high}", share, wanted)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _verdict(found: float, target: float | None) -> str:
    if target is None:
        return ""
    least = target if target > 0 else -1 / target
    text = f"at least {target:g}" if target > 0 else f"ours at most {-target:g} times as long"
    return f"{text}: {'yes' if found >= least else 'NO'}"


def _in_words(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.3g} ms"
