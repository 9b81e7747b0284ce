"""The table of features: Parquet, CSV or NPZ, with a JSON beside it that says what it is.

A row is one region of one image. Columns: case, subject, region (empty: the whole image; else a
label), content (a hash of the files it follows from), what needs no network (`first_order`), and
level0_0000 ...: the mean of each channel of a level over the region, NaN where the encoder's
grid has no voxel of it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nnunet_triad.errors import UserError
from nnunet_triad.files import write_atomically, write_json, write_table
from nnunet_triad.numpy_file import read_npz
from nnunet_triad.tables import read_numbers, read_table
from nnunet_triad.texts import read_json

SUFFIXES = (".parquet", ".csv", ".npz")
TEXTS = ("case", "subject", "region", "content")
_FEATURE = re.compile(r"level(\d+)_\d+")


@dataclass(frozen=True, kw_only=True)
class FeatureTable:
    """Rows of features with what was written of them.

    Attributes:
        rows: the columns of TEXTS, and numbers.
        about: the JSON beside the file.
    """

    rows: pd.DataFrame
    about: Mapping[str, Any]

    @property
    def features(self) -> list[str]:
        """The columns that the encoder gave."""
        return [name for name in map(str, self.rows) if _FEATURE.fullmatch(name)]

    @property
    def first_order(self) -> list[str]:
        """The columns that need no encoder."""
        others = {*TEXTS, *self.features}
        return [name for name in map(str, self.rows) if name not in others]


def feature_names(channels: Mapping[int, int]) -> list[str]:
    """Return the names of columns, for the number of channels of each level."""
    return [
        f"level{level}_{channel:04d}"
        for level, number in channels.items()
        for channel in range(number)
    ]


def about_path(path: Path) -> Path:
    """Return where the JSON of a table lies."""
    return path.with_name(f"{path.name}.json")


def check_format(path: Path) -> None:
    """Refuse a table's name whose ending is of no format, or of one that needs a package.

    Raises:
        UserError: it is.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"output: expected a name that ends in {' or '.join(SUFFIXES)}, got {path}")
    if path.suffix.lower() == ".parquet" and find_spec("pyarrow") is None:
        raise UserError(
            f"{path}: expected the package pyarrow for Parquet, got none; pip install pyarrow, or "
            "name a .csv or .npz file"
        )


def write_features(path: Path, table: FeatureTable) -> None:
    """Write a table and its JSON, each atomically, the JSON first: it alone claims nothing."""
    write_json(about_path(path), table.about)
    suffix = path.suffix.lower()
    if suffix == ".csv":
        write_table(path, table.rows)
        return
    with write_atomically(path) as temporary:
        if suffix == ".parquet":
            rows = table.rows.copy(deep=False)
            rows.attrs.update(table.about)  # pandas writes them into the schema
            rows.to_parquet(temporary, index=False)
        else:
            np.savez_compressed(temporary, **_arrays(table))  # type: ignore[arg-type]  # no flag


def read_features(path: Path) -> FeatureTable:
    """Read a table that `write_features` wrote.

    Raises:
        UserError: it is missing, damaged, or another program's.
    """
    check_format(path)
    about = _read_about(path)
    try:
        names = [str(name) for name in about["columns"]]
        rows = _READERS[path.suffix.lower()](path, names)
        return FeatureTable(rows=rows[[*TEXTS, *names]], about=about)
    except UserError:
        raise
    except Exception as error:  # whatever a reader of a damaged file raises
        raise UserError(
            f"{path}: expected a table of triad-features, got what is none "
            f"({type(error).__name__}); make it again"
        ) from error


def check_unclaimed(path: Path) -> None:
    """Refuse to write where a file is that is no table of this program.

    Raises:
        UserError: there is one.
    """
    if path.is_dir() or (path.exists() and not about_path(path).exists()):
        raise UserError(
            f"{path}: expected no file, or a table of triad-features with {about_path(path).name} "
            "beside it, got another file; choose another -o"
        )


def _arrays(table: FeatureTable) -> dict[str, NDArray[Any]]:
    numbers = {"first_order": table.first_order, "features": table.features}
    arrays: dict[str, NDArray[Any]] = {name: table.rows[name].to_numpy(dtype=str) for name in TEXTS}
    for name, columns in numbers.items():
        dtype = np.float32 if name == "features" else np.float64
        arrays[name] = table.rows[columns].to_numpy(dtype=dtype)
        arrays[f"{name}_names"] = np.array(columns, dtype=str)
    return {**arrays, "about": np.array(json.dumps(table.about))}


def _read_about(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path}: expected a table of triad-features, got no file")
    place = about_path(path)
    try:
        about = read_json(place)
        if about["program"] != "triad-features":
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{place}: expected the JSON that triad-features wrote beside {path.name}, got none; "
            "copy it there, or make the table again"
        ) from None
    return dict(about)


def _read_csv(path: Path, names: Sequence[str]) -> pd.DataFrame:
    table = read_table(path, "a table of triad-features", columns=TEXTS)
    numbers = read_numbers(path, table, names, empty=np.nan)
    texts = table[list(TEXTS)].reset_index(drop=True)
    return pd.concat([texts, pd.DataFrame(_typed(numbers, names))], axis=1)


def _read_parquet(path: Path, names: Sequence[str]) -> pd.DataFrame:
    rows = pd.read_parquet(path, columns=[*TEXTS, *names])
    return rows.astype(dict.fromkeys(TEXTS, object))


def _read_npz(path: Path, names: Sequence[str]) -> pd.DataFrame:
    numbers = np.concatenate(read_npz(path, ("first_order", "features")), axis=1)
    with np.load(path, allow_pickle=False) as content:
        texts = {name: content[name].astype(object) for name in TEXTS}
    return pd.DataFrame({**texts, **_typed(numbers, names)})


_READERS = {".csv": _read_csv, ".parquet": _read_parquet, ".npz": _read_npz}


def _typed(numbers: NDArray[np.floating], names: Sequence[str]) -> dict[str, NDArray[np.floating]]:
    return {
        name: column.astype(np.float32 if _FEATURE.fullmatch(name) else np.float64)
        for name, column in zip(names, numbers.T, strict=True)
    }
