"""The one reader of tables (CSV), for files as people and their spreadsheets write them.

Cells are separated by commas, semicolons or tabs, in UTF-8, UTF-16 or Windows-1252, with or without
a byte order mark. Empty columns and lines at the end are left out. What could be taken for
something else is refused by its line: cells without a header, headers that occur twice, quotes left
open, and decimal commas between commas.
"""

import contextlib
import csv
import gc
import io
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nnunet_triad.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

_MAX_BYTES = 1 << 28  # twice a table of half a million samples
_MAX_ROWS = 1 << 22  # a gigabyte of memory
_DELIMITERS = ",;\t"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(inf|nan)", re.ASCII | re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_THOUSANDS = re.compile(r"[+-]?\d{1,3},\d{3}", re.ASCII)
# What a spreadsheet would compute; an apostrophe before it says that it is text.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_QUOTED = re.compile(r"'+[=+\-@\t\r]")
_FIRST = frozenset("'=+-@\t\r")


class TableError(UserError):
    """A file that is no table, or not one whose cells are beyond doubt."""


def read_table(path: Path, what: str, *, columns: Sequence[str] = ()) -> "pd.DataFrame":
    """Read a table of texts.

    Args:
        path: the file.
        what: is expected, for messages: "a manifest (CSV)".
        columns: names that are known; a header that differs in case or blanks gets this spelling.

    Returns:
        Cells as text without blanks around them, "" where a row ends early; the index holds the
        line in the file. Number columns: see `read_numbers`.

    Raises:
        TableError: it is missing, no regular file, too large, no text, or ambiguous.
    """
    expected = f"{path}: expected {what}"
    try:
        status = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        raise TableError(f"{expected}, got no file") from None
    if not stat.S_ISREG(status.st_mode):
        got = "a folder" if stat.S_ISDIR(status.st_mode) else "what is no regular file"
        raise TableError(f"{expected}, got {got}")
    if status.st_size > _MAX_BYTES:
        raise TableError(
            f"{expected} of at most {_MAX_BYTES >> 20} MiB, got {status.st_size >> 20}; divide it"
        )
    return parse_table(_decode(Path(path).read_bytes(), expected), expected, columns=columns)


def parse_table(text: str, expected: str, *, columns: Sequence[str] = ()) -> "pd.DataFrame":
    """Read a table from its text; see `read_table`.

    Args:
        text: the lines.
        expected: the beginning of messages, "NAME: expected WHAT".
        columns: as `read_table`.
    """
    import pandas as pd

    if "\0" in text:
        raise TableError(f"{expected}, got a binary file")
    if not text.strip():
        raise TableError(f"{expected}, got an empty file")
    delimiter, skipped, text = _find_delimiter(text)
    rows = _rows(text, delimiter, skipped, expected)
    _, header = next(rows, (0, []))
    if not header:
        raise TableError(f"{expected}, got a file without a header")
    has_quoted = "'" in text
    header = _clean(header, has_quoted)
    names, places = _names(header, columns, expected)
    lines: list[int] = []
    content: list[list[str]] = []
    with _uncollected():
        for line, row in rows:
            if len(row) != len(header) or len(names) != len(header):
                _check_width(row, header, f"{expected}, got in line {line}")
                row = [*row, *[""] * len(header)][: len(header)]
            if len(lines) == _MAX_ROWS:
                raise TableError(f"{expected} of at most {_MAX_ROWS} rows, got more; divide it")
            lines.append(line)
            content.append(row)
        cells = list(zip(*content, strict=True)) or [()] * len(header)
        table = pd.DataFrame(
            {
                name: _clean(cells[place], has_quoted)
                for name, place in zip(names, places, strict=True)
            },
            index=pd.Index(lines, dtype=int),
            dtype=object,
        )
    table.attrs["delimiter"] = delimiter
    return table


