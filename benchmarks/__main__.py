"""Run the benchmarks one after another and keep what they print.

python -m benchmarks [--only NAME] [--quick] [--list] [--output FOLDER]

Each runs as a process of its own; when one fails, the next one runs all the same. The results are
written after each: a run that is stopped leaves what it has.
"""

import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.machine import describe_machine, load
from benchmarks.results_file import Outcome, write_results
from nnunet_triad.cli import run_app
from nnunet_triad.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A command of this folder, and about how long it takes on an idle machine's two cores."""

    name: str
    what: str
    minutes: float
    arguments: tuple[str, ...] = ()
    quick: tuple[str, ...] | None = None  # arguments of a short run; None: it has none

    def command(self, *, is_quick: bool = False) -> list[str]:
        """Return the command to run from the checkout's folder."""
        chosen = self.quick if is_quick and self.quick is not None else self.arguments
        return [sys.executable, "-m", f"benchmarks.{self.name}", *chosen]


BENCHMARKS = (
    Benchmark(name="store_reading", what="a crop from the store and otherwise", minutes=1),
    Benchmark(name="curation_speed", what="curation of a volume", minutes=1, arguments=("--cpu",)),
    Benchmark(name="curation_workers", what="curation by two processes and by one", minutes=2),
    Benchmark(name="loader", what="waiting for crops, memory", minutes=5, quick=("--batches", "5")),
    Benchmark(
        name="pretrain_step",
        what="a step of the pre-training",
        minutes=3,
        quick=("--encoder", "swin_t", "--rounds", "2"),
    ),
    Benchmark(
        name="swin_unetr_step",
        what="an iteration of Swin UNETR",
        minutes=3,
        arguments=("--rounds", "5"),
        quick=("--encoder", "SwinT", "--rounds", "2"),
    ),
    Benchmark(
        name="convolution",
        what="a convolution and a norm on a CPU",
        minutes=2,
        quick=("--rounds", "2"),
    ),
    Benchmark(
        name="registration_losses",
        what="the losses of registration",
        minutes=2,
        arguments=("96", "5"),
        quick=("48", "2"),
    ),
    Benchmark(
        name="registration_step",
        what="a step of TransMorph-L",
        minutes=20,
        arguments=("3",),
        quick=("1",),
    ),
    Benchmark(
        name="registration_apply",
        what="triad-register apply on a whole head",
        minutes=2,
        quick=("transmorph_t", "--half"),
    ),
    Benchmark(
        name="registration_classical",
        what="registration without a model and ANTs",
        minutes=3,
        arguments=("benchmark_output/registration_classical",),
        quick=("benchmark_output/registration_classical", "--phantoms", "2"),
    ),
    Benchmark(
        name="classification_cache",
        what="an epoch of cached samples",
        minutes=2,
        arguments=("--images", "40", "--rounds", "7"),
        quick=("--images", "10", "--rounds", "2"),
    ),
    Benchmark(
        name="gpu_speed",
        what="steps of all programs on a GPU",
        minutes=10,
        quick=("--tiny",),
    ),
    Benchmark(
        name="scaling", what="cost by volumes, size and encoder", minutes=2, quick=("--quick",)
    ),
)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command(help=(__doc__ or "").partition("\n")[0])
def main(
    only: Annotated[
        list[str] | None, typer.Option(help="Only this one; repeatable, or with commas.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer rounds, smaller networks: not for publishing.")
    ] = False,
    list_only: Annotated[bool, typer.Option("--list", help="Say what would be run.")] = False,
    output: Annotated[Path, typer.Option(help="Folder for benchmarks.md and .csv.")] = Path(
        "benchmark_output"
    ),
) -> None:
    """Run the chosen benchmarks."""
    chosen = _chosen(only)
    if output.exists() and not output.is_dir():
        raise UserError(f"--output: expected a folder, got the file {output}")
    for benchmark in chosen:
        command = shlex.join(["python", *benchmark.command(is_quick=quick)[1:]])
        print(f"{benchmark.name:22}{benchmark.what:42}about {benchmark.minutes:g} min  {command}")
    if not list_only:
        print(
            f"together about {sum(b.minutes for b in chosen):g} min on two idle cores", flush=True
        )
        raise typer.Exit(run(chosen, output, is_quick=quick))


def run(chosen: list[Benchmark], output: Path, *, is_quick: bool) -> int:
    """Run benchmarks; return 1 when one of them failed."""
    machine, outcomes = describe_machine(), list[Outcome]()
    for number, benchmark in enumerate(chosen, 1):
        print(f"\n[{number}/{len(chosen)}] {benchmark.name}", flush=True)
        outcomes.append(_run_one(benchmark.name, benchmark.command(is_quick=is_quick)))
        write_results(output, outcomes, machine)
    failed = [outcome.name for outcome in outcomes if outcome.exit_code]
    print(f"\n{output / 'benchmarks.md'}\n{output / 'benchmarks.csv'}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def _run_one(name: str, command: list[str]) -> Outcome:
    """Run one command; show its output while it comes."""
    start, load_before, lines = time.monotonic(), load(), list[str]()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return Outcome(
        name=name,
        command=shlex.join(["python", *command[1:]]),
        output="".join(lines),
        exit_code=process.returncode,
        seconds=time.monotonic() - start,
        load=load_before,
    )


def _chosen(only: list[str] | None) -> list[Benchmark]:
    names = [name.strip() for text in only or [] for name in text.split(",") if name.strip()]
    known = {benchmark.name: benchmark for benchmark in BENCHMARKS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(f"--only: expected one of {', '.join(known)}, got {unknown[0]}")
    return [known[name] for name in names] or list(BENCHMARKS)


if __name__ == "__main__":
    run_app(app)
