"""What the report says of pre-training, in a line."""

from pathlib import Path

from nnunet_triad.benchmark.report.data import initialization_name
from nnunet_triad.tables import read_table, rows_of


def verdicts(report: Path) -> list[str]:
    """Return a line a comparison.

    Args:
        report: the CSV beside the page.

    Raises:
        UserError: it is no such table.
    """
    table = read_table(report, "the report's table (CSV)")
    return [_line(row) for _, row in rows_of(table) if row["table"] == "test"]


def _line(row: dict[str, str]) -> str:
    first, second = (
        initialization_name(row[name]) for name in ("initialization", "minus_initialization")
    )
    if not row["ours"]:
        return f"{first} minus {second}: no Dice that could be compared"
    bounds = f" ({float(row['low']):+.2f} to {float(row['high']):+.2f})" if row["low"] else ""
    verdict = f": {row['note']}" if row["note"] else ""
    return (
        f"{first} minus {second}: {float(row['ours']):+.2f}{bounds} points of Dice on "
        f"{row['num_cases']} cases{verdict}"
    )
