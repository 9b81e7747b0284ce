"""Running all benchmarks: which there are, what happens when one fails, what is kept."""

import csv
import runpy
import sys
from pathlib import Path

import pytest

import benchmarks
from benchmarks import __main__ as driver
from benchmarks.machine import describe_machine
from benchmarks.results_file import Outcome, cells, write_results
from nnunet_triad.errors import UserError

TABLE = """before
| what | median | it / ours |
|---|---|---|
| ours | 7 ms | |
| theirs | 21 ms | 3.0 |
after
| crop | time |
|---|---|
| 64^3 | 2 ms |
"""


def stand_in(name: str, code: str) -> driver.Benchmark:
    class StandIn(driver.Benchmark):
        def command(self, *, is_quick: bool = False) -> list[str]:
            return [sys.executable, "-c", code, str(is_quick)]

    return StandIn(name=name, what=name, minutes=0)


def test_every_command_of_the_folder_is_listed() -> None:
    files = Path(benchmarks.__file__).parent.glob("*.py")
    commands = {
        file.stem
        for file in files
        if '__name__ == "__main__"' in file.read_text(encoding="utf-8") and file.stem != "__main__"
    }
    listed = {benchmark.name for benchmark in driver.BENCHMARKS}
    assert commands == listed


@pytest.mark.parametrize("name", [benchmark.name for benchmark in driver.BENCHMARKS])
def test_help_is_shown_and_nothing_is_run(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")
    assert not stop.value.code
    assert capsys.readouterr().out.lower().startswith("usage")


def test_failing_benchmark_does_not_stop_the_others(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    chosen = [
        stand_in("breaks", "import sys; print('half'); sys.exit(3)"),
        stand_in("works", f"import sys; print({TABLE!r}); print('quick', sys.argv[1])"),
    ]
    assert driver.run(chosen, tmp_path / "new", is_quick=True) == 1
    text = (tmp_path / "new" / "benchmarks.md").read_text(encoding="utf-8")
    assert "half" in text
    assert "failed with exit code 3" in text
    assert "quick True" in text
    assert f"| processor | {describe_machine()['processor']} |" in text
    captured = capfd.readouterr()
    assert "quick True" in captured.out  # shown while it comes
    assert "failed: breaks" in captured.err


def test_cells_of_all_tables_are_kept() -> None:
    assert list(cells(TABLE)) == [
        (1, "ours", "median", "7 ms"),
        (1, "theirs", "median", "21 ms"),
        (1, "theirs", "it / ours", "3.0"),
        (2, "64^3", "time", "2 ms"),
    ]


def test_table_of_results_names_the_benchmark(tmp_path: Path) -> None:
    outcome = Outcome(
        name="one", command="python one", output=TABLE, exit_code=0, seconds=2, load=0.5
    )
    write_results(tmp_path, [outcome], {"processor": "some"})
    with (tmp_path / "benchmarks.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["benchmark"] for row in rows} == {"one"}
    assert [row["value"] for row in rows if row["column"] == "it / ours"] == ["3.0"]


def test_unknown_name_is_refused() -> None:
    with pytest.raises(UserError, match=r"--only: expected one of store_reading, .* got decode"):
        driver._chosen(["store_reading,decode"])


def test_names_can_be_given_with_commas_and_repeated() -> None:
    chosen = driver._chosen(["scaling,loader", "store_reading"])
    assert [benchmark.name for benchmark in chosen] == ["scaling", "loader", "store_reading"]
