"""Steps on a GPU, of each program and of its peers: time, rates, share of the peak, and memory.

    python -m benchmarks.gpu_speed [--minutes 10] [--output FOLDER] [--tiny]

Pre-training, segmentation and registration, in fp32, bf16 and compiled, with the data loader and
without, beside MONAI's modules as they come and nnU-Net's own trainer, one after another in one
process. FOLDER gets gpu_speed.md and gpu_speed.json; after each case both are whole. What does not
fit, or has no time left, is said in its row. Operations are counted by PyTorch's FlopCounterMode
on one step; the peak is that of a matrix product in the same precision, measured here. `--tiny` is
for machines without a GPU: a test of the command, no figures to publish.
"""

import gc
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu_cases import TINY, Case, Sizes, all_cases, matrix_product
from benchmarks.machine import describe_machine
from nnunet_triad.cli import run_app
from nnunet_triad.files import write_atomically, write_json
from nnunet_triad.training.device import default_device
from nnunet_triad.training.memory import GIB, peak_memory

_SECONDS = 6.0  # of steps that count, a case
_WARMUPS = 3
_COLUMNS = (
    *("task", "network", "by", "precision", "data"),
    *("step", "samples/s", "TFLOP/s", "of peak", "memory"),
)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was measured of a case."""

    task: str
    network: str
    by: str
    precision: str
    is_compiled: bool
    has_loader: bool
    seconds: float | None = None  # the median step
    quartiles: tuple[float, float] | None = None
    steps: int = 0
    samples_per_second: float | None = None
    tflops: float | None = None  # a second
    share_of_peak: float | None = None
    peak_gib: float | None = None
    note: str = ""

    def row(self) -> str:
        """Return its row of the table."""
        data = "loader" if self.has_loader else "at hand"
        name = f"{self.precision}{', compiled' if self.is_compiled else ''}"
        cells = [self.task, self.network, self.by, name, data]
        if self.seconds is None or self.quartiles is None:
            return f"| {' | '.join([*cells, self.note, '', '', '', ''])} |"
        low, high = (f"{1000 * one:.3g}" for one in self.quartiles)
        numbers = [
            f"{1000 * self.seconds:.3g} ms ({low} .. {high})",
            f"{self.samples_per_second:.3g}",
            "" if self.tflops is None else f"{self.tflops:.3g}",
            "" if self.share_of_peak is None else f"{self.share_of_peak:.0%}",
            f"{self.peak_gib:.2f} GiB",
        ]
        return f"| {' | '.join(cells + numbers)} |"


@app.command(help=(__doc__ or "").partition("\n")[0])
def main(
    minutes: Annotated[float, typer.Option(min=0.1, help="No case is begun later.")] = 10,
    output: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("bench_gpu"),
    tiny: Annotated[
        bool, typer.Option("--tiny", help="Small networks, a step or two each.")
    ] = False,
) -> None:
    """Run all cases."""
    device = torch.device("cpu" if tiny else default_device())
    with tempfile.TemporaryDirectory() as folder:
        for name in ("raw", "preprocessed", "results"):
            os.environ[f"nnUNet_{name}"] = str(Path(folder) / name)
        if tiny:
            os.environ["nnUNet_n_proc_DA"] = "0"  # noqa: SIM112
        results = run(device, output, is_tiny=tiny, end=time.monotonic() + 60 * minutes)
    typer.echo(f"{output / 'gpu_speed.md'}\n{output / 'gpu_speed.json'}")
    raise typer.Exit(int(not any(result.seconds for result in results)))


def run(device: torch.device, output: Path, *, is_tiny: bool, end: float) -> list[Result]:
    """Measure case after case; write both files after each."""
    sizes = TINY if is_tiny else Sizes()
    size = 256 if is_tiny else 8192
    peaks = {
        precision: _peak(matrix_product(device, precision, size), device, size)
        for precision in ("fp32", "bf16", "fp16")
    }
    results: list[Result] = []
    operations: dict[tuple[str, str, int], float] = {}
    for case in all_cases(sizes, device):
        about = {
            name: getattr(case, name)
            for name in ("task", "network", "by", "precision", "is_compiled", "has_loader")
        }
        if time.monotonic() > end:
            result = Result(**about, note="not run: no time left")
        else:
            result = _measure(case, about, device, operations, peaks, is_tiny=is_tiny)
        results.append(result)
        print(result.row(), flush=True)
        _write(output, results, peaks)
    return results


def _measure(
    case: Case,
    about: dict[str, Any],
    device: torch.device,
    operations: dict[tuple[str, str, int], float],
    peaks: dict[str, float],
    *,
    is_tiny: bool,
) -> Result:
    _forget(device)
    with ExitStack() as stack:
        try:
            step = case.build(stack)
            if case.work not in operations and not case.is_compiled:
                with FlopCounterMode(display=False) as counter:
                    step()
                operations[case.work] = counter.get_total_flops()
            times = _time(step, device, is_tiny=is_tiny)
        except torch.OutOfMemoryError:
            return Result(**about, note="out of memory")
    seconds = statistics.median(times)
    low, _, high = statistics.quantiles(times, n=4) if len(times) > 1 else times * 3
    tflops = operations.get(case.work, 0) / seconds / 1e12 or None
    return Result(
        **about,
        seconds=seconds,
        quartiles=(low, high),
        steps=len(times),
        samples_per_second=case.samples / seconds,
        tflops=tflops,
        share_of_peak=tflops and tflops / peaks[case.precision],
        peak_gib=peak_memory(device) / GIB,
    )


def _time(step: Callable[[], object], device: torch.device, *, is_tiny: bool) -> list[float]:
    """Return seconds a step; a GPU is waited for after each few, as training does."""
    for _ in range(0 if is_tiny else _WARMUPS):
        step()
    times: list[float] = []
    while len(times) < (1 if is_tiny else 5) or (not is_tiny and 5 * sum(times) < _SECONDS):
        _wait(device)
        start = time.perf_counter()
        for _ in range(1 if is_tiny else 5):
            step()
        _wait(device)
        times.append((time.perf_counter() - start) / (1 if is_tiny else 5))
    return times


def _peak(product: Callable[[], object], device: torch.device, size: int) -> float:
    """Return TFLOP/s of a matrix product."""
    return 2 * size**3 / statistics.median(_time(product, device, is_tiny=size < 1000)) / 1e12


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _forget(device: torch.device) -> None:
    torch._dynamo.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def _write(output: Path, results: list[Result], peaks: dict[str, float]) -> None:
    output.mkdir(parents=True, exist_ok=True)
    machine = describe_machine()
    found = [asdict(result) for result in results]
    write_json(
        output / "gpu_speed.json", {"machine": machine, "peak_tflops": peaks, "results": found}
    )
    lines = ["| machine | |", "|---|---|", *(f"| {name} | {machine[name]} |" for name in machine)]
    lines += [f"| matrix product, {name} | {peak:.3g} TFLOP/s |" for name, peak in peaks.items()]
    lines += [
        "",
        f"| {' | '.join(_COLUMNS)} |",
        "|---" * len(_COLUMNS) + "|",
        *(result.row() for result in results),
    ]
    with write_atomically(output / "gpu_speed.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_app(app)