def rows_of(table: "pd.DataFrame") -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each row of a table of `read_table`: its line in the file, and its cells by name."""
    names = list(map(str, table))
    for line, *cells in table.itertuples(name=None):
        yield line, dict(zip(names, cells, strict=True))


def read_numbers(
    path: Path, table: "pd.DataFrame", columns: Sequence[str], *, empty: float | None = None
) -> NDArray[np.float64]:
    """Return columns of a table as numbers.

    A comma is the decimal mark where cells are separated by something else: between semicolons
    always, between tabs unless it could also separate thousands.

    Args:
        path: of the table, for messages.
        table: from `read_table`.
        columns: their names.
        empty: stands for an empty cell; None: there may be none.

    Returns:
        (rows, columns).

    Raises:
        TableError: a cell is no number.
    """
    found = np.empty((len(table), len(columns)))
    delimiter = table.attrs.get("delimiter", ",")
    for place, name in enumerate(columns):
        cells = table[name].tolist()
        with contextlib.suppress(ValueError):
            found[:, place] = _plain_numbers(cells)
            continue
        for row, cell in enumerate(cells):
            try:
                found[row, place] = _number(cell, delimiter, empty)
            except ValueError:
                raise TableError(
                    f"{path}, line {table.index[row]}: expected a number in the column {name}, got "
                    f"{cell!r:.80}"
                ) from None
    return found


def quote_formulas(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return a table whose texts no spreadsheet takes for formulas; `read_table` undoes it."""
    import pandas as pd

    texts = [name for name in table if not pd.api.types.is_numeric_dtype(table[name])]
    quoted = {str(name): [quote_formula(cell) for cell in table[name]] for name in texts}
    return table.assign(**quoted)  # type: ignore[arg-type]  # lists of cells are taken


def quote_formula(cell: object) -> object:
    """Return a cell with an apostrophe before it where a spreadsheet would compute it."""
    return f"'{cell}" if isinstance(cell, str) and _is_formula(cell) else cell


def _is_formula(cell: str) -> bool:
    is_suspect = cell[:1] in _FIRST and _FORMULA.match(cell) is not None
    return is_suspect and not _NUMBER.fullmatch(cell)


def _plain_numbers(cells: list[str]) -> list[float]:
    if any("_" in cell for cell in cells):  # Python takes 1_000 for a number
        raise ValueError
    return list(map(float, cells))


def _number(cell: str, delimiter: str, empty: float | None) -> float:
    if not cell and empty is not None:
        return empty
    with contextlib.suppress(ValueError):
        return _plain_numbers([cell])[0]
    is_clear = delimiter == ";" or (delimiter == "\t" and not _THOUSANDS.fullmatch(cell))
    if is_clear and _DECIMAL_COMMA.fullmatch(cell):
        return float(cell.replace(",", "."))
    raise ValueError(cell)


def _decode(content: bytes, expected: str) -> str:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):  # Excel's "Unicode text"
        try:
            return content.decode("utf-16")
        except UnicodeDecodeError:
            raise TableError(
                f"{expected}, got the mark of UTF-16 before other bytes; save it again as CSV UTF-8"
            ) from None
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    return content.decode("latin-1")


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Let no garbage be looked for among a hundred thousand rows: a third of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _find_delimiter(text: str) -> tuple[str, int, str]:
    """Return the delimiter, the number of lines before the header, and the text from there."""
    told = re.match(r"sep=([,;\t])\r?\n", text, re.IGNORECASE)  # as Excel writes
    if told:
        return told.group(1), 1, text[told.end() :]
    stripped = text.lstrip("\r\n")
    skipped = text[: len(text) - len(stripped)].count("\n")
    first = stripped.split("\n", 1)[0]
    unquoted = re.sub(r'"[^"]*"', "", first)
    return max(_DELIMITERS, key=unquoted.count), skipped, stripped


def _rows(
    text: str, delimiter: str, skipped: int, expected: str
) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not empty with the line that it ends in."""
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    try:
        for row in reader:
            if row and (row[0].strip() or any(map(str.strip, row))):
                yield reader.line_num + skipped, row
    except csv.Error as error:
        where = reader.line_num + skipped
        raise TableError(f"{expected}, got in line {where} what is none: {error}") from None


def _clean(cells: Sequence[str], has_quoted: bool) -> list[str]:
    """Take away blanks, and the apostrophes of `quote_formula`."""
    stripped = list(map(str.strip, cells))
    if not has_quoted:
        return stripped
    return [cell[1:] if _QUOTED.match(cell) else cell for cell in stripped]


def _names(header: list[str], columns: Sequence[str], expected: str) -> tuple[list[str], list[int]]:
    """Return the names, and the place of each in a row; what has no name is left out."""
    known = {name.lower(): name for name in columns}
    names = [known.get(" ".join(name.split()).lower(), name) for name in header]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise TableError(f"{expected} with each column once, got {', '.join(twice)} more than once")
    places = [place for place, name in enumerate(names) if name]
    return [names[place] for place in places], places


def _check_width(row: list[str], header: list[str], where: str) -> None:
    """Refuse a cell that belongs to no column; a first column without a name counts rows."""
    surplus = [cell for cell in row[len(header) :] if cell.strip()]
    named = zip(row[1:], header[1:], strict=False)
    surplus += [cell for cell, name in named if cell.strip() and not name]
    if surplus:
        raise TableError(
            f"{where} the cell {surplus[0]!r:.80} without a column; put into quotes what holds "
            "the separator"
        )
