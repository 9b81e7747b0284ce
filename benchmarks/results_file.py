"""What the benchmarks print, as one Markdown file and one table of all their numbers."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_triad.files import write_atomically

COLUMNS = ("benchmark", "table", "row", "column", "value")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One benchmark, run."""

    name: str
    command: str
    output: str  # its standard output
    exit_code: int
    seconds: float
    load: float  # at its start


def write_results(folder: Path, outcomes: Sequence[Outcome], machine: Mapping[str, str]) -> None:
    """Write FOLDER/benchmarks.md and FOLDER/benchmarks.csv, atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    with write_atomically(folder / "benchmarks.md") as temporary:
        temporary.write_text(_as_markdown(outcomes, machine), encoding="utf-8")
    with (
        write_atomically(folder / "benchmarks.csv") as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for outcome in outcomes:
            writer.writerows((outcome.name, *cell) for cell in cells(outcome.output))


def cells(text: str) -> Iterator[tuple[int, str, str, str]]:
    """Yield (table's number, row's name, column's name, value) of a text's Markdown tables."""
    number, header = 0, list[str]()
    for line in text.splitlines():
        if not line.lstrip().startswith("|"):
            header = []
            continue
        values = [value.strip() for value in line.strip().strip("|").split("|")]
        if not header:
            number, header = number + 1, values
        elif any(value.strip("-: ") for value in values):  # not the rule below the header
            for column, value in zip(header[1:], values[1:], strict=False):
                if value:
                    yield number, values[0], column, value


def _as_markdown(outcomes: Sequence[Outcome], machine: Mapping[str, str]) -> str:
    lines = ["# Benchmarks", "", "| machine | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in machine.items()]
    for outcome in outcomes:
        ended = "" if outcome.exit_code == 0 else f", **failed with exit code {outcome.exit_code}**"
        lines += ["", f"## {outcome.name}", "", f"`{outcome.command}`", ""]
        lines += [f"{outcome.seconds:.0f} s; load {outcome.load:.1f} at its start{ended}", ""]
        lines += [outcome.output.strip()]
    return "\n".join(lines) + "\n"
