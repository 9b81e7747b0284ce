"""What a run will need, measured on its first steps instead of guessed."""

import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta

import torch

from nnunet_triad.training.memory import GIB, peak_memory
from nnunet_triad.training.state_file import num_bytes

NUM_WARMUPS = 1  # steps that also allocate, tune and compile, and do not count
NUM_STEPS = 3  # that count, at most
ENOUGH_SECONDS = 20.0  # after so many no other step is begun


def measure_steps(
    steps: Iterable[object],
    *,
    device: torch.device,
    unit: str,
    total: int,
    whole: str,
    state: Callable[[], Mapping] | None = None,
    place: str = "",
) -> str:
    """Do a few steps; return lines of text on memory, time and disk.

    Args:
        steps: each item is a step done.
        device: of the steps.
        unit: what a step is.
        total: steps of the whole run.
        whole: the whole run in words.
        state: what a checkpoint holds; None: there are none.
        place: more on where the memory was measured.
    """
    durations = list(_time(steps, device))
    counted = durations[NUM_WARMUPS:] or durations
    seconds = statistics.median(counted)
    lines = [
        f"peak memory: {peak_memory(device) / GIB:.2f} GiB on {device}{place}",
        f"time: {seconds:.2f} s a {unit} (median of {len(counted)}, {min(counted):.2f} to "
        f"{max(counted):.2f} s), {timedelta(seconds=round(seconds * total))} for {whole}",
    ]
    if state is not None:  # after the steps, as an optimiser's grows at the first
        size = num_bytes(state()) / GIB
        lines.append(f"disk: {size:.2f} GiB a checkpoint, twice that while one is written")
    return "\n".join(lines)


def _time(steps: Iterable[object], device: torch.device) -> Iterator[float]:
    start, spent = time.perf_counter(), 0.0
    for number, _ in enumerate(itertools.islice(steps, NUM_WARMUPS + NUM_STEPS)):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        duration = time.perf_counter() - start
        yield duration
        spent += duration if number >= NUM_WARMUPS else 0.0
        if spent > ENOUGH_SECONDS:
            return
        start = time.perf_counter()
